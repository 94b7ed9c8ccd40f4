"""Rows of a file, of which little stays in memory.

Letters: N rows.
"""

import math
import os
from io import FileIO
from typing import Optional, Sequence, Tuple

import numpy as np

MAPPED_BYTES = 384 * 2**20
"""of an array that is read through a memory map; 7,000 images of 49 x 512 float16 are fewer"""


class StoredRows:
    """The rows of an array that lies contiguous in a file.

    A small array is read through a memory map, which is fastest. But every page of a map that was read
    counts as the process's memory, though the system may drop it at any time, so that of a large array
    the rows are copied from the file: 4 in place of 3 microseconds for 50 kB.

    It can be pickled and forked freely: no open file travels by pickle, and processes that share one by
    fork share no place in it.

    Args:
        path: the file.
        dtype: of the array.
        offset: where in the file it begins, in bytes.
        shape: (N, ...).
    """

    def __init__(self, path: str, dtype: np.dtype, offset: int, shape: Tuple[int, ...]):
        self._path, self._dtype, self._offset, self._shape = path, dtype, offset, shape
        self._row_bytes = dtype.itemsize * math.prod(shape[1:])
        small = shape[0] * self._row_bytes <= MAPPED_BYTES
        self._is_mapped = small or not hasattr(os, "preadv")
        self._map: Optional[np.memmap] = None
        self._file: Optional[FileIO] = None

    def __getstate__(self):
        return {**self.__dict__, "_map": None, "_file": None}

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """A copy of these rows: (len(rows), ...).

        Raises:
            IndexError: there is no such row.
            OSError: the file ends before them.
        """
        rows = np.asarray(rows, dtype=np.int64)
        outside = rows[(rows < 0) | (rows >= self._shape[0])]
        if outside.size:
            raise IndexError(f"row {outside[0]} of {self._path}, which has {self._shape[0]} rows")
        if self._is_mapped:
            return self._mapped()[rows]
        found = np.empty((len(rows), *self._shape[1:]), self._dtype)
        for place, row in zip(found, rows.tolist()):
            self._copy(row, place)
        return found

    def block(self, start: int, stop: int) -> np.ndarray:
        """The rows from `start` to before `stop`, not to be written to.

        Raises:
            OSError: the file ends before them.
        """
        if self._is_mapped:
            return self._mapped()[start:stop]
        found = np.empty((stop - start, *self._shape[1:]), self._dtype)
        self._copy(start, found)
        return found

    def _mapped(self) -> np.memmap:
        if self._map is None:
            self._map = np.memmap(self._path, self._dtype, "r", self._offset, self._shape)
        return self._map

    def _copy(self, start: int, target: np.ndarray) -> None:
        """Fill an array with what is in the file from a row on."""
        if self._file is None:
            self._file = FileIO(self._path)
        begin = self._offset + start * self._row_bytes
        there = os.preadv(self._file.fileno(), [target.view(np.uint8)], begin)
        if there < target.nbytes:
            raise OSError(
                f"{self._path} has only {there} of the {target.nbytes} bytes from byte {begin} on: it "
                "was cut short after it was opened. Write it again."
            )
