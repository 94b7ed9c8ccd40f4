"""examples/multi30k/masked_source.sh, whole, on a few sentences with colours."""

import json
import os
import random
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COLOURS = {"red": "rotes", "blue": "blaues", "green": "grünes"}
THINGS = {"car": "Auto", "shirt": "Hemd", "house": "Haus", "boat": "Boot"}
LINES = {"train": 48, "val": 9, "test_2016_flickr": 9}
OPTIONS = """# tiny
--arch cross_modal_rnn_tiny
--encoder-embed-dim 32
--encoder-hidden-size 32
--decoder-embed-dim 32
--decoder-hidden-size 32
--share-all-embeddings
--criterion label_smoothed_cross_entropy
--optimizer adam
--lr 0.01
--batch-size 8
--max-epoch 2
--num-workers 0
--ignore-unused-valid-subsets
--no-epoch-checkpoints
"""
WITH_IMAGES = "--fusion-dim 16\n--fusion-heads 2\n--fusion-ffn-dim 32\n--fusion-residual\n"


@pytest.fixture(scope="module")
def coloured(store, corpus, tmp_path_factory):
    """The folder of a Multi30k of coloured things, a store of its images, and option files."""
    folder = tmp_path_factory.mktemp("coloured")
    text = folder / "root" / "text"
    text.mkdir(parents=True)
    rng = random.Random(1)
    ids = sorted(path.name for path in (corpus / "images").iterdir())
    for split, count in LINES.items():
        pairs = [(rng.choice([*COLOURS]), rng.choice([*THINGS])) for _ in range(count)]
        columns = {
            "en": [f"a {colour} {thing}" for colour, thing in pairs],
            "de": [f"ein {COLOURS[colour]} {THINGS[thing]}" for colour, thing in pairs],
            "images": rng.sample(ids, count),
        }
        for suffix, lines in columns.items():
            (text / f"{split}.{suffix}").write_text("".join(f"{line}\n" for line in lines))
    (folder / "configs").mkdir()
    (folder / "configs" / "masked-source.options").write_text(OPTIONS)
    (folder / "configs" / "masked-source-images.options").write_text(WITH_IMAGES)
    (folder / "configs" / "masked-source-going-on.options").write_text("--max-epoch 1\n")
    (folder / "images.h5").symlink_to(store)
    return folder


@pytest.fixture(scope="module")
def run(coloured, commands):
    """A function that runs the script with a seed: (seed, *options) -> what it printed."""

    def script(seed, *options, code=0):
        settings = {
            "PATH": f"{commands}:{os.environ['PATH']}",
            "MULTI30K_ROOT": coloured / "root",
            "SUBSET": 40,
            "WORK": coloured,
            "TEST": "test_2016_flickr",
            "SEED": seed,
            "CONFIGS": coloured / "configs",
        }
        done = subprocess.run(
            ["bash", ROOT / "examples" / "multi30k" / "masked_source.sh", *options],
            env={**os.environ, **{name: str(value) for name, value in settings.items()}},
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == code, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout + done.stderr

    return script


@pytest.fixture(scope="module")
def printed(run):
    return run(1)


def test_the_texts_differ_in_the_colours_alone(printed, coloured):
    masked, unmasked = (coloured / "masked" / name / "text" for name in ("masked", "unmasked"))
    for split in ("train", "valid", "test"):
        assert (masked / f"{split}.de").read_text() == (unmasked / f"{split}.de").read_text()
        for line, whole in zip(
            (masked / f"{split}.en").read_text().splitlines(),
            (unmasked / f"{split}.en").read_text().splitlines(),
        ):
            article, colour, thing = whole.split()
            assert colour in COLOURS
            assert line == f"{article} vvv {thing}"


def test_both_other_students_go_on_from_the_first(printed):
    taken = [line for line in printed.splitlines() if "tensors were taken" in line]
    assert ["unmasked-student1/checkpoint_best.pt" in line for line in taken] == [True, True]
    with_images, without = (
        re.search(r"(\d+) of the model's (\d+)", line).groups() for line in taken
    )
    assert with_images[0] == without[0] == without[1] < with_images[1]


def test_every_masked_word_is_asked_for(printed, coloured):
    awareness = json.loads((coloured / "masked" / "awareness1.json").read_text())
    assert awareness["with_image"] == LINES["test_2016_flickr"]
    assert awareness["masked_words"]["words"] == LINES["test_2016_flickr"]  # one a sentence
    assert awareness["baseline"].endswith("text-only-student1/checkpoint_best.pt")
    assert 0 <= awareness["masked_words"]["baseline"] <= 1


def test_other_options_are_refused(printed, run, coloured):
    """Else the second student would be gone on with, and the first one's figures pass for its."""
    said = run(1, "--image-dropout", "0.1", code=1)  # of the student with images alone
    assert f"{coloured}/masked/student1 has a checkpoint of another command: nothing became" in said
    assert said.count("--image-dropout 0.1") == 1
    assert "Loaded checkpoint" in said  # of the student without images, whose options are the same


@pytest.fixture
def put_aside(printed, coloured, tmp_path):
    """Without the two students that go on, which are there again afterwards."""
    folders = [coloured / "masked" / name for name in ("student1", "text-only-student1")]
    for folder in folders:
        shutil.move(folder, tmp_path / folder.name)
    yield
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.move(tmp_path / folder.name, folder)


def test_further_flags_are_for_the_student_with_images(put_aside, run, coloured):
    run(1, "--image-dropout", "0.1")
    commands = {
        name: (coloured / "masked" / name / "command").read_text()
        for name in ("student1", "text-only-student1")
    }
    assert "--image-dropout 0.1" in commands["student1"]
    assert "--image-dropout" not in commands["text-only-student1"]


def test_another_seed_is_another_student(printed, run, coloured):
    first = coloured / "masked" / "student1" / "checkpoint_best.pt"
    before = first.read_bytes()
    run(2)
    second = json.loads((coloured / "masked" / "awareness2.json").read_text())
    assert second["checkpoint"].endswith("student2/checkpoint_best.pt")
    assert (
        first.read_bytes() == before != (coloured / "masked" / "student2" / first.name).read_bytes()
    )
