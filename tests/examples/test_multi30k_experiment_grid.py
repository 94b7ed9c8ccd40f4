"""The steps of the experiment: what is trained on what, and in which order."""

import gzip
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest


def test_a_teacher_of_the_rest_has_seen_no_line_of_the_biggest_student(grid, multi30k, tmp_path):
    steps = grid("--sizes", "1k", "5k", "--seeds", "1", "--teacher-subset", "rest")
    command = steps["lines.without-5k"].command
    variables = {"MULTI30K_ROOT": str(multi30k), "WORK": str(tmp_path)}
    subprocess.run(["sh", "-e", "-c", command], env={**os.environ, **variables}, check=True)
    assert (tmp_path / "without-5k.lines").read_text().split() == [*map(str, range(40, 64))]
    assert "data/without-5k" in steps["teacher_without-5k_seed1.train"].command
    assert "teacher_without-5k_seed1" in steps["cache.1k"].command


def test_several_teachers_are_averaged_by_the_cache(grid):
    steps = grid("--sizes", "1k", "--teachers", "teacher:1", "teacher:2")
    paths = ":".join(f"$WORK/models/teacher_seed{seed}/average.pt" for seed in (1, 2))
    assert f'--teacher-path "{paths}"' in steps["cache.1k"].command
    assert set(steps["cache.1k"].needs) == {
        "data.1k",
        "teacher_seed1.average",
        "teacher_seed2.average",
    }


@pytest.mark.parametrize(
    ("suffixes", "valid"),
    [
        ((), "valid"),
        (("en",), "valid"),
        (("en", "de"), "valid1"),
        (("en.gz", "de.gz"), "valid1"),
    ],
)
def test_val_images_chooses_where_both_sides_are_there(suffixes, valid, grid, multi30k, tmp_path):
    root = Path(shutil.copytree(multi30k, tmp_path / "root"))
    for suffix in suffixes:
        lang, _, packed = suffix.partition(".")
        text = (root / "text" / f"val.{lang}").read_bytes()
        made = root / "text" / f"val_images.{suffix}"
        made.write_bytes(gzip.compress(text) if packed else text)
    command = grid("--root", root, "--sizes", "1k")["1k_image_seed1.train"].command
    assert re.findall(r"--valid-subset (\w+)", command)[-1] == valid


def test_steps_come_after_those_that_they_need(grid):
    seen = set()
    for step in grid("--sizes", "1k", "5k", "--teacher-subset", "without-1k").values():
        assert set(step.needs) <= seen
        seen.add(step.name)


def test_the_defaults_are_the_experiments(script):
    args = script("experiment").parse_args(["--root", "r"])
    assert args.sizes == ["1k", "5k", "10k", "full"]
    students, _ = script("experiment_inputs")._students(args, [])
    runs = [(one.size, one.arm, one.seed) for one in students]
    assert len(runs) == len(set(runs)) == 4 * 3 + 4 * 3 + 4 + 2
    assert {arm for size, arm, _ in runs if size == "full"} == {"text", "image"}
    assert {seed for size, _, seed in runs if size == "5k"} == {1, 2, 3}


def test_a_smoke_run_is_small(script, multi30k, tmp_path):
    script("smoke_root").write_smoke_root(multi30k, tmp_path / "root", "en", "de")
    lines = (tmp_path / "root" / "text" / "train.en").read_text().splitlines()
    assert lines == (multi30k / "text" / "train.en").read_text().splitlines()[:24]
    args = script("experiment").parse_args(["--root", "r", "--smoke", "--work", str(tmp_path)])
    assert (args.sizes, args.seeds, args.results) == (["1k"], [1], tmp_path / "results")
    apart = {
        script("experiment").parse_args(["--root", "r", *words]).work for words in ([], ["--smoke"])
    }
    assert len(apart) == 2  # the real one would refuse the other's data
    trial = ["--root", "r", "--configs", "other", "--work", str(tmp_path)]
    assert script("experiment").parse_args(trial).results == tmp_path / "results"
    words = script("experiment_inputs")._students(args, [])[0][0].options
    assert script("option_files").value_of(words, "--max-epoch") == "2"
