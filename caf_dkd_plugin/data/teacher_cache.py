"""The teacher's cache: what a teacher says of each target token of a text, in one HDF5 file.

This is the only module that knows the layout. It knows numpy and h5py, neither torch nor fairseq.

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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import h5py
import numpy as np

from .contiguous_hdf5 import create_contiguous
from .image_store import PathLike, partial_path
from .one_writer import OneWriter

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
            "tail_rank": f"the tail in {other.tail_rank} numbers there, {self.tail_rank} now",
        }
        return [
            words for name, words in names.items() if getattr(self, name) != getattr(other, name)
        ]


class TeacherCacheWriter:
    """Writes a cache, line by line in any order; killed and opened again, it goes on where it was.

    The rows go to ``PATH.partial``, which :meth:`finish` renames to ``PATH``.

    Args:
        path: the finished cache's path.
        texts: what the lines are, in order.
        lengths: (L,) number of target tokens of each line.
        stamp: who says it.
        fit_shape: gives ``tail_mean`` and ``tail_directions``; called only where the cache is begun.

    Raises:
        TeacherCacheError: an unfinished cache at ``PATH.partial`` was begun for something else, or
            is damaged.
        OtherWriterError: another process is writing it.
    """

    def __init__(
        self,
        path: PathLike,
        texts: Sequence[Text],
        lengths: Sequence[int],
        stamp: Stamp,
        fit_shape: Callable[[], Tuple[np.ndarray, np.ndarray]],
    ):
        self.path = Path(path)
        self._partial = partial_path(path)
        self._lock = OneWriter(self.path)
        if self._partial.exists():
            self._check_same_beginning(texts, stamp)
        else:
            self._create(texts, lengths, stamp, fit_shape())
        header = _Header.read(self._partial)
        self._first = header.first_token
        self._arrays = {name: header.map(name, "r+") for name in ARRAYS}
        self._done = header.map("lines_done", "r+")
        self.tail_mean, self.tail_directions = header.shape

    def _create(self, texts, lengths, stamp, shape) -> None:
        # Built under another name: a half-made header must not be taken for a cache to go on with.
        embryo = Path(f"{self._partial}.new")
        first_token = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        tokens = int(first_token[-1])
        columns = {"topk_ids": stamp.top_k, "topk_log_probs": stamp.top_k}
        columns["tail_log_mass"] = len(stamp.tail_temperatures)
        columns["tail_code"] = stamp.tail_rank
        with h5py.File(embryo, "w") as file:
            file.attrs["format"] = FORMAT_NAME
            file.attrs["version"] = FORMAT_VERSION
            file.attrs["complete"] = False
            file.attrs["about"] = json.dumps(asdict(stamp))
            file.attrs["texts"] = json.dumps([asdict(text) for text in texts])
            for name, dtype in ARRAYS.items():
                create_contiguous(file, name, (tokens, columns[name]), dtype)
            create_contiguous(file, "lines_done", (len(lengths),), "uint8")
            create_contiguous(file, "first_token", first_token.shape, "int64")
            file["first_token"][...] = first_token
            for name, values in zip(SHAPE, shape):
                file.create_dataset(name, data=values, dtype="float32", track_times=False)
        os.replace(embryo, self._partial)

    def _check_same_beginning(self, texts, stamp) -> None:
        remedy = "Delete it to start afresh, or write to another file."
        try:
            header = _Header.read(self._partial)
        except TeacherCacheError as error:
            raise TeacherCacheError(f"{error} {remedy}") from error
        found = stamp.differences(header.stamp)
        if len(header.texts) != len(texts):
            found.append(f"{len(header.texts)} texts there, {len(texts)} now")
        for there, here in zip(header.texts, texts):
            found += [f"{here.name}: {line}" for line in here.differences(there)]
        if found:
            raise TeacherCacheError(
                f"{self._partial} was begun for something else: {'; '.join(found)}. {remedy}"
            )

    @property
    def lines_done(self) -> np.ndarray:
        """(L,) bool: which lines have been written."""
        return np.asarray(self._done, dtype=bool)

    def write(self, line: int, **values: np.ndarray) -> None:
        """Write a line of t tokens.

        Args:
            line: its number, from 0.
            values: ``topk_ids`` (t, k), ``topk_log_probs`` (t, k), ``tail_log_mass`` (t, M) and
                ``tail_code`` (t, r).

        Raises:
            TeacherCacheError: not as many tokens as the line has, NaN, or a code that its type cannot
                hold.
        """
        first, end = self._first[line], self._first[line + 1]
        for name, array in self._arrays.items():
            if len(values[name]) != end - first:
                raise TeacherCacheError(
                    f"{self.path}: line {line} has {end - first} target tokens, but {name} has "
                    f"{len(values[name])}"
                )
            if np.isnan(values[name]).any():
                raise TeacherCacheError(f"{self.path}: {name} of line {line} has NaN")
            array[first:end] = values[name]
            if name == "tail_code" and not np.isfinite(array[first:end]).all():
                raise TeacherCacheError(
                    f"{self.path}: {name} of line {line} exceeds {array.dtype}. Please report this, and "
                    "choose another --tail-rank."
                )
        self._done[line] = 1

    def finish(self) -> None:
        """Mark the cache as complete and give it its name.

        Raises:
            TeacherCacheError: lines are missing.
        """
        missing = int((~self.lines_done).sum())
        if missing:
            raise TeacherCacheError(
                f"{self.path}: {missing} of {len(self._done)} lines were not written; the cache "
                "stays unfinished"
            )
        for array in (*self._arrays.values(), self._done):
            if isinstance(array, np.memmap):  # an empty one is none
                array.flush()
        del self._arrays, self._done  # no memory map while HDF5 writes
        with h5py.File(self._partial, "r+") as file:
            file.attrs["complete"] = True
            file.flush()
        os.replace(self._partial, self.path)
        self._lock.release()


class TeacherCache:
    """A finished cache, opened for reading.

    It can be pickled and forked freely: no open file travels; every process maps the file by itself.

    Args:
        path: the HDF5 file.

    Raises:
        TeacherCacheError: missing, unfinished, damaged or foreign file.
    """

    def __init__(self, path: PathLike):
        self.path = str(path)
        self._header = _Header.read(Path(path))
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
        self._arrays: Optional[Dict[str, np.ndarray]] = None

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
            self._arrays = {name: self._header.map(name, "r") for name in ARRAYS}
        first = self._header.first_token
        found = {}
        for name, array in self._arrays.items():
            rows = np.zeros((len(lines), tokens, array.shape[1]), dtype=array.dtype)
            for row, line in zip(rows, lines):
                row[: first[line + 1] - first[line]] = array[first[line] : first[line + 1]]
            found[name] = rows
        return found


class _Header(NamedTuple):
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
        if _identity(self.path) != self.identity:
            raise TeacherCacheError(
                f"{self.path} was replaced while it was in use. Start again with the file of now."
            )
        return np.memmap(self.path, dtype, mode, offset, shape)

    @classmethod
    def read(cls, path: Path) -> "_Header":
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
    def _from_file(cls, path: Path, file: h5py.File) -> "_Header":
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
