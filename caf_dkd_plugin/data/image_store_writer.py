"""Write an image store; :mod:`.image_store` describes it and reads it.

Letters: N images, R regions of an image, D feature size, H and W pixels.
"""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import List, Sequence, Tuple

import h5py
import numpy as np

from .contiguous_hdf5 import create_contiguous
from .image_store import (
    FEATURES,
    FORMAT_NAME,
    FORMAT_VERSION,
    Description,
    Header,
    ImageStoreError,
    PathLike,
    check_ids,
    kind_of,
    partial_path,
    sha256,
)
from .unfinished_file import UnfinishedFile, files_of

ROWS_PER_BLOCK = 64


def files_of_store(path: PathLike) -> List[Path]:
    """The store at `path`, and what may lie beside it while it is written."""
    return [*files_of(path), *files_of(_smaller_path(path))]


def _smaller_path(path: PathLike) -> Path:
    """Where a store gets rid of the rows that were never written."""
    return Path(f"{path}.compact")


class ImageStoreWriter:
    """Writes a store, row by row in any order; killed and opened again, it goes on where it was.

    The rows go to ``PATH.partial``, which :meth:`finish` renames to ``PATH``, so that an unfinished
    store is never found under the finished one's name.

    Args:
        path: the finished store's path.
        ids: N unique image ids, in the order of the rows.
        row_shape: (R, D) of a row of features, or (H, W, 3) of a row of pixels.
        dtype: "float16" or "float32" for features, "uint8" for pixels.
        description: where the rows come from.
        overwrite: start afresh where an unfinished store was begun with other arguments.

    Raises:
        ImageStoreError: bad arguments, or an unfinished store at ``PATH.partial`` that was begun
            with other arguments.
        OSError: it cannot be written, or the disk has not the room for all of it.
        OtherWriterError: another process is writing it.
    """

    def __init__(
        self,
        path: PathLike,
        ids: Sequence[str],
        row_shape: Tuple[int, ...],
        dtype: str,
        description: Description,
        overwrite: bool = False,
    ):
        self.path = Path(path)
        self._kind = kind_of(row_shape, dtype)
        ids = list(ids)
        check_ids(ids, self.path)
        self._file = UnfinishedFile(self.path)
        beginning = ids, (len(ids), *row_shape), dtype, description
        if not self._file.goes_on(lambda: self._check_same_beginning(*beginning), overwrite):
            self._create(*beginning)
        partial = self._file.path
        with h5py.File(partial, "r") as file:
            rows, done = file[self._kind], file["rows_done"]
            offsets = rows.id.get_offset(), done.id.get_offset()
        self._rows = np.memmap(partial, dtype, "r+", offsets[0], (len(ids), *row_shape))
        self._done = np.memmap(partial, "uint8", "r+", offsets[1], (len(ids),))

    def _create(self, ids, shape, dtype, description) -> None:
        with self._file.begin() as file:
            file.attrs["format"] = FORMAT_NAME
            file.attrs["version"] = FORMAT_VERSION
            file.attrs["rows_per_block"] = ROWS_PER_BLOCK
            file.attrs["description"] = json.dumps(asdict(description))
            file.create_dataset("ids", data=ids, dtype=h5py.string_dtype("utf-8"))
            blocks = -(-len(ids) // ROWS_PER_BLOCK)
            layout = {self._kind: (shape, dtype)}
            layout["rows_done"] = ((len(ids),), "uint8")
            layout["block_sha256"] = ((blocks, 32), "uint8")
            for name, (size, kind) in layout.items():
                create_contiguous(file, name, size, kind)

    def _check_same_beginning(self, ids, shape, dtype, description) -> None:
        partial = self._file.path
        remedy = f"Delete {partial} to start afresh, or write to another file."
        try:
            found = Header.read(partial)
        except ImageStoreError as error:
            reason = error.__cause__ or error
            raise ImageStoreError(
                f"{partial} cannot be gone on with: {reason}. {remedy}"
            ) from error
        differences = []
        if found.shape != shape or found.dtype != dtype:
            differences.append(f"shape {found.shape} {found.dtype} there, {shape} {dtype} now")
        if found.ids != ids:
            row = _first_difference(found.ids, ids)
            differences.append(f"the list of images differs, first at row {row}")
        differences += description.differences(asdict(found.description), "now", "there")
        if differences:
            raise ImageStoreError(
                f"{partial} was begun with other settings: {'; '.join(differences)}. {remedy}"
            )

    @property
    def rows_done(self) -> np.ndarray:
        """(N,) bool: which rows have been written."""
        return np.asarray(self._done, dtype=bool)

    def write(self, rows: Sequence[int], values: np.ndarray) -> None:
        """Write `values`, (len(rows), *row_shape), at the rows with these numbers."""
        rows = np.asarray(rows, dtype=np.int64)
        if values.shape != (len(rows), *self._rows.shape[1:]):
            raise ImageStoreError(
                f"{self.path}: {len(rows)} rows of shape {self._rows.shape[1:]} are expected, "
                f"not an array of shape {values.shape}"
            )
        if self._kind == FEATURES:
            _check_finite(values, self._rows.dtype, rows, self.path)
        self._rows[rows] = values
        self._done[rows] = 1

    def finish(self, skip_missing: bool = False) -> int:
        """Hash the rows, mark the store as complete and give it its name.

        Args:
            skip_missing: leave out the rows that were never written, instead of refusing.

        Returns:
            the number of rows in the finished store.

        Raises:
            ImageStoreError: rows are missing.
            OSError: the disk has not the room for a second store, without the missing rows.
        """
        done = self.rows_done
        if not done.all():
            if not skip_missing:
                raise ImageStoreError(
                    f"{self.path}: {int((~done).sum())} of {len(done)} rows were not written; "
                    "the store stays unfinished"
                )
            return self._finish_without_missing(np.flatnonzero(done))
        self._rows.flush()
        self._done.flush()
        count = len(self._rows)
        hashes = _block_hashes(self._rows, ROWS_PER_BLOCK)
        del self._rows, self._done  # no memory map while HDF5 writes
        self._file.finish(block_sha256=hashes)
        return count

    def _finish_without_missing(self, kept: np.ndarray) -> int:
        """Finish another store, of the written rows only, and give it this one's name.

        Until it has the name this one stays as it is: killed and opened again, it goes on.
        """
        if not len(kept):
            raise ImageStoreError(f"{self.path}: not one row was written")
        header = Header.read(self._file.path)
        smaller = _smaller_path(self.path)
        partial_path(smaller).unlink(missing_ok=True)
        target = ImageStoreWriter(
            smaller,
            [header.ids[row] for row in kept],
            header.shape[1:],
            header.dtype,
            header.description,
        )
        for start in range(0, len(kept), ROWS_PER_BLOCK):
            block = kept[start : start + ROWS_PER_BLOCK]
            target.write(np.arange(start, start + len(block)), self._rows[block])
        count = target.finish()
        del self._rows, self._done
        os.replace(smaller, self.path)
        self._file.discard()
        return count


def _check_finite(values: np.ndarray, dtype: np.dtype, rows: np.ndarray, path: PathLike) -> None:
    with np.errstate(over="ignore"):
        finite = np.isfinite(values.astype(dtype)).reshape(len(rows), -1).all(axis=1)
    if not finite.all():
        raise ImageStoreError(
            f"{path}: row {rows[np.flatnonzero(~finite)[0]]} has NaN, infinite values or values "
            f"too large for {dtype}"
        )


def _first_difference(one: Sequence[str], other: Sequence[str]) -> int:
    for row, (a, b) in enumerate(zip(one, other)):
        if a != b:
            return row
    return min(len(one), len(other))


def _block_hashes(rows: np.ndarray, rows_per_block: int) -> np.ndarray:
    digests = [
        np.frombuffer(sha256(rows[start : start + rows_per_block]), dtype=np.uint8)
        for start in range(0, len(rows), rows_per_block)
    ]
    return np.stack(digests)
