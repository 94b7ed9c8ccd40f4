"""HDF5 data sets that lie in one piece, so that they are read and written through a memory map.

No HDF5 call happens while rows are read or written, no open handle crosses a fork or a pickle, and a
writer that is killed cannot damage the file's structure.
"""

from typing import Tuple

import h5py
import numpy as np


def create_contiguous(file: h5py.File, name: str, shape: Tuple[int, ...], dtype: str) -> None:
    """Add a data set of zeros that has its place in the file from the start."""
    creation = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    creation.set_layout(h5py.h5d.CONTIGUOUS)
    creation.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    creation.set_obj_track_times(False)  # the same rows make the same file
    h5py.h5d.create(
        file.id,
        name.encode(),
        h5py.h5t.py_create(np.dtype(dtype)),
        h5py.h5s.create_simple(shape),
        creation,
    )
