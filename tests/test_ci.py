""".ci/run: nothing that fails, hangs or could not be tried is taken for having passed.

The script is the real one; its `make` and its run on Multi30k are stand-ins that only note what they
were asked, and fail or hang where a test says so.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import List, NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent

PARTS = {
    "install py311": "fresh environment",
    "install py310": "fresh environment, Python 3.10",
    "lint py311": "lint",
    "test py311": "tests",
    "test py310": "tests, Python 3.10 with official fairseq",
    "demo py311": "short demo from pixels",
    "demo py310": "short demo, Python 3.10 with official fairseq",
    "multi30k": "Multi30k, 200 pairs",
}
"""what make is asked -> what the report calls it; all but the environment of 3.10 are counted"""

MAKE = """#!/bin/sh
set -e
for argument; do
    case $argument in
        find-python) grep -qx find-python '{fail}' && exit 1; echo /usr/bin/python3.10; exit ;;
        install | lint | test | demo) target=$argument ;;
        VENV=*) venv=${{argument#VENV=}} ;;
    esac
done
call="$target $(basename "$venv")"
echo "$call" >> '{calls}'
if grep -qx "hang $call" '{fail}'; then sleep 60; fi
if grep -qx "$call" '{fail}'; then exit 2; fi
if [ "$target" = install ]; then mkdir -p "$venv/bin" && touch "$venv/bin/ruff"; fi
"""
SMOKE = """echo multi30k >> '{calls}'
if grep -qx multi30k '{fail}'; then exit 2; fi
"""


class Ended(NamedTuple):
    status: int
    said: str
    calls: List[str]
    """what make was asked, and "multi30k" """

    @property
    def failed(self) -> List[str]:
        """The parts that the report names as failed."""
        return [x.split(": ")[1] for x in self.said.splitlines() if x.startswith("  failed: ")]


class Clone:
    """A folder with the real .ci/run, to which a test says what is to fail."""

    def __init__(self, folder: Path):
        self.folder, self.temporary = folder / "clone", folder / "temporary"
        files = {"calls": folder / "calls", "fail": folder / "fail"}
        self.calls, self.fail = files.values()
        (self.folder / ".ci").mkdir(parents=True)
        shutil.copy(ROOT / ".ci" / "run", self.folder / ".ci")
        (self.folder / ".ci" / "multi30k_smoke.sh").write_text(SMOKE.format(**files))
        make = folder / "bin" / "make"
        for path in (make.parent, self.temporary):
            path.mkdir()
        make.write_text(MAKE.format(**files))
        make.chmod(0o755)
        self.calls.touch()
        self.environment = {
            **os.environ,
            "PATH": f"{make.parent}{os.pathsep}{os.environ['PATH']}",
            "TMPDIR": str(self.temporary),
            "MULTI30K_ROOT": str(folder),
        }
        self.environment.pop("PART_LIMIT", None)

    def start(self, *failing: str, **environment: str) -> subprocess.Popen:
        self.fail.write_text("".join(f"{call}\n" for call in failing))
        return subprocess.Popen(
            ["bash", self.folder / ".ci" / "run"],
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, *failing: str, **environment: str) -> Ended:
        process = self.start(*failing, **environment)
        said, _ = process.communicate(timeout=50)
        return Ended(process.returncode, said, self.calls.read_text().splitlines())


@pytest.fixture
def clone(tmp_path):
    return Clone(tmp_path)


def test_all_parts_are_run_once_and_nothing_is_left_behind(clone):
    ended = clone.run()
    assert ended.status == 0, ended.said
    assert sorted(ended.calls) == sorted(PARTS)
    assert f"{len(PARTS) - 1} parts passed, 0 failed" in ended.said
    assert "skipped" not in ended.said
    assert not list(clone.temporary.iterdir())


@pytest.mark.parametrize("call", [call for call in PARTS if not call.startswith("install")])
def test_a_part_that_fails_is_named_and_stops_no_other(clone, call):
    ended = clone.run(call)
    assert ended.status == 1
    assert ended.failed == [PARTS[call]]
    assert sorted(ended.calls) == sorted(PARTS)


def test_every_failure_is_named(clone):
    failing = ["lint py311", "test py310", "multi30k"]
    assert sorted(clone.run(*failing).failed) == sorted(map(PARTS.get, failing))


def test_without_the_environment_of_one_stack_the_other_is_tried(clone):
    ended = clone.run("install py310")
    assert (ended.status, ended.failed) == (1, [PARTS["install py310"]])
    assert {call for call in PARTS if "py310" not in call} <= set(ended.calls)
    assert "test py310" not in ended.calls


def test_without_an_environment_nothing_else_is_tried(clone):
    ended = clone.run("install py311")
    assert ended.status == 1
    assert "install py311" in ended.calls
    assert set(ended.calls) <= {"install py311", "install py310"}  # the other one is ended, too


@pytest.mark.parametrize("call", ["test py311", "test py310"])
def test_a_part_that_hangs_is_ended_and_named(clone, call):
    ended = clone.run(f"hang {call}", PART_LIMIT="1")
    assert (ended.status, ended.failed) == (1, [PARTS[call]])
    assert "FAILED (exit status 124)" in ended.said
    assert "demo py310" in ended.calls


def test_what_could_not_be_tried_is_named(clone):
    ended = clone.run("find-python", MULTI30K_ROOT="")
    assert ended.status == 0
    assert set(ended.calls) == {"install py311", "lint py311", "test py311", "demo py311"}
    assert "4 parts passed, 0 failed" in ended.said
    assert "skipped: Python 3.10 with official fairseq: no working python3.10" in ended.said
    assert "skipped: Multi30k, 200 pairs: neither MULTI30K_ROOT nor" in ended.said


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_when_it_is_ended_nothing_is_left_behind(clone):
    process = clone.start("hang test py311")
    while "test py311" not in clone.calls.read_text():
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=50)  # the output is closed, so the parts have ended, too
    assert process.returncode == 130
    assert not list(clone.temporary.iterdir())
