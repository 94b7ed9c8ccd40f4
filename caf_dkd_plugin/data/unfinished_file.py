"""An HDF5 file that takes its name when it is finished, and is gone on with where it was interrupted."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Callable, Iterator, List

import h5py
import numpy as np

from .image_ids import PathLike
from .image_store import partial_path
from .one_writer import OneWriter, lock_path


def files_of(path: PathLike) -> List[Path]:
    """The finished file, and what may lie beside it before it is finished."""
    return [Path(path), partial_path(path), _embryo_path(path), lock_path(Path(path))]


def _embryo_path(path: PathLike) -> Path:
    """Where a file is laid out: a half-made header must not be taken for a file to go on with."""
    return Path(f"{partial_path(path)}.new")


class UnfinishedFile:
    """Lies at ``PATH.partial`` until it is finished, so that it is never found under PATH before.

    Args:
        path: the finished file's path.

    Raises:
        IsADirectoryError: the path is a folder.
        OtherWriterError: another process is writing it.
    """

    def __init__(self, path: PathLike):
        self._finished = Path(path)
        if self._finished.is_dir():
            raise IsADirectoryError(f"{path} is a folder; name the file to write")
        self.path = partial_path(path)
        self._lock = OneWriter(self._finished)

    def goes_on(self, check: Callable[[], None], overwrite: bool) -> bool:
        """Whether there is something to go on with.

        Args:
            check: raises a ValueError where what is there was begun otherwise.
            overwrite: take it away then, in place of letting the error through.
        """
        if not self.path.exists():
            return False
        try:
            check()
        except ValueError:
            if not overwrite:
                raise
            self.path.unlink()
            return False
        return True

    @contextlib.contextmanager
    def begin(self) -> Iterator[h5py.File]:
        """Begin it, laid out as the block does.

        Raises:
            OSError: it cannot be written, or the disk has not the room for all of it.
        """
        embryo = _embryo_path(self._finished)
        try:
            with h5py.File(embryo, "w") as file:
                file.attrs["complete"] = False
                yield file
            _take_room(embryo)
        except (OSError, RuntimeError) as error:  # h5py raises either where a disk is full
            embryo.unlink(missing_ok=True)
            reason = " ".join(str(error).split())
            raise OSError(
                f"{self._finished} cannot be begun: {reason}. Free some room on its disk, or write "
                "to another one."
            ) from error
        os.replace(embryo, self.path)

    def finish(self, **arrays: np.ndarray) -> None:
        """Write the last arrays, mark the file as complete and give it its name."""
        with h5py.File(self.path, "r+") as file:
            for name, values in arrays.items():
                file[name][...] = values
            file.attrs["complete"] = True
            file.flush()
        os.replace(self.path, self._finished)
        self._lock.release()

    def discard(self) -> None:
        """Take it away: the finished file came to its name in another way."""
        self.path.unlink()
        self._lock.release()


def _take_room(path: Path) -> None:
    """Give a sparse file its room: where there is none, writing through a memory map kills."""
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with open(path, "r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # file systems that cannot
                raise
