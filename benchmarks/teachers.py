"""A teacher, and command lines of students that learn from one."""

import shlex
import subprocess
import sys
from pathlib import Path
from typing import List, Sequence

from fairseq_training import Training
from places import PREPROCESS

LAMBDA = 0.5


def distilled(temperature: float) -> List[str]:
    """The criterion of a student."""
    return shlex.split(
        "--criterion kd_label_smoothed_cross_entropy --label-smoothing 0.1 "
        f"--kd-lambda {LAMBDA} --kd-temperature {temperature}"
    )


def write_teacher(path: Path, words: Sequence[str], updates: int) -> Path:
    """The checkpoint of a training that has just begun; what it says costs what any teacher's does."""
    training = Training(words)
    training.steps(updates)
    return training.save(path)


def write_cache(path: Path, data: Path, teacher: Path, k: int) -> Path:
    """What the teacher says of the training set, by the real program."""
    program = PREPROCESS / "cache_teacher.py"
    what = ["--teacher-path", teacher, "--topk", str(k), "--output", path]
    subprocess.run(
        [sys.executable, program, data, *what], check=True, capture_output=True, text=True
    )
    return path
