"""The image store: one HDF5 file of image features (or pixels), addressed by image id.

Here a store is read, in :mod:`.image_store_writer` it is written; nothing else knows the layout. Both know
numpy and h5py, neither torch nor fairseq.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

import h5py
import numpy as np

from .image_ids import PathLike, in_short
from .stored_rows import StoredRows

FORMAT_NAME = "caf-dkd image store"
FORMAT_VERSION = 1
FEATURES = "features"
IMAGES = "images"


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
        header = Header.read(Path(path))
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
        self._rows_per_block = header.rows_per_block
        self._row_of: Dict[str, int] = {name: row for row, name in enumerate(self.ids)}
        self._rows = StoredRows(self.path, self.dtype, header.offset, self.shape)

    def __len__(self) -> int:
        return self.shape[0]

    def __contains__(self, image_id: str) -> bool:
        return image_id in self._row_of

    def row_of(self, image_id: str) -> Optional[int]:
        """The row of the image with this id, or None where the store has no such image."""
        return self._row_of.get(image_id)

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """A copy of these rows: (len(rows), R, D), or (len(rows), H, W, 3) of pixels."""
        return self._rows.read(rows)

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
            rows = self._rows.block(start, min(start + self._rows_per_block, len(self)))
            last = start + len(rows) - 1
            if sha256(rows) != recorded[block].tobytes():
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
class Header:
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
    def read(cls, path: Path) -> "Header":
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
    def _from_file(cls, path: Path, file: h5py.File) -> "Header":
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
        kind_of(rows.shape[1:], rows.dtype.name, path)
        ids = [name.decode("utf-8") for name in file["ids"][...]]
        if len(ids) != rows.shape[0]:
            raise ImageStoreError(
                f"{path} has {len(ids)} ids but {rows.shape[0]} rows of {kinds[0]}; extract it again"
            )
        check_ids(ids, path)
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


def kind_of(row_shape: Tuple[int, ...], dtype: str, path: PathLike = "image store") -> str:
    """Whether rows like this are `FEATURES` or `IMAGES`; raise where they are neither."""
    if len(row_shape) == 2 and dtype in ("float16", "float32") and min(row_shape) > 0:
        return FEATURES
    if len(row_shape) == 3 and row_shape[2] == 3 and dtype == "uint8" and min(row_shape) > 0:
        return IMAGES
    raise ImageStoreError(
        f"{path}: a row is (R, D) of float16 or float32, or (H, W, 3) of "
        f"uint8, not {tuple(row_shape)} of {dtype}"
    )


def check_ids(ids: Sequence[str], path: PathLike) -> None:
    """Raise where the ids of all rows are none, not unique, not UTF-8, or no text on one line."""
    if not ids:
        raise ImageStoreError(f"{path}: a store without images makes no sense")
    seen: Dict[str, int] = {}
    for row, name in enumerate(ids):
        if not name or name != name.strip() or "\n" in name:
            raise ImageStoreError(
                f"{path}: row {row} has the id {name!r}; an id is a non-empty text on one line "
                "without spaces around it"
            )
        if not _is_utf8(name):
            raise ImageStoreError(
                f"{path}: row {row} has the id {name!a}, which is not UTF-8. Rename that file."
            )
        if name in seen:
            raise ImageStoreError(
                f"{path}: the id {name!r} stands at row {seen[name]} and again at row {row}"
            )
        seen[name] = row


def _is_utf8(name: str) -> bool:
    """False for a file name whose bytes are in another encoding."""
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def sha256(rows: np.ndarray) -> bytes:
    """Of the values of a block of rows."""
    return hashlib.sha256(np.ascontiguousarray(rows)).digest()
