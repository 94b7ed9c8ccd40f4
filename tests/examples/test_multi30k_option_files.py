"""Option files, as the experiment, the shell scripts and their readers see them."""

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MULTI30K = ROOT / "examples" / "multi30k"


def test_a_shell_reads_an_option_file_as_the_program_does(script, tmp_path):
    read_options = script("option_files").read_options
    made = tmp_path / "made.options"
    made.write_text("# a comment\n\n--flag\n  --lr 1e-3 # why\n--adam-betas (0.9,0.98)\n")
    assert read_options(made) == ["--flag", "--lr", "1e-3", "--adam-betas", "(0.9,0.98)"]
    for path in [made, *sorted((MULTI30K / "configs").glob("*.options"))]:
        command = f"printf '%s\\n' $(sed 's/#.*//' {path})"
        said = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
        assert said.stdout.splitlines() == read_options(path)


def test_a_size_without_an_option_file_is_refused():
    done = subprocess.run(
        ["bash", MULTI30K / "train_student.sh"],
        env={**os.environ, "SIZE": "2k"},
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "error: SIZE=2k has no examples/multi30k/configs/2k.options" in done.stderr


def test_all_bad_lines_of_an_option_file_are_named(script, tmp_path):
    path = tmp_path / "bad.options"
    path.write_text("--lr 1e-3\nmax-epoch 3\n--adam-betas (0.9, 0.98)\n--seed=1\n")
    with pytest.raises(ValueError, match="line 2") as error:
        script("option_files").read_options(path)
    assert [line.split(":")[0][-1] for line in str(error.value).splitlines()] == ["2", "3", "4"]
