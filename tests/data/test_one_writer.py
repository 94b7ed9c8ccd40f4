import errno
import os
import subprocess
import sys

import pytest

from caf_dkd_plugin.data import one_writer
from caf_dkd_plugin.data.one_writer import OneWriter, OtherWriterError

HOLD = """
import sys
from caf_dkd_plugin.data.one_writer import OneWriter
writer = OneWriter(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other(root, tmp_path):
    """Another process that is writing tmp_path / "file"."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "file")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=root, **pipes) as process:
        while process.stdout.readline() != b"held\n":  # importing fairseq says something too
            assert process.poll() is None
        yield process
        process.kill()


def test_another_process_is_refused_until_this_one_ends(other, tmp_path):
    with pytest.raises(OtherWriterError, match=r"another process is writing .*file\. Wait"):
        OneWriter(tmp_path / "file")
    OneWriter(tmp_path / "another")
    other.kill()
    other.wait()
    OneWriter(tmp_path / "file").release()
    assert not (tmp_path / "file.lock").exists()


@pytest.fixture
def fail(monkeypatch):
    """Let every lock fail with an error number."""

    def fail(number):
        def lockf(*arguments):
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(one_writer.fcntl, "lockf", lockf)

    return fail


@pytest.mark.parametrize("number", [errno.EACCES, errno.EAGAIN])
def test_a_lock_that_is_held_is_another_process(fail, tmp_path, number):
    fail(number)
    with pytest.raises(OtherWriterError, match="another process is writing"):
        OneWriter(tmp_path / "file")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_where_there_are_no_locks_it_goes_on_with_a_warning(fail, tmp_path, caplog, number):
    fail(number)
    one, other = OneWriter(tmp_path / "file"), OneWriter(tmp_path / "file")
    why = os.strerror(number)
    assert f"file.lock cannot be locked ({why}), so two processes could write" in caplog.text
    one.release()
    other.release()
    assert not (tmp_path / "file.lock").exists()
