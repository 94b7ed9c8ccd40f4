"""The image store: one HDF5 file of image features (or pixels), addressed by image id.

This is the only module that knows the layout. It knows numpy and h5py, neither torch nor fairseq.

Letters: N images, R regions of an image, D feature size, H and W pixels.

======================  =======================  ==========================================================
in the file             shape, type              meaning
======================  =======================  ==========================================================
``ids``                 (N,) UTF-8 strings       unique image ids: the image files' names
``features``            (N, R, D) float16/32     R = 1 for a global vector, 49 for a 7 x 7 grid; *or*
``images``              (N, H, W, 3) uint8       pixels, for a backbone that runs inside the model
``rows_done``           (N,) uint8               1 once the row has been written
``block_sha256``        (blocks, 32) uint8       SHA-256 of each block of ``rows_per_block`` rows
attributes              JSON and scalars         ``format``, ``version``, ``complete``, ``rows_per_block``,
                                                 ``description`` (where the rows come from)
======================  =======================  ==========================================================

The rows lie contiguous and preallocated (see :mod:`.contiguous_hdf5`).
"""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple, Union

import h5py
import numpy as np

from .contiguous_hdf5 import create_contiguous
from .image_ids import in_short
from .one_writer import OneWriter

FORMAT_NAME = "caf-dkd image store"
FORMAT_VERSION = 1
ROWS_PER_BLOCK = 64
FEATURES = "features"
IMAGES = "images"

PathLike = Union[str, "os.PathLike[str]"]


class ImageStoreError(ValueError):
    """The file is not a usable image store; the message says what is wrong, where and what to do."""


@dataclass(frozen=True)
class Description:
    """Where the rows of a store come from. Two stores mix only when their descriptions agree."""

    backbone: str
    """name of the network (torchvision's), or "" when unknown or when the rows are pixels"""
    layer: str
    """the layer read: "grid" (R = H' x W' positions), "global" (R = 1), or "" for pixels"""
    weights: str
    """"imagenet", "none" or the file's name"""
    weights_sha256: str
    """SHA-256 over the network's state dict, as hexadecimal digits, or "" when unknown"""
    preprocessing: str
    """resizing and normalisation, in words that a reader can follow"""

    def differences(self, other: Mapping[str, str], mine: str, others: str) -> List[str]:
        """Each entry that is otherwise in `other`, a description as a dictionary.

        Args:
            other: what to compare with.
            mine: where or when this description holds, in a word or two, such as "now".
            others: the same of the other one, such as "there".

        Returns:
            lines such as "layer 'grid' there, 'global' now".
        """
        return [
            f"{key} {other.get(key)!r} {others}, {value!r} {mine}"
            for key, value in asdict(self).items()
            if other.get(key) != value
        ]


def partial_path(path: PathLike) -> Path:
    """Where the store at `path` lies while it is being written."""
    return Path(f"{path}.partial")


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
        self._partial = partial_path(path)
        self._kind = _kind_of(row_shape, dtype)
        self._lock = OneWriter(self.path)
        ids = list(ids)
        _check_ids(ids, self.path)
        shape = (len(ids), *row_shape)
        if self._partial.exists():
            try:
                self._check_same_beginning(ids, shape, dtype, description)
            except ImageStoreError:
                if not overwrite:
                    raise
                self._partial.unlink()
        if not self._partial.exists():
            self._create(ids, shape, dtype, description)
        with h5py.File(self._partial, "r") as file:
            rows, done = file[self._kind], file["rows_done"]
            offsets = rows.id.get_offset(), done.id.get_offset()
        self._rows = np.memmap(self._partial, dtype, "r+", offsets[0], shape)
        self._done = np.memmap(self._partial, "uint8", "r+", offsets[1], (len(ids),))

    def _create(self, ids, shape, dtype, description) -> None:
        # Built under another name: a half-made header must not be taken for a store to go on with.
        embryo = Path(f"{self._partial}.new")
        with h5py.File(embryo, "w") as file:
            file.attrs["format"] = FORMAT_NAME
            file.attrs["version"] = FORMAT_VERSION
            file.attrs["complete"] = False
            file.attrs["rows_per_block"] = ROWS_PER_BLOCK
            file.attrs["description"] = json.dumps(asdict(description))
            file.create_dataset("ids", data=ids, dtype=h5py.string_dtype("utf-8"))
            blocks = -(-len(ids) // ROWS_PER_BLOCK)
            layout = {self._kind: (shape, dtype)}
            layout["rows_done"] = ((len(ids),), "uint8")
            layout["block_sha256"] = ((blocks, 32), "uint8")
            for name, (size, kind) in layout.items():
                create_contiguous(file, name, size, kind)
        os.replace(embryo, self._partial)

    def _check_same_beginning(self, ids, shape, dtype, description) -> None:
        remedy = f"Delete {self._partial} to start afresh, or write to another file."
        found = _Header.read(self._partial)
        differences = []
        if found.shape != shape or found.dtype != dtype:
            differences.append(f"shape {found.shape} {found.dtype} there, {shape} {dtype} now")
        if found.ids != ids:
            row = _first_difference(found.ids, ids)
            differences.append(f"the list of images differs, first at row {row}")
        differences += description.differences(asdict(found.description), "now", "there")
        if differences:
            raise ImageStoreError(
                f"{self._partial} was begun with other settings: {'; '.join(differences)}. {remedy}"
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
        """
        done = self.rows_done
        if not done.all():
            if not skip_missing:
                raise ImageStoreError(
                    f"{self.path}: {int((~done).sum())} of {len(done)} rows were not written; "
                    "the store stays unfinished"
                )
            self._compact(done)
        self._rows.flush()
        self._done.flush()
        count = len(self._rows)
        hashes = _block_hashes(self._rows, ROWS_PER_BLOCK)
        del self._rows, self._done  # no memory map while HDF5 writes
        with h5py.File(self._partial, "r+") as file:
            file["block_sha256"][...] = hashes
            file.attrs["complete"] = True
            file.flush()
        os.replace(self._partial, self.path)
        self._lock.release()
        return count

    def _compact(self, done: np.ndarray) -> None:
        """Continue with a store of the written rows only."""
        header = _Header.read(self._partial)
        kept = np.flatnonzero(done)
        if not len(kept):
            raise ImageStoreError(f"{self.path}: not one row was written")
        smaller = Path(f"{self.path}.compact")
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
        self._rows, self._done = target._rows, target._done
        os.replace(partial_path(smaller), self._partial)
        target._lock.release()


class ImageStore:
    """A finished store, opened for reading.

    It can be pickled and forked freely: no open file travels; every process maps the file by itself.

    Args:
        path: the HDF5 file.

    Raises:
        ImageStoreError: missing, unfinished, damaged or foreign file.
    """

    def __init__(self, path: PathLike):
        self.path = str(path)
        header = _Header.read(Path(path))
        if not header.complete:
            raise ImageStoreError(
                f"{path} is unfinished ({header.rows_done} of {len(header.ids)} rows). Run the "
                "command that began it again: it goes on where it stopped."
            )
        self.kind = header.kind
        """"features" or "images" (pixels)"""
        self.shape = header.shape
        """(N, R, D), or (N, H, W, 3)"""
        self.dtype = np.dtype(header.dtype)
        self.description = header.description
        self.ids: List[str] = header.ids
        self._offset = header.offset
        self._rows_per_block = header.rows_per_block
        self._row_of: Dict[str, int] = {name: row for row, name in enumerate(self.ids)}
        self._map: Optional[np.memmap] = None

    def __len__(self) -> int:
        return self.shape[0]

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._row_of

    def __getstate__(self):
        return {**self.__dict__, "_map": None}

    def row_of(self, image_id: str) -> Optional[int]:
        """The row of the image with this id, or None where the store has no such image."""
        return self._row_of.get(image_id)

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """A copy of these rows: (len(rows), R, D), or (len(rows), H, W, 3) of pixels."""
        return self._mapped()[np.asarray(rows, dtype=np.int64)]

    def _mapped(self) -> np.memmap:
        if self._map is None:
            self._map = np.memmap(self.path, self.dtype, "r", self._offset, self.shape)
        return self._map

    def differences(
        self,
        ids: Sequence[str],
        row_shape: Tuple[int, ...],
        dtype: str,
        description: Description,
    ) -> List[str]:
        """What this store has otherwise than one with these arguments would, in words."""
        found = []
        if self.shape[1:] != row_shape or self.dtype != dtype:
            found.append(f"rows {self.shape[1:]} {self.dtype} there, {row_shape} {dtype} now")
        found += description.differences(asdict(self.description), "now", "there")
        lacking = [name for name in ids if name not in self]
        surplus = sorted(set(self.ids) - set(ids))
        for what, names in (("not in it", lacking), ("in it but no longer wanted", surplus)):
            if names:
                found.append(f"{len(names)} images {what}: {in_short(names)}")
        return found

    def content_sha256(self) -> str:
        """Of all ids and rows, by the hashes of the blocks that the file has; hexadecimal digits."""
        digest = hashlib.sha256("\n".join(self.ids).encode())
        with h5py.File(self.path, "r") as file:
            digest.update(file["block_sha256"][...].tobytes())
        return digest.hexdigest()

    def problems(self) -> List[str]:
        """Read every row and report NaN or infinite values and blocks whose hash does not fit."""
        with h5py.File(self.path, "r") as file:
            recorded = file["block_sha256"][...]
        found = []
        for block, start in enumerate(range(0, len(self), self._rows_per_block)):
            rows = self._mapped()[start : start + self._rows_per_block]
            last = start + len(rows) - 1
            if _sha256(rows) != recorded[block].tobytes():
                found.append(
                    f"{self.path}: rows {start} to {last} ({self.ids[start]} to {self.ids[last]}) "
                    "have changed since they were written: the SHA-256 differs. Extract them again."
                )
            if self.kind == FEATURES:
                finite = np.isfinite(rows).reshape(len(rows), -1).all(axis=1)
                found += [
                    f"{self.path}: row {start + row} ({self.ids[start + row]}) has NaN or infinite values"
                    for row in np.flatnonzero(~finite)
                ]
        return found


@dataclass(frozen=True)
class _Header:
    """Everything but the rows, read and checked in one go."""

    kind: str
    shape: Tuple[int, ...]
    dtype: str
    ids: List[str]
    description: Description
    complete: bool
    rows_done: int
    rows_per_block: int
    offset: int

    @classmethod
    def read(cls, path: Path) -> "_Header":
        if not path.is_file():
            raise ImageStoreError(_explain_absence(path))
        try:
            with h5py.File(path, "r") as file:
                return cls._from_file(path, file)
        except (KeyError, TypeError) as error:
            raise ImageStoreError(
                f"{path} is damaged: its header lacks something or has too much ({error}); write it "
                "again with preprocess/extract_features.py"
            ) from error
        except OSError as error:
            raise ImageStoreError(
                f"{path} is not a readable HDF5 file ({error}). It may be cut short or of another "
                "format; write it again with preprocess/extract_features.py."
            ) from error

    @classmethod
    def _from_file(cls, path: Path, file: h5py.File) -> "_Header":
        if file.attrs.get("format") != FORMAT_NAME:
            raise ImageStoreError(
                f"{path} is an HDF5 file but not an image store (it has {sorted(file) or 'nothing'}). "
                "Make one with preprocess/extract_features.py."
            )
        version = int(file.attrs["version"])
        if version != FORMAT_VERSION:
            raise ImageStoreError(
                f"{path} has format version {version}, this program reads version {FORMAT_VERSION}. "
                "Use the version of caf-dkd that wrote it, or extract the features again."
            )
        missing = {"ids", "rows_done", "block_sha256"} - set(file)
        kinds = [kind for kind in (FEATURES, IMAGES) if kind in file]
        if missing or len(kinds) != 1:
            raise ImageStoreError(
                f"{path} is damaged: it should have ids, rows_done, block_sha256 and one of "
                f"features and images, but it has {sorted(file)}"
            )
        rows = file[kinds[0]]
        offset = rows.id.get_offset()
        if rows.size and offset is None:
            raise ImageStoreError(
                f"{path}: `{kinds[0]}` is not stored contiguously (chunks: {rows.chunks}), so it "
                "cannot be memory-mapped. Write the store with preprocess/extract_features.py."
            )
        _kind_of(rows.shape[1:], rows.dtype.name, path)
        ids = [name.decode("utf-8") for name in file["ids"][...]]
        if len(ids) != rows.shape[0]:
            raise ImageStoreError(
                f"{path} has {len(ids)} ids but {rows.shape[0]} rows of {kinds[0]}; extract it again"
            )
        _check_ids(ids, path)
        return cls(
            kind=kinds[0],
            shape=rows.shape,
            dtype=rows.dtype.name,
            ids=ids,
            description=Description(**json.loads(file.attrs["description"])),
            complete=bool(file.attrs["complete"]),
            rows_done=int((file["rows_done"][...] != 0).sum()),
            rows_per_block=int(file.attrs["rows_per_block"]),
            offset=offset or 0,
        )


def _explain_absence(path: Path) -> str:
    if path.is_dir():
        return f"{path} is a folder; an image store is a file"
    if partial_path(path).exists():
        return (
            f"{path} does not exist, but {partial_path(path)} does: its extraction was interrupted. "
            "Run the same command again: it goes on where it stopped."
        )
    return f"{path} does not exist. Make it with preprocess/extract_features.py."


def _kind_of(row_shape: Tuple[int, ...], dtype: str, path: PathLike = "image store") -> str:
    if len(row_shape) == 2 and dtype in ("float16", "float32") and min(row_shape) > 0:
        return FEATURES
    if len(row_shape) == 3 and row_shape[2] == 3 and dtype == "uint8" and min(row_shape) > 0:
        return IMAGES
    raise ImageStoreError(
        f"{path}: a row is (R, D) of float16 or float32, or (H, W, 3) of "
        f"uint8, not {tuple(row_shape)} of {dtype}"
    )


def _check_ids(ids: Sequence[str], path: PathLike) -> None:
    if not ids:
        raise ImageStoreError(f"{path}: a store without images makes no sense")
    seen: Dict[str, int] = {}
    for row, name in enumerate(ids):
        if not name or name != name.strip() or "\n" in name:
            raise ImageStoreError(
                f"{path}: row {row} has the id {name!r}; an id is a non-empty text on one line "
                "without spaces around it"
            )
        if name in seen:
            raise ImageStoreError(
                f"{path}: the id {name!r} stands at row {seen[name]} and again at row {row}"
            )
        seen[name] = row


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


def _sha256(rows: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(rows)).digest()


def _block_hashes(rows: np.ndarray, rows_per_block: int) -> np.ndarray:
    digests = [
        np.frombuffer(_sha256(rows[start : start + rows_per_block]), dtype=np.uint8)
        for start in range(0, len(rows), rows_per_block)
    ]
    return np.stack(digests)
