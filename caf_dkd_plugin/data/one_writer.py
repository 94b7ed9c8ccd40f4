"""Only one process writes a file at a time."""

import fcntl
import logging
import os
from pathlib import Path

logger = logging.getLogger(__name__)


def lock_path(path: Path) -> Path:
    """What a process holds while it writes the file at `path`."""
    return Path(f"{path}.lock")


class OtherWriterError(ValueError):
    """Another process is writing the file; the message says which file."""


class OneWriter:
    """Holds ``PATH.lock`` until it is released or the process ends, however it ends.

    Where the file system has no locks, a warning says so, and nothing is held.

    Args:
        path: the file to write.

    Raises:
        OtherWriterError: another process holds it.
    """

    def __init__(self, path: Path):
        self._lock = lock_path(path)
        self._descriptor = os.open(self._lock, os.O_WRONLY | os.O_CREAT)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:  # EAGAIN or EACCES: it is held
            os.close(self._descriptor)
            raise OtherWriterError(
                f"another process is writing {path}. Wait until it has finished, or stop it."
            ) from error
        except OSError as error:
            logger.warning(
                f"{self._lock} cannot be locked ({error.strerror}), so two processes could write "
                f"{path} at once. See to it that no other one does."
            )

    def release(self) -> None:
        """Let the file go, and take the lock away."""
        self._lock.unlink(missing_ok=True)  # of two processes without locks the first took it away
        os.close(self._descriptor)
