"""Several image stores read as one: the parts that several machines made, or photographs beside a store.

Letters: N images, R regions, D feature size, H and W pixels.
"""

import bisect
import hashlib
import itertools
from typing import List, Optional, Protocol, Sequence, Tuple

import numpy as np

from .image_ids import PathLike, in_short
from .image_store import Description, ImageStore, ImageStoreError


class Images(Protocol):
    """What an image store, several of them, or photographs have in common."""

    path: str
    """where they are, for messages"""
    kind: str
    """"features" or "images" (pixels)"""
    shape: Tuple[int, ...]
    """(N, R, D), or (N, H, W, 3)"""
    dtype: np.dtype
    description: Description
    ids: List[str]

    def __len__(self) -> int: ...

    def __contains__(self, image_id: str) -> bool: ...

    def row_of(self, image_id: str) -> Optional[int]:
        """The row of the image with this id, or None where there is no such image."""

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """A copy of these rows: (len(rows), R, D), or (len(rows), H, W, 3) of pixels."""

    def problems(self) -> List[str]:
        """What is wrong with the rows, one line each; reads them all."""


class StoredImages(Images, Protocol):
    """Images that a teacher's cache or an experiment can tell from others."""

    def content_sha256(self) -> str:
        """Of all ids and rows; hexadecimal digits."""


class JoinedStores:
    """Sets of images one after the other, in one numbering of rows.

    Args:
        parts: at least one; equal in kind, size of a row and description, with no id in common.

    Raises:
        ImageStoreError: they are not; all differences, one a line.
    """

    def __init__(self, parts: Sequence[Images]):
        self._parts = list(parts)
        self._starts = [0, *itertools.accumulate(map(len, parts))]
        first = parts[0]
        self.path = " and ".join(part.path for part in parts)
        self.kind = first.kind
        self.shape = (self._starts[-1], *first.shape[1:])
        self.dtype = np.result_type(*(part.dtype for part in parts))
        self.description = first.description
        self.ids = [name for part in parts for name in part.ids]
        problems = [line for part in parts[1:] for line in _differences(first, part)]
        problems += _shared_ids(parts)
        if problems:
            raise ImageStoreError("\n".join(problems))

    def __len__(self) -> int:
        return self.shape[0]

    def __contains__(self, image_id: str) -> bool:
        return any(image_id in part for part in self._parts)

    def row_of(self, image_id: str) -> Optional[int]:
        """The row of the image with this id, or None where no part has such an image."""
        for start, part in zip(self._starts, self._parts):
            row = part.row_of(image_id)
            if row is not None:
                return start + row
        return None

    def read(self, rows: Sequence[int]) -> np.ndarray:
        """A copy of these rows: (len(rows), R, D), or (len(rows), H, W, 3) of pixels."""
        rows = np.asarray(rows, dtype=np.int64)
        values = np.empty((len(rows), *self.shape[1:]), dtype=self.dtype)
        owners = np.array([bisect.bisect_right(self._starts, row) - 1 for row in rows])
        for owner in set(owners.tolist()):
            mine = owners == owner
            values[mine] = self._parts[owner].read(rows[mine] - self._starts[owner])
        return values

    def content_sha256(self) -> str:
        """Of that of every part, which must be StoredImages; hexadecimal digits."""
        parts = "\n".join(part.content_sha256() for part in self._parts)
        return hashlib.sha256(parts.encode()).hexdigest()

    def problems(self) -> List[str]:
        """Those of every part."""
        return [line for part in self._parts for line in part.problems()]


def open_stores(paths: Sequence[PathLike]) -> StoredImages:
    """The store at a path, or the stores at several paths as one.

    Raises:
        ImageStoreError: what is wrong with each, or why they do not go together, one line each.
    """
    stores, problems = [], []
    for path in paths:
        try:
            stores.append(ImageStore(path))
        except ImageStoreError as error:
            problems.append(str(error))
    if problems:
        raise ImageStoreError("\n".join(problems))
    return stores[0] if len(stores) == 1 else JoinedStores(stores)


def _differences(first: Images, other: Images) -> List[str]:
    found = other.description.differences(vars(first.description), "there", f"in {first.path}")
    if (first.kind, first.shape[1:]) != (other.kind, other.shape[1:]):
        found.insert(
            0,
            f"{first.kind} {first.shape[1:]} in {first.path}, {other.kind} {other.shape[1:]} there",
        )
    if not found:
        return []
    return [f"{other.path} cannot be read together with {first.path}: {'; '.join(found)}"]


def _shared_ids(parts: Sequence[Images]) -> List[str]:
    found = []
    for one, other in itertools.combinations(parts, 2):
        shared = [name for name in other.ids if name in one]
        if shared:
            found.append(
                f"{len(shared)} images are in {one.path} and again in {other.path}: "
                f"{in_short(shared)}. Which of them counts cannot be told: leave one of the files "
                "out, or extract again."
            )
    return found
