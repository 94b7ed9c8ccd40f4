"""The scripts of examples/multi30k, one after the other as docs/multi30k.md has them, on a few sentences."""

import os
import re
import subprocess
from pathlib import Path

import h5py
import pytest
import sacrebleu
from weights import assert_same_weights, weights

ROOT = Path(__file__).resolve().parents[2]
TRAIN, STUDENT, TESTED = 64, 24, 6
TEST = "test"
"""what prepare.sh calls test_2016_flickr"""


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    """The folder in which the scripts make everything."""
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def run(work, commands, multi30k, corpus, option_files, tmp_path_factory):
    """A function that runs a script: (name, *options, **variables) -> the process, ended."""
    photos = tmp_path_factory.mktemp("photos")
    for path in sorted((corpus / "images").iterdir())[::2]:  # the others are missing
        (photos / path.name).symlink_to(path)
    settings = {
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
        "MULTI30K_ROOT": multi30k,
        "WORK": work,
        "CONFIGS": option_files,
        **{"PHOTOS": photos, "BACKBONE": "resnet18", "WEIGHTS": "none"},
        **{"SUBSET": STUDENT, "VOCAB_SIZE": 200},
    }

    def script(name, *options, code=0, **variables):
        environment = {**os.environ, **settings, **variables}
        done = subprocess.run(
            ["bash", ROOT / "examples" / "multi30k" / f"{name}.sh", *map(str, options)],
            env={variable: str(value) for variable, value in environment.items()},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        return done

    return script


@pytest.fixture(scope="module")
def prepared(run):
    return run("prepare")


@pytest.fixture(scope="module")
def teacher(run, prepared, work):
    run("train_teacher")
    return work / "teacher" / "checkpoint_best.pt"


@pytest.fixture(scope="module")
def student(run, teacher, work):
    """Its checkpoint, and what fairseq-train said."""
    done = run("train_student")
    return work / "student" / "checkpoint_best.pt", done.stdout + done.stderr


def test_prepare(prepared, work, corpus):
    with h5py.File(work / "images.h5") as store:
        assert len(store["ids"]) == len([*(corpus / "images").iterdir()][::2])
    for name in ("dict.en.txt", "dict.de.txt", "sentencepiece.model"):
        shared = [(work / f"{side}-data" / name).read_bytes() for side in ("teacher", "student")]
        assert shared[0] == shared[1], name
    for side, count in (("teacher", TRAIN), ("student", STUDENT)):
        for suffix in ("en", "de"):
            lines = (work / f"{side}-data" / "text" / f"train.{suffix}").read_text().splitlines()
            assert len(lines) == count


def test_prepare_does_nothing_again(prepared, run, work):
    def files():
        return {path: path.stat().st_mtime_ns for path in work.glob("*data/**/*") if path.is_file()}

    before, store = files(), (work / "images.h5").stat().st_mtime_ns
    run("prepare")
    assert files() == before
    assert (work / "images.h5").stat().st_mtime_ns == store


def test_the_student_looks_and_learns_from_the_teacher(student):
    _, said = student
    assert re.search(r"train \|.* kd_loss [\d.]+", said)
    assert re.search(r"train: \d+ of 24 sentences have an image", said)


def test_the_student_of_a_cache_needs_no_teacher(run, student, teacher, work):
    run("cache_teacher")
    checkpoint, _ = student
    away = teacher.rename(work / "away.pt")
    try:
        done = run("train_student", CACHE=work / "teacher.h5", SAVE=work / "cached")
    finally:
        away.rename(teacher)
    assert re.search(r"train \|.* kd_loss [\d.]+", done.stdout + done.stderr)
    live, cached = (
        folder / "checkpoint_last.pt" for folder in (checkpoint.parent, work / "cached")
    )
    assert_same_weights(cached, live, atol=2e-2)  # what the cache leaves out is little


def test_a_student_goes_on_with_images(run, prepared, work):
    text, images = work / "text", work / "student-with-images"
    run("train_student", TEACHER="", IMAGES="", SAVE=text)
    done = run("train_student", TEACHER="", INIT=text / "checkpoint_best.pt", SAVE=images)
    said = done.stdout + done.stderr
    assert "tensors were taken" in said
    assert "kd_loss" not in said
    assert len(weights(images / "checkpoint_best.pt")) > len(weights(text / "checkpoint_best.pt"))


def test_evaluate_scores_every_test_set(run, student, multi30k):
    checkpoint, _ = student
    printed = run("evaluate").stdout
    with_image = re.search(rf"{TEST}, {checkpoint}, (\d) of 6 sentences have an image", printed)
    assert with_image
    assert 0 < int(with_image.group(1)) < TESTED
    generated = (checkpoint.parent / f"{TEST}.generate").read_text()
    by_number = {int(n): text for n, text in re.findall(r"^H-(\d+)\t\S+\t(.*)$", generated, re.M)}
    hypotheses = (checkpoint.parent / f"{TEST}.hyp").read_text().splitlines()
    assert hypotheses == [by_number[number] for number in range(TESTED)]
    references = (multi30k / "text" / "test_2016_flickr.de").read_text().splitlines()
    for name, metric in (("BLEU", sacrebleu.BLEU()), ("chrF2", sacrebleu.CHRF())):
        score = metric.corpus_score(hypotheses, [references]).score
        assert re.search(rf"^ *{name}\|.* = {score:.2f}", printed, re.M), name


def test_evaluate_a_model_without_images(run, teacher):
    options = ("--lenpen", "0.5")
    printed = run("evaluate", teacher, *options, IMAGES="", SUBSETS=TEST).stdout
    assert f"{TEST}, {teacher}\n" in printed
    assert "'lenpen': 0.5" in (teacher.parent / f"{TEST}.log").read_text()


def test_another_pair(run, prepared, work, multi30k, tmp_path):
    """With the same store of images."""
    pair = {"SOURCE": "de", "TARGET": "en", "WORK": tmp_path, "IMAGES": work / "images.h5"}
    run("prepare", **pair)
    assert {path.name for path in tmp_path.iterdir()} == {"teacher-data", "student-data"}
    run("train_teacher", **pair)
    teacher = tmp_path / "teacher" / "checkpoint_best.pt"
    printed = run("evaluate", teacher, **{**pair, "IMAGES": ""}).stdout
    references = (multi30k / "text" / "test_2016_flickr.en").read_text().splitlines()
    hypotheses = (teacher.parent / f"{TEST}.hyp").read_text().splitlines()
    score = sacrebleu.BLEU().corpus_score(hypotheses, [references]).score
    assert re.search(rf"^ *BLEU\|.* = {score:.2f}", printed, re.M)


def test_one_store_is_prepared(run):
    assert "only one store" in run("prepare", IMAGES="one.h5:other.h5", code=1).stderr


def test_evaluate_says_why_it_failed(run, prepared, work):
    done = run("evaluate", work / "none.pt", code=1)
    assert "none.pt" in done.stderr
    assert TEST not in done.stdout  # no score
