"""Rows of a file, through a memory map and without: what comes back, and what stays in memory."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from caf_dkd_plugin.data import stored_rows
from caf_dkd_plugin.data.stored_rows import StoredRows

OFFSET = 5
"""so that the numbers lie at odd addresses, as they may in an HDF5 file"""


@pytest.fixture
def array():
    return np.random.default_rng(1).normal(size=(40, 3, 7)).astype("float32")


@pytest.fixture(params=["mapped", "read"])
def rows(array, tmp_path, request, monkeypatch):
    if request.param == "read":
        monkeypatch.setattr(stored_rows, "MAPPED_BYTES", array.nbytes - 1)
    else:
        monkeypatch.delattr(os, "preadv")
    path = tmp_path / "rows"
    path.write_bytes(b"x" * OFFSET + array.tobytes() + b"more")
    return StoredRows(str(path), array.dtype, OFFSET, array.shape)


def test_rows_and_blocks_are_those_of_the_file(rows, array):
    for chosen in ([39, 0, 7, 7], [], range(40)):
        found = rows.read(chosen)
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array[list(chosen)].reshape(found.shape))
    np.testing.assert_array_equal(rows.block(12, 40), array[12:40])


def test_what_is_read_is_a_copy(rows, array):
    rows.read([3])[:] = 0
    np.testing.assert_array_equal(rows.read([3]), array[[3]])


def test_it_is_pickled_without_its_file(rows, array):
    rows.read([0])
    pickled = pickle.dumps(rows)
    assert len(pickled) < 1000
    np.testing.assert_array_equal(pickle.loads(pickled).read([5]), array[[5]])


def test_a_forked_process_reads_at_its_own_place(rows, array):
    rows.read([0])
    child = os.fork()
    if child == 0:
        os._exit(int(not np.array_equal(rows.read([9, 8]), array[[9, 8]])))
    for row in range(40):
        np.testing.assert_array_equal(rows.read([row]), array[[row]])
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.parametrize("row", [-1, 40])
def test_a_row_that_is_not_there_is_an_error(rows, row):
    with pytest.raises(IndexError, match=rf"^row {row} of .*rows, which has 40 rows$"):
        rows.read([3, row])


def test_a_file_that_was_cut_short_is_an_error(array, tmp_path, monkeypatch):
    monkeypatch.setattr(stored_rows, "MAPPED_BYTES", 0)
    path = tmp_path / "rows"
    path.write_bytes(array.tobytes()[:-1])
    rows = StoredRows(str(path), array.dtype, 0, array.shape)
    rows.read([38])
    with pytest.raises(
        OSError, match="only 83 of the 84 bytes from byte 3276 on: it was cut short"
    ):
        rows.read([39])
    with pytest.raises(OSError, match="only 167 of the 168 bytes"):
        rows.block(38, 40)


READER = """
import re, sys
from pathlib import Path
import numpy as np
from caf_dkd_plugin.data import stored_rows

def resident():
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(r"VmRSS:\\s*(\\d+)", status)[1])

stored_rows.MAPPED_BYTES = int(sys.argv[2])
rows = stored_rows.StoredRows(sys.argv[1], np.dtype("uint8"), 0, (64, 2**20))
before = resident()
for row in range(64):
    rows.read([row])
print(resident() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system has no /proc")
@pytest.mark.parametrize(("mapped", "low", "high"), [(63, 0, 8), (64, 60, 80)])
def test_a_large_file_takes_no_memory(mapped, low, high, tmp_path):
    """Of 64 MB, read one after the other; `mapped` is the limit and all are in MB."""
    path = tmp_path / "rows"
    path.write_bytes(bytes(64 * 2**20))
    command = [sys.executable, "-c", READER, str(path), str(mapped * 2**20)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert low * 2**20 <= int(said) <= high * 2**20
