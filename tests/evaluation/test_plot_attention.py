"""python -m caf_dkd_plugin plot-attention"""

import re

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils
from PIL import Image

from caf_dkd_plugin.__main__ import main
from caf_dkd_plugin.data.image_store import Description, ImageStore
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter
from caf_dkd_plugin.evaluation.attention_plot import heading, plot_attention, stack
from caf_dkd_plugin.evaluation.plot_attention import WORDS_IN_A_ROW


@pytest.fixture
def plot(data_bin, corpus, tmp_path, capsys):
    """A function that runs the command: (checkpoint, store, sentences, *options) -> the picture and
    what is printed, or the errors where it fails."""
    output = tmp_path / "attention.png"

    def run(checkpoint, store, sentences, *options, data=data_bin, images=corpus / "images"):
        words = [data, "--path", checkpoint, "--image-h5", store, "--output", output]
        words += ["--sentences", *sentences, *options]
        words += [] if images is None else ["--images", images]
        code = main(["plot-attention", *map(str, words)])
        out, err = capsys.readouterr()
        if code:
            assert out == ""
            assert not output.exists()
            return [line[7:] for line in err.splitlines() if line.startswith("error: ")]
        assert not list(tmp_path.glob("*.partial"))
        with Image.open(output) as picture:
            assert picture.format == "PNG"
            return np.array(picture), out

    return run


@pytest.fixture(scope="module")
def attention_of(teacher, data_bin, store):
    """A function that gives the attention of the test sentences' tokens by the model's own maps."""
    overrides = {"image_h5": str(store), "data": str(data_bin)}
    [model], _, task = checkpoint_utils.load_model_ensemble_and_task([str(teacher.best)], overrides)
    task.load_dataset("test")
    model.eval()

    def attention(number):
        """(S, R), of all tokens but the end of the sentence."""
        sample = task.dataset("test").collater([task.dataset("test")[number]])
        with torch.no_grad():
            _, extra = model(**sample["net_input"], need_maps=True)
        return extra["maps"]["fusion"][0].mean(dim=0).numpy()[:-1]

    return attention


def write_store(path, ids, shape, layer):
    """A store of rows of random features of a shape (R, D)."""
    description = Description("made-up", layer, "none", "0" * 64, "none")
    writer = ImageStoreWriter(path, ids, shape, "float32", description)
    rows = np.random.default_rng(0).normal(size=(len(ids), *shape)).astype("float32")
    writer.write(range(len(ids)), rows)
    writer.finish()
    return path


def ids_of(data_bin, split="test"):
    return (data_bin / f"{split}.images").read_text().split("\n")[:-1]


# -- what is drawn --------------------------------------------------------------------------------


def test_every_word_of_every_sentence_over_its_own_photograph(
    plot, teacher, store, corpus, data_bin, attention_of, generate
):
    """The picture is put together by hand; its parts are tests of test_attention_plot.py."""
    options = ("--max-len-b", "200")  # fairseq's default
    translations = generate(teacher.best, "--image-h5", store, *options).hypotheses()
    sentences = (corpus / "text" / "test.en").read_text().splitlines()
    rows, lines = [], []
    for number in (4, 1):
        words = sentences[number].split()
        title = f"test {number}: {translations[number]}"
        lines.append(f"test {number}: {sentences[number]} -> {translations[number]}")
        panels = []
        with Image.open(corpus / "images" / ids_of(data_bin)[number]) as picture:
            for first in range(0, len(words), WORDS_IN_A_ROW):
                shown = [
                    place for place in range(len(words)) if 0 <= place - first < WORDS_IN_A_ROW
                ]
                panels.append(plot_attention(picture, words, attention_of(number), shown, (2, 2)))
        rows += [heading(title, panels[0].width), *panels]
    assert len(rows) > 4, "no sentence is longer than a row"
    found, out = plot(teacher.best, store, [4, 1], "--beam", 2)
    np.testing.assert_array_equal(found, np.array(stack(rows)))
    assert out.splitlines()[:2] == lines


def test_regions_of_another_grid(plot, teacher, store):
    """Of the four regions, those in one row are beside each other."""
    square, _ = plot(teacher.best, store, [0])
    row, _ = plot(teacher.best, store, [0], "--grid", 1, 4)
    assert row.shape == square.shape
    assert not np.array_equal(row, square)


def test_subwords_are_joined(train, fairseq, corpus, plot, store, tmp_path):
    data = tmp_path / "bin"
    for split in ("train", "valid", "test"):
        for lang in ("en", "de"):
            lines = (corpus / "text" / f"{split}.{lang}").read_text().splitlines()
            # every word in two pieces, in the manner of sentencepiece
            pieces = [" ".join(f"▁{w[:1]} {w[1:]}".strip() for w in x.split()) for x in lines]
            (tmp_path / f"{split}.{lang}").write_text("".join(f"{x}\n" for x in pieces))
    prefixes = [f"--{split}pref={tmp_path / split}" for split in ("train", "valid", "test")]
    fairseq("preprocess", "-s", "en", "-t", "de", "--destdir", data, *prefixes)
    for split in ("train", "valid", "test"):
        (data / f"{split}.images").write_text((corpus / "text" / f"{split}.images").read_text())
    trained = train(tmp_path / "model", "--image-h5", store, data=data)
    found, out = plot(trained.last, store, [0], data=data)
    sentence = (corpus / "text" / "test.en").read_text().splitlines()[0]
    assert out.startswith(f"test 0: {sentence} -> ")
    assert "▁" not in out
    assert (
        found.shape[1]
        == plot_attention(
            Image.new("RGB", (8, 8)), "abcdef", np.zeros((6, 4)), range(6), (2, 2)
        ).width
    )


def test_of_several_folders_the_first_is_read(plot, teacher, store, data_bin, tmp_path):
    found, said = plot(teacher.best, store, [0], data=f"{data_bin}:{tmp_path}")
    expected, same = plot(teacher.best, store, [0])
    np.testing.assert_array_equal(found, expected)
    assert said == same


def test_pixels_of_the_store_or_photographs(
    train, pixel_store, backbone_options, corpus, data_bin, plot, tmp_path
):
    trained = train(tmp_path / "model", "--image-h5", pixel_store, *backbone_options)
    sentences = [0, 1]
    found, _ = plot(trained.last, pixel_store, sentences, images=None)
    store, folder = ImageStore(pixel_store), tmp_path / "photographs"
    folder.mkdir()
    for name in (ids_of(data_bin)[number] for number in sentences):
        Image.fromarray(store.read([store.row_of(name)])[0]).save(folder / name)
    same, _ = plot(trained.last, pixel_store, sentences, images=folder)
    np.testing.assert_array_equal(found, same)
    larger, _ = plot(trained.last, pixel_store, sentences)
    assert not np.array_equal(found, larger)


# -- what is refused ------------------------------------------------------------------------------


def test_all_sentences_that_cannot_be_drawn_are_named(
    plot, teacher, data_copy, corpus, write_store, tmp_path
):
    ids = ids_of(data_copy)
    store = write_store(tmp_path / "store.h5", [name for name in ids if name and name != ids[1]])
    folder = tmp_path / "photographs"
    folder.mkdir()
    (folder / ids[2]).write_text("no picture")
    found = plot(teacher.best, store, [0, 22, 3, 1, 2], data=data_copy, images=folder)
    assert found[0] == f"--sentences 0: there is no photograph {folder / ids[0]}"
    assert found[1] == f"--sentences 22: test of {data_copy} has 22 sentences, 0 to 21"
    assert found[2] == "--sentences 3 has no image, on purpose (test.images)"
    assert found[3] == f"--sentences 1: its image {ids[1]} is not in {store}"
    assert found[4].startswith(f"--sentences 2: {folder / ids[2]} is not a readable picture: ")
    assert len(found) == 5


def test_a_source_without_words(plot, fairseq, teacher, corpus, store, data_copy, tmp_path):
    (tmp_path / "test.en").write_text("a man\n\n")
    (tmp_path / "test.de").write_text("ein mann\nein mann\n")
    dictionaries = ("--srcdict", data_copy / "dict.en.txt", "--tgtdict", data_copy / "dict.de.txt")
    given = ("--testpref", tmp_path / "test", "--destdir", data_copy)
    fairseq("preprocess", "-s", "en", "-t", "de", *given, *dictionaries)
    names = (corpus / "text" / "test.images").read_text().splitlines()[:2]
    (data_copy / "test.images").write_text("".join(f"{name}\n" for name in names))
    [error] = plot(teacher.best, store, [0, 1], data=data_copy)
    assert error == "--sentences 1 of test: the source has no words"


def test_features_need_photographs(plot, teacher, store):
    [found] = plot(teacher.best, store, [0], images=None)
    assert "has features of test_00000.png, but not the picture: say with --images" in found


def test_all_paths_that_are_wrong(plot, tmp_path):
    missing = tmp_path / "none"
    found = plot(missing, missing, [0], "--output", missing / "x.png", images=missing)
    assert found[0] == f"--output {missing / 'x.png'}: there is no folder {missing}"
    assert found[1] == f"--images {missing} is no folder"
    assert sum(str(missing) in line and "does not exist" in line for line in found[2:]) == 2
    assert len(found) == 4


def test_a_model_without_images(plot, train, store, tmp_path):
    [found] = plot(train(tmp_path / "text").last, store, [0])
    assert "reads no images" in found


def test_two_models_at_once(plot, teacher, store):
    [found] = plot(f"{teacher.best}:{teacher.last}", store, [0])
    assert "is 2 models: draw one at a time" in found


def test_another_split(plot, teacher, store):
    [found] = plot(teacher.best, store, [0], "--gen-subset", "test7")
    assert "has no split 'test7'" in found


@pytest.mark.parametrize(
    ("shape", "layer", "options", "message"),
    [
        ((1, 8), "global", (), "a single vector has no regions"),
        ((1, 8), "global", ("--grid", 1, 1), "a single vector has no regions"),
        ((6, 8), "grid", (), "the 6 regions of .* are not known to be a square grid"),
        ((4, 8), "regions", (), "the 4 regions of .* are not known to be a square grid"),
        ((6, 8), "grid", ("--grid", 2, 2), "--grid 2 2 has 4 regions, the images of .* have 6"),
    ],
)
def test_regions_that_are_no_grid(shape, layer, options, message, plot, train, data_bin, tmp_path):
    ids = {*ids_of(data_bin, "train"), *ids_of(data_bin)} - {""}
    store = write_store(tmp_path / "x.h5", sorted(ids), shape, layer)
    untrained = train(
        tmp_path / "model", "--image-h5", store, "--image-missing", "mask", "--max-update", "1"
    )
    [found] = plot(untrained.last, store, [0], *options)
    assert re.search(message, found)
