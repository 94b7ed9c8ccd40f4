"""python -m caf_dkd_plugin commute, on a made-up set in CoMMuTE's layout."""

import shutil

import numpy as np
import pytest
import sentencepiece

from caf_dkd_plugin.evaluation.commute import pairs_of, read_items, right_items
from caf_dkd_plugin.evaluation.image_reader import load_image_reader
from caf_dkd_plugin.evaluation.log_probability import surprisal

# Each source with two images; what is right with the one is wrong with the other.
ITEMS = [
    (noun, *colours)
    for noun in ("ball", "hat", "tree", "car")
    for pair in (("red", "blue"), ("green", "white"))
    for colours in (pair, pair[::-1])
]


@pytest.fixture
def folder(looker, write_lines, tmp_path):
    folder = tmp_path / "commute"
    folder.mkdir()
    write_lines(folder / "src.en", [f"There is a {noun} ." for noun, _, _ in ITEMS])
    write_lines(folder / "correct.de", [looker.german(right, noun) for noun, right, _ in ITEMS])
    write_lines(folder / "incorrect.de", [looker.german(wrong, noun) for noun, _, wrong in ITEMS])
    write_lines(folder / "img.order", [f"{right}.png" for _, right, _ in ITEMS])
    return folder


@pytest.fixture
def commute(command, looker, folder):
    """A function that runs the command: (*options, and what of the looker to replace)."""

    def run(*options, data=looker.data, checkpoint=looker.checkpoint, store=looker.store):
        words = ("commute", data, "--path", checkpoint, "--commute", folder, "--image-h5", store)
        return command(*words, *options)

    return run


def test_a_model_that_looks_is_right_and_by_half_without_images(commute):
    found = commute("--target-lang", "de")
    assert found["items"] == len(ITEMS) == 16
    assert (found["image"]["accuracy"], found["image"]["right"]) == (1, 16)
    assert found["image"]["interval_95"] == pytest.approx([0.8064, 1], abs=1e-4)
    assert found["none"]["accuracy"] == 0.5
    assert (
        "with the image  100.0%  (16 of 16; 95 % interval, Wilson: 80.6% to 100.0%)"
        in (found["table"])
    )


def test_with_the_wrong_images_it_is_wrong(commute, folder, write_lines):
    write_lines(folder / "img.order", [f"{wrong}.png" for _, _, wrong in ITEMS])
    assert commute()["image"]["accuracy"] == 0


def test_equal_translations_count_as_half(commute, folder):
    (folder / "incorrect.de").write_text((folder / "correct.de").read_text())
    found = commute()
    assert found["image"]["right"] == found["none"]["right"] == 8
    bits = [np.array([1, 2, 1 + 1e-7, 1]), np.array([2, 1, 1, 1])]
    assert right_items(*bits).tolist() == [1, 0, 0.5, 0.5]


def test_the_mean_over_tokens_is_compared(commute, folder, looker, write_lines):
    """On random words, of which the sum would often decide otherwise."""
    rng = np.random.default_rng(0)
    words = ["Da", "ist", "ein", "roter", "blauer", "Ball.", "Hut.", "Baum."]
    lines = [[" ".join(rng.choice(words, rng.integers(1, 9))) for _ in ITEMS] for _ in range(2)]
    write_lines(folder / "correct.de", lines[0])
    write_lines(folder / "incorrect.de", lines[1])
    reader = load_image_reader(*map(str, (looker.checkpoint, looker.data, looker.store)), cpu=True)
    source, target = reader.task.source_dictionary, reader.task.target_dictionary
    sources = (folder / "src.en").read_text().splitlines()
    rows = [reader.images.row_of(f"{right}.png") for _, right, _ in ITEMS]
    correct, incorrect = (
        surprisal(
            reader.models,
            reader.samples(
                pairs_of(sources, side, source, target, str),
                np.array(rows),
                np.arange(len(ITEMS)),
                4000,
            ),
            target.pad(),
        )
        for side in lines
    )
    expected = int((correct.per_sentence() < incorrect.per_sentence()).sum())
    assert commute()["image"]["right"] == expected != int((correct.bits < incorrect.bits).sum())


def test_sentencepiece_cuts_where_it_is_there(commute, looker, folder, tmp_path):
    """A model that cuts the sentences into other words than the dictionary's is refused."""
    prefix = tmp_path / "letters"
    sentencepiece.SentencePieceTrainer.train(
        input=looker.data / "text" / "train.de",
        model_prefix=str(prefix),
        model_type="char",
        minloglevel=2,
    )
    found = commute("--sentencepiece-model", f"{prefix}.model")
    assert [error.partition(" of the ")[2].split(" ", 1)[1] for error in found] == [
        f"tokens of the {side} sentences are not in the model's dictionary: give the "
        "--sentencepiece-model that its training text was cut with, and sentences of its languages"
        for side in ("source", "correct", "incorrect")
    ]
    data = shutil.copytree(looker.data, tmp_path / "data")
    shutil.copy(f"{prefix}.model", data / "sentencepiece.model")
    assert commute(data=f"{data}:{tmp_path}") == commute(data=data) == found
    (tmp_path / "none.model").write_text("none")
    [error] = commute("--sentencepiece-model", tmp_path / "none.model")
    assert "none.model is no sentencepiece model" in error


def test_all_that_is_wrong_is_said(
    commute, folder, train, looker, write_lines, write_colours, tmp_path
):
    write_lines(folder / "src.en", ["There is a ball ."] * 3)
    (folder / "incorrect.de").unlink()
    missing, lengths = commute()
    assert f"{folder / 'incorrect.de'} cannot be read" in missing
    assert "have: src.en 3, correct.de 16, img.order 16" in lengths
    [error] = commute(store=write_colours(tmp_path / "few.h5", ["red.png", "blue.png"]))
    assert "features of size 4, but " in error
    text = train(tmp_path / "text", data=looker.data)
    [error] = commute(checkpoint=text.last)
    assert "reads no images" in error


def test_a_byte_order_mark_is_no_word(folder):
    expected = read_items(folder, "en", "de")
    for name in ("src.en", "correct.de", "incorrect.de", "img.order"):
        content = (folder / name).read_bytes().replace(b"\n", b"\r\n")
        (folder / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert read_items(folder, "en", "de") == expected


def test_images_that_are_not_in_the_store_are_named(commute, folder, write_lines):
    names = ["violet.png", "", *[f"{right}.png" for _, right, _ in ITEMS[2:]]]
    write_lines(folder / "img.order", names)
    [error] = commute()
    assert f"{folder / 'img.order'} says nothing in line 2" in error
    write_lines(folder / "img.order", ["violet.png", *names[:1], *names[2:]])
    [error] = commute()
    assert "lacks 1 of the images that " in error
    assert error.split(": ")[2].startswith("violet.png. ")


def test_the_target_language_is_the_models_or_the_one_that_is_said(commute, folder):
    for kind in ("correct", "incorrect"):
        (folder / f"{kind}.de").rename(folder / f"{kind}.fr")
    assert len(commute()) == 2
    assert commute("--target-lang", "fr")["image"]["accuracy"] == 1
