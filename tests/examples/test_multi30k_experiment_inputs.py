"""What the experiment refuses before anything starts, and what it was asked."""

import shutil
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MULTI30K = ROOT / "examples" / "multi30k"
LSTM = "--arch lstm\n--criterion label_smoothed_cross_entropy\n--max-epoch 1\n--batch-size 8\n--eval-bleu\n"


def test_all_problems_are_reported_at_once(problems, tmp_path):
    def change(configs):
        (configs / "5k.options").unlink()
        path = configs / "1k.options"
        path.write_text(path.read_text() + "--seed 3\n--no-such-flag 1\n")

    found = "\n".join(
        problems("--image-h5", tmp_path / "no.h5", "--root", tmp_path / "none", change=change)
    )
    for message in ("5k.options cannot be read", "no.h5", "none is no Multi30k"):
        assert message in found
    found = "\n".join(problems("--sizes", "1k"))
    assert "the options of 1k kd have --seed, which the experiment sets by itself" in found
    assert "unrecognized arguments: --no-such-flag" in found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sizes", "10k"], "--subset 10000: train has 64 lines"),
        (["--teachers", "teacher", "teacher:1"], "names one twice"),
        (["--teachers", "giant"], "giant.options cannot be read"),
    ],
)
def test_what_is_not_there_is_named(options, message, problems):
    def change(configs):
        for name in ("10k", "10k-undistilled"):
            shutil.copy(configs / "5k.options", configs / f"{name}.options")

    assert message in "\n".join(problems(*options, change=change))


def test_fairseqs_lstm_has_options_for_each_size(problems):
    """Those of all pairs would leave a student of 1,000 hardly trained."""

    def change(configs):
        (configs / "lstm-5k.options").write_text(LSTM)

    assert problems("--sizes", "5k", "--arms", "lstm", change=change) == []
    [problem] = problems("--arms", "lstm", change=change)
    assert (
        "lstm-1k.options cannot be read: there is no such file; nearest to it are lstm-5k"
        in problem
    )


def test_without_images_no_store_is_needed(problems):
    def change(configs):
        path = configs / "teacher.options"
        path.write_text(path.read_text().replace("--image-missing mask\n", ""))

    assert "--image-h5 is missing" in problems("--image-h5", "", "--arms", "text", "image")[0]
    assert problems("--image-h5", "", "--arms", "text", "kd", change=change) == []


def test_a_training_set_without_images_is_refused(problems, write_store, tmp_path):
    other = write_store(tmp_path / "other.h5", ["a.png", "b.png"])
    found = problems("--image-h5", other)
    assert any("none of the 24 lines of the training set 1k has an image" in line for line in found)


def test_missing_images_are_refused_unless_masked(problems, write_store, multi30k, tmp_path):
    ids = (multi30k / "text" / "train.images").read_text().split()
    some = write_store(tmp_path / "some.h5", ids[:30])

    def change(configs):
        (configs / "image.options").write_text("--image-dropout 0.1\n")

    found = "\n".join(problems("--image-h5", some, change=change))
    assert "10 of the 40 images of the training set 5k are not in" in found
    assert "20 of the 20 images of val are not in" in found


def test_lines_that_the_teacher_would_see_are_refused(problems, multi30k, tmp_path):
    root = tmp_path / "root"
    shutil.copytree(multi30k, root)
    options = ("--root", root, "--teacher-subset", "rest")
    assert problems(*options) == []
    path = root / "subsets" / "train_5k.lines"
    path.write_text(path.read_text().replace("\n7\n", "\n 7\n"))
    assert [f"{path} has ' 7': write plain numbers" in line for line in problems(*options)] == [
        True
    ]
    path.write_text("".join(f"{number}\n" for number in range(20, 60)))
    [problem] = problems(*options)
    assert "20 of the 24 lines of 1k are not in 5k" in problem


def test_what_was_asked_names_the_configs_and_smoke(script):
    def asked(*words):
        args = script("experiment").parse_args(["--root", "r", *map(str, words)])
        return script("experiment_inputs")._asked(args)

    assert asked() == asked("--configs", MULTI30K / "configs") == []
    assert asked("--smoke") == ["--smoke"]
    assert asked("--configs", MULTI30K) == ["--configs", "examples/multi30k"]
    assert asked("--configs", "/elsewhere") == ["--configs", "$CONFIGS"]  # no path of a machine
