"""Write a teacher's cache; :mod:`.teacher_cache` describes it and reads it.

Letters: L lines, N tokens of all lines, k symbols kept of each token, M temperatures, r rank of the shape of
the other symbols' probabilities.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Callable, Sequence, Tuple

import numpy as np

from .contiguous_hdf5 import create_contiguous
from .image_ids import PathLike
from .teacher_cache import (
    ARRAYS,
    FORMAT_NAME,
    FORMAT_VERSION,
    SHAPE,
    Header,
    Stamp,
    TeacherCacheError,
    Text,
)
from .unfinished_file import UnfinishedFile


class TeacherCacheWriter:
    """Writes a cache, line by line in any order; killed and opened again, it goes on where it was.

    The rows go to ``PATH.partial``, which :meth:`finish` renames to ``PATH``.

    Args:
        path: the finished cache's path.
        texts: what the lines are, in order.
        lengths: (L,) number of target tokens of each line.
        stamp: who says it.
        fit_shape: gives ``tail_mean`` and ``tail_directions``; called only where the cache is begun.
        overwrite: start afresh where an unfinished cache was begun for something else, or is damaged.

    Raises:
        OSError: it cannot be written, or the disk has not the room for all of it.
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
        overwrite: bool = False,
    ):
        self.path = Path(path)
        self._file = UnfinishedFile(self.path)
        if not self._file.goes_on(lambda: self._check_same_beginning(texts, stamp), overwrite):
            self._create(texts, lengths, stamp, fit_shape())
        header = Header.read(self._file.path)
        self._first = header.first_token
        self._arrays = {name: header.map(name, "r+") for name in ARRAYS}
        self._done = header.map("lines_done", "r+")
        self.tail_mean, self.tail_directions = header.shape

    def _create(self, texts, lengths, stamp, shape) -> None:
        first_token = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        tokens = int(first_token[-1])
        columns = {"topk_ids": stamp.top_k, "topk_log_probs": stamp.top_k}
        columns["tail_log_mass"] = len(stamp.tail_temperatures)
        _, directions = shape
        columns["tail_code"] = len(directions)
        with self._file.begin() as file:
            file.attrs["format"] = FORMAT_NAME
            file.attrs["version"] = FORMAT_VERSION
            file.attrs["about"] = json.dumps(asdict(stamp))
            file.attrs["texts"] = json.dumps([asdict(text) for text in texts])
            for name, dtype in ARRAYS.items():
                create_contiguous(file, name, (tokens, columns[name]), dtype)
            create_contiguous(file, "lines_done", (len(lengths),), "uint8")
            create_contiguous(file, "first_token", first_token.shape, "int64")
            file["first_token"][...] = first_token
            for name, values in zip(SHAPE, shape):
                file.create_dataset(name, data=values, dtype="float32", track_times=False)

    def _check_same_beginning(self, texts, stamp) -> None:
        remedy = "Delete it to start afresh, or write to another file."
        try:
            header = Header.read(self._file.path)
        except TeacherCacheError as error:
            raise TeacherCacheError(f"{error} {remedy}") from error
        found = stamp.differences(header.stamp)
        if len(header.texts) != len(texts):
            found.append(f"{len(header.texts)} texts there, {len(texts)} now")
        for there, here in zip(header.texts, texts):
            found += [f"{here.name}: {line}" for line in here.differences(there)]
        if found:
            raise TeacherCacheError(
                f"{self._file.path} was begun for something else: {'; '.join(found)}. {remedy}"
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
        self._file.finish()
