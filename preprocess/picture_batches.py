"""Read pictures in batches, and tell a file that is no picture from a machine that cannot read it."""

import errno
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

import numpy as np
from torch.utils.data import Dataset

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from caf_dkd_plugin.data.pictures import load_picture

OF_THE_MACHINE = {
    *(errno.EIO, errno.ENOMEM, errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.EBUSY),
    *(errno.ENODEV, errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ECONNRESET),
}
"""numbers of errors that say nothing of the file"""


class Batch(NamedTuple):
    """Neighbouring rows of the store, n of them."""

    rows: List[int]
    pixels: np.ndarray
    """(n, S, S, 3) uint8; black where the file is broken"""
    broken: Dict[int, str]
    """the rows whose file is no readable picture, and why"""
    failure: Optional[str]
    """what has kept the machine from reading a file, which says nothing of the picture"""


class PictureBatches(Dataset):
    """Reads the pictures of given rows, a batch at a time.

    Args:
        folder: where the pictures are.
        ids: (N,) paths below the folder.
        batches: the rows of each batch.
        image_size: S, the side of the square that every picture becomes.
    """

    def __init__(self, folder: Path, ids: List[str], batches: List[List[int]], image_size: int):
        self.folder = folder
        self.ids = ids
        self.batches = batches
        self.image_size = image_size

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Batch:
        rows = self.batches[index]
        pixels = np.zeros((len(rows), self.image_size, self.image_size, 3), dtype=np.uint8)
        broken, failure = {}, None
        for place, row in enumerate(rows):
            try:
                pixels[place] = load_picture(self.folder / self.ids[row], self.image_size)
            except Exception as error:  # Pillow's readers raise whatever a bad file leads to
                reason = str(error) or type(error).__name__
                if isinstance(error, MemoryError) or getattr(error, "errno", 0) in OF_THE_MACHINE:
                    failure = f"{self.folder / self.ids[row]} could not be read: {reason}"
                broken[row] = reason
        return Batch(rows, pixels, broken, failure)
