"""The teacher's cache: what a teacher says of each target token of a text, in one HDF5 file.

This module and :mod:`.teacher_cache_writer` are the only code that knows the layout. They know numpy and
h5py, neither torch nor fairseq.

Letters: L lines, N tokens of all lines, k symbols kept of each token, M temperatures, r rank of the shape of
the other symbols' probabilities, V target vocabulary.

======================  ==================  ===============================================================
in the file             shape, type         meaning
======================  ==================  ===============================================================
``first_token``         (L + 1,) int64      where the tokens of each line begin
``topk_ids``            (N, k) int32        the teacher's most probable symbols, best first
``topk_log_probs``      (N, k) float32      their log-probabilities at temperature 1
``tail_log_mass``       (N, M) float32      for each temperature t of ``tail_temperatures`` the log of the
                                            sum of p ** (1 / t) over all other symbols
``tail_code``           (N, r) float16      where each token lies among the directions below
``tail_mean``           (V,) float32        mean of all log-probabilities, and the directions in which they
``tail_directions``     (r, V) float32      vary most: see :mod:`caf_dkd_plugin.distillation.tail_shape`
``lines_done``          (L,) uint8          1 once the line has been written
attributes              JSON and scalars    ``format``, ``version``, ``complete``, ``about`` (the stamp),
                                            ``texts`` (which lines are whose)
======================  ==================  ===============================================================

The arrays lie contiguous and preallocated (see :mod:`.contiguous_hdf5`).
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import h5py
import numpy as np

from .image_ids import PathLike
from .image_store import partial_path
from .stored_rows import StoredRows

FORMAT_NAME = "caf-dkd teacher cache"
FORMAT_VERSION = 2

ARRAYS = {
    "topk_ids": "int32",
    "topk_log_probs": "float32",
    "tail_log_mass": "float32",
    "tail_code": "float16",
}
"""of each token"""
SHAPE = ("tail_mean", "tail_directions")
"""of the whole cache"""


class TeacherCacheError(ValueError):
    """The file is no usable cache, or not of this text; the message says what is wrong and what to do."""


@dataclass(frozen=True)
class Text:
    """Some lines that a teacher has read, known by their content, wherever they lie."""

    name: str
    """for people: the part and its folder"""
    lines: int
    source_sha256: str
    """of the tokens that the teacher reads"""
    target_sha256: str
    images_sha256: str
    """of the lines' list of images; "" for a teacher or a student without images"""

    def differences(self, other: "Text") -> List[str]:
        """What two texts have otherwise, in words. The names do not count; images, where both have any."""
        found = []
        if self.lines != other.lines:
            found.append(f"{self.lines} lines, not {other.lines},")
        for side in ("source", "target"):
            if getattr(self, f"{side}_sha256") != getattr(other, f"{side}_sha256"):
                found.append(f"another {side} text")
        if self.images_sha256 and other.images_sha256 not in ("", self.images_sha256):
            found.append("another list of images")
        return found


@dataclass(frozen=True)
class Stamp:
    """By which teachers a cache was made, of which symbols and with which images."""

    teachers: Tuple[str, ...]
    """SHA-256 of each checkpoint"""
    source_lang: str
    """what they read, which need not be the student's source"""
    source_symbols_sha256: str
    target_symbols_sha256: str
    images: Optional[Dict[str, str]]
    """the image store's description and ``content_sha256``; None for teachers that read none"""
    top_k: int
    tail_temperatures: Tuple[float, ...]
    tail_rank: int
    """the most numbers that the shape was to have; r, if the teacher's log-probabilities vary in so many
    directions"""

    def differences(self, other: "Stamp") -> List[str]:
        """The entries that differ, in words."""
        names = {
            "teachers": "another teacher",
            "source_lang": f"a teacher that reads {other.source_lang} ({self.source_lang} now)",
            "source_symbols_sha256": "another source dictionary",
            "target_symbols_sha256": "another target dictionary",
            "images": f"other images ({other.images} there, {self.images} now)",
            "top_k": f"the best {other.top_k} symbols there, {self.top_k} now",
            "tail_temperatures": "other temperatures of the tail",
            "tail_rank": f"the tail in at most {other.tail_rank} numbers there, {self.tail_rank} now",
        }
        return [
            words for name, words in names.items() if getattr(self, name) != getattr(other, name)
        ]


class TeacherCache:
    """A finished cache, opened for reading.

    It can be pickled and forked freely: no open file travels; every process opens the file by itself.

    Args:
        path: the HDF5 file.

    Raises:
        TeacherCacheError: missing, unfinished, damaged or foreign file.
    """

    def __init__(self, path: PathLike):
        self.path = str(path)
        self._header = Header.read(Path(path))
        if not self._header.complete:
            raise TeacherCacheError(
                f"{path} is unfinished. Run preprocess/cache_teacher.py with the same settings "
                "again: it goes on where it stopped."
            )
        if not self._header.map("lines_done", "r").all():
            raise TeacherCacheError(
                f"{path} is marked as complete, but lines are missing. Make it again with "
                "preprocess/cache_teacher.py."
            )
        self.stamp = self._header.stamp
        self.tail_mean, self.tail_directions = self._header.shape
        self._arrays: Optional[Dict[str, Optional[StoredRows]]] = None

    def __getstate__(self):
        return {**self.__dict__, "_arrays": None}

    def first_line(self, text: Text) -> int:
        """Where the lines of a text begin.

        Raises:
            TeacherCacheError: the cache has no such text; what this one has otherwise than each of its.
        """
        first, reports = 0, []
        for known in self._header.texts:
            differences = text.differences(known)
            if not differences:
                return first
            reports.append(f"{' and '.join(differences)} than {known.name}")
            first += known.lines
        raise TeacherCacheError(
            f"{self.path} does not know {text.name}, which has {'; '.join(reports)}"
        )

    def read(self, lines: Sequence[int], tokens: int) -> Dict[str, np.ndarray]:
        """What the teacher says of some lines.

        Args:
            lines: (B,) their numbers.
            tokens: T, at least the number of target tokens of each.

        Returns:
            each of the arrays of `ARRAYS` as (B, T, k), (B, T, M) or (B, T, r), zero after the end of a
            line.

        Raises:
            TeacherCacheError: the file was replaced since it was opened.
        """
        if self._arrays is None:
            self._arrays = {name: self._header.rows(name) for name in ARRAYS}
        first = self._header.first_token
        found = {}
        for name, array in self._arrays.items():
            _, (_, columns), dtype = self._header.places[name]
            found[name] = np.zeros((len(lines), tokens, columns), dtype)
            for place, line in zip(found[name], lines if array is not None else ()):
                place[: first[line + 1] - first[line]] = array.block(first[line], first[line + 1])
        return found


class Header(NamedTuple):
    """Everything but the large arrays, read and checked in one go."""

    path: Path
    identity: Tuple[int, int]
    """of the file: inode and size"""
    complete: bool
    stamp: Stamp
    texts: List[Text]
    first_token: np.ndarray
    shape: Tuple[np.ndarray, np.ndarray]
    """``tail_mean`` (V,) and ``tail_directions`` (r, V)"""
    places: Dict[str, Tuple[int, Tuple[int, ...], str]]
    """of each array: offset in the file, shape, type"""

    def map(self, name: str, mode: str) -> np.ndarray:
        """An array of the file as a memory map."""
        offset, shape, dtype = self.places[name]
        if 0 in shape:  # it has no place
            return np.empty(shape, dtype)
        self._check_same_file()
        return np.memmap(self.path, dtype, mode, offset, shape)

    def rows(self, name: str) -> Optional[StoredRows]:
        """An array of the file, to be read; None where it is empty."""
        offset, shape, dtype = self.places[name]
        if 0 in shape:
            return None
        self._check_same_file()
        return StoredRows(str(self.path), np.dtype(dtype), offset, shape)

    def _check_same_file(self) -> None:
        if _identity(self.path) != self.identity:
            raise TeacherCacheError(
                f"{self.path} was replaced while it was in use. Start again with the file of now."
            )

    @classmethod
    def read(cls, path: Path) -> "Header":
        if path.is_dir():
            raise TeacherCacheError(f"{path} is a folder; a teacher's cache is a file")
        if not path.is_file():
            begun = partial_path(path).exists()
            raise TeacherCacheError(
                f"{path} does not exist"
                + (f", but {partial_path(path)} does: it was interrupted" if begun else "")
                + ". Make it with preprocess/cache_teacher.py, which goes on where it stopped."
            )
        try:
            with h5py.File(path, "r") as file:
                return cls._from_file(path, file)
        except (OSError, KeyError, TypeError) as error:
            raise TeacherCacheError(
                f"{path} is not a readable teacher's cache ({error}). Make it again with "
                "preprocess/cache_teacher.py."
            ) from error

    @classmethod
    def _from_file(cls, path: Path, file: h5py.File) -> "Header":
        if file.attrs.get("format") != FORMAT_NAME:
            raise TeacherCacheError(f"{path} is an HDF5 file but not a teacher's cache")
        version = int(file.attrs["version"])
        if version != FORMAT_VERSION:
            raise TeacherCacheError(
                f"{path} has format version {version}, this program reads version {FORMAT_VERSION}; "
                "make it again"
            )
        about: Dict[str, Any] = json.loads(file.attrs["about"])
        lists = {name: tuple(about[name]) for name in ("teachers", "tail_temperatures")}
        return cls(
            path=path,
            identity=_identity(path),
            complete=bool(file.attrs["complete"]),
            stamp=Stamp(**{**about, **lists}),
            texts=[Text(**text) for text in json.loads(file.attrs["texts"])],
            first_token=file["first_token"][...],
            shape=tuple(file[name][...] for name in SHAPE),
            places={
                name: (file[name].id.get_offset(), file[name].shape, file[name].dtype.name)
                for name in (*ARRAYS, "lines_done")
            },
        )


def _identity(path: Path) -> Tuple[int, int]:
    status = os.stat(path)
    return status.st_ino, status.st_size
