"""Memory that was freed is used again without the system's help."""

import ctypes
import os
import platform
import subprocess
import sys

import pytest

from caf_dkd_plugin.freed_memory import ENVIRONMENT, keep_freed_memory

PAGES = 16384
PROGRAM = f"""
import resource, sys
import torch
from caf_dkd_plugin.freed_memory import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones({PAGES}, 4096, dtype=torch.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def mean():
    return sum([faults() for _ in range(40)][20:]) // 20

print(mean(), keep_freed_memory(), mean())
"""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no glibc")


def run():
    """Page faults of a big tensor before and after, in the mean, and whether anything was done between.

    Not each time: now and then a small block takes a piece of the freed one.
    """
    command = [sys.executable, "-c", PROGRAM]
    inherited = {name: value for name, value in os.environ.items() if name not in ENVIRONMENT}
    said = subprocess.run(command, env=inherited, capture_output=True, text=True, check=True)
    before, done, after = said.stdout.split()
    return int(before), done == "True", int(after)


def test_a_freed_tensor_is_used_again():
    before, done, after = run()
    assert done
    assert before >= PAGES / 512  # even with huge pages
    assert after < before / 2


@pytest.mark.parametrize("name", ENVIRONMENT)
def test_what_the_user_has_set_is_left_alone(name, monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", None)  # whatever would be changed
    for each in ENVIRONMENT:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv(name, "")
    assert not keep_freed_memory()
    monkeypatch.delenv(name)
    with pytest.raises(TypeError):
        keep_freed_memory()
