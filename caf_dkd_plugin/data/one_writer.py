"""Only one process writes a file at a time."""

import fcntl
import os
from pathlib import Path


class OtherWriterError(ValueError):
    """Another process is writing the file; the message says which file."""


class OneWriter:
    """Holds ``PATH.lock`` until it is released or the process ends, however it ends.

    Args:
        path: the file to write.

    Raises:
        OtherWriterError: another process holds it.
    """

    def __init__(self, path: Path):
        self._lock = f"{path}.lock"
        self._descriptor = os.open(self._lock, os.O_WRONLY | os.O_CREAT)
        try:
            fcntl.lockf(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            raise OtherWriterError(
                f"another process is writing {path}. Wait until it has finished, or stop it."
            ) from error

    def release(self) -> None:
        """Let the file go, and take the lock away."""
        os.unlink(self._lock)
        os.close(self._descriptor)
