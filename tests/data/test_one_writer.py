import subprocess
import sys

import pytest

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
