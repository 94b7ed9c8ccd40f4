"""The scripts that train do not go on from the checkpoint of another command."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
STUDENT = "examples/multi30k/train_student.sh"
PROGRAM = """#!/usr/bin/env bash
while [[ $# -gt 0 ]]; do if [[ $1 == --save-dir ]]; then save=$2; fi; shift; done
echo trained >> "$save/trainings"
{then}
"""


@pytest.fixture
def run(tmp_path):
    """A function that runs a script with a fairseq-train that only leaves a checkpoint: (script, *options,
    **variables) -> what it said on stderr."""
    (tmp_path / "bin").mkdir()

    def script(path, *options, then='touch "$save/checkpoint_last.pt"', code=0, **variables):
        program = tmp_path / "bin" / "fairseq-train"
        program.write_text(PROGRAM.format(then=then))
        program.chmod(0o755)
        path_of_programs = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", path, *options],
            cwd=ROOT,
            env={**os.environ, "PATH": path_of_programs, "WORK": str(tmp_path), **variables},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stderr
        return done.stderr

    return script


@pytest.fixture
def trainings(tmp_path):
    """A function that tells how often something was trained in a folder."""
    return lambda name: (tmp_path / name / "trainings").read_text().count("trained")


@pytest.mark.parametrize(
    ("script", "folder", "options", "variables", "difference"),
    [
        (STUDENT, "student", [], {"SEED": "2"}, "--seed 1 became --seed 2"),
        (STUDENT, "student", ["--dropout", "0.5"], {}, "nothing became --dropout 0.5"),
        (STUDENT, "student", [], {"CACHE": "c.h5"}, "became --teacher-cache c.h5"),
        (STUDENT, "student", [], {"TEACHER": "t.pt"}, "became --teacher-path t.pt"),
        (
            "examples/multi30k/train_teacher.sh",
            "teacher",
            [],
            {"DATA": "other"},
            "became fairseq-train other",
        ),
        (
            "examples/sequence_level/train.sh",
            "sequence-level/student-teacher-sequence",
            [],
            {"UPSAMPLE": "3"},
            "--upsample-primary 1 became --upsample-primary 3",
        ),
    ],
)
def test_another_command_is_refused(
    script, folder, options, variables, difference, run, trainings, tmp_path
):
    run(script)
    run(script)  # the same one goes on
    assert trainings(folder) == 2
    said = run(script, *options, code=1, **variables)
    assert difference in said
    assert f"error: {tmp_path / folder} has a checkpoint of another command" in said
    assert said.count("\n") == 1
    assert trainings(folder) == 2
    run(script)  # what was refused was not written down
    (tmp_path / folder / "command").unlink()
    run(script, *options, **variables)
    assert trainings(folder) == 4


def test_which_process_it_is_and_how_it_goes_on_make_no_other_command(run, trainings):
    for rank in "01":
        run(STUDENT, "--distributed-world-size", "2", "--distributed-rank", rank)
    again = ("--distributed-world-size", "2", "--distributed-rank", "1")
    run(STUDENT, *again, "--restore-file", "other.pt", "--reset-optimizer", "--reset-meters")
    run(STUDENT, *again)
    assert trainings("student") == 4
    assert "--dropout 0.5" in run(STUDENT, *again, "--reset-optimizer", "--dropout", "0.5", code=1)


@pytest.mark.parametrize(
    "name", ["DATA/train.en-de.en.bin", "DATA/train.images", "TEACHER", "INIT"]
)
def test_other_data_or_another_teacher_at_the_same_place_is_refused(name, run, trainings, tmp_path):
    """A student of 1,000 pairs that is not trained on would pass for one of 500."""
    variables = {variable: str(tmp_path / variable) for variable in ("DATA", "TEACHER", "INIT")}
    (tmp_path / "DATA").mkdir()
    changed = [tmp_path / "DATA/train.en-de.en.bin", tmp_path / "DATA/train.images"]
    for path in (*changed, tmp_path / "TEACHER", tmp_path / "INIT"):
        path.write_text("something")
    run(STUDENT, **variables)
    run(STUDENT, **variables)
    (tmp_path / "DATA/preprocess.log").write_text("is no training data")
    run(STUDENT, **variables)
    (tmp_path / name).write_text("something else")
    said = run(STUDENT, code=1, **variables)
    whole = tmp_path / name.partition("/")[0]
    assert re.search(rf"contents of {whole}: \d.* became contents of {whole}: \d", said)
    assert said.count("contents of") == 2
    assert trainings("student") == 3


def test_what_is_gone_or_was_not_written_down_is_not_compared(run, trainings, tmp_path):
    """A training that goes on does not read --init-from."""
    variables = {"DATA": str(tmp_path / "DATA"), "INIT": str(tmp_path / "INIT")}
    (tmp_path / "DATA").mkdir()
    for name in ("DATA/train.images", "INIT"):
        (tmp_path / name).write_text("something")
    run(STUDENT, **variables)
    (tmp_path / "INIT").unlink()
    run(STUDENT, **variables)
    command = tmp_path / "student" / "command"
    assert command.read_text().count("contents of ") == 2
    lines = command.read_text().splitlines(keepends=True)
    command.write_text("".join(line for line in lines if "contents of" not in line))
    run(STUDENT, **variables)
    assert trainings("student") == 3


def test_another_order_is_another_command(run):
    run(STUDENT, "--lr", "1", "--lr", "2")
    assert "its options come in another order" in run(STUDENT, "--lr", "2", "--lr", "1", code=1)


def test_a_command_that_left_no_checkpoint_may_be_mended(run, trainings):
    run(STUDENT, "--no-such-option", then="exit 2", code=2)
    run(STUDENT)
    assert trainings("student") == 2


def test_checkpoints_without_a_command_are_gone_on_with(run, tmp_path):
    """Of a version of the scripts that wrote down none."""
    (tmp_path / "student").mkdir()
    (tmp_path / "student" / "checkpoint_last.pt").touch()
    assert f"warning: going on from {tmp_path}/student/checkpoint_last.pt, and" in run(STUDENT)
    assert "--seed 2" in run(STUDENT, code=1, SEED="2")
