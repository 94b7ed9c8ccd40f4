"""caf_dkd_plugin.Translator says what the commands say."""

import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from caf_dkd_plugin import Translator
from caf_dkd_plugin.data.image_store import ImageStore

LANGUAGES = ("en", "de")
SEARCH = {"beam": 2, "max_len_b": 20}  # conftest's GENERATION


@pytest.fixture(scope="module")
def translator(teacher, store):
    return Translator.from_pretrained(teacher.best, image_h5=store)


@pytest.fixture(scope="module")
def lines(corpus, data_bin):
    """The sentences of the test set and the ids of their images, None for none."""
    sentences = (corpus / "text" / "test.en").read_text().splitlines()
    ids = (data_bin / "test.images").read_text().splitlines()
    return sentences, [image or None for image in ids]


@pytest.fixture(scope="module")
def photo_store(extract):
    """The features that a real backbone made of the corpus's pictures."""
    return extract("--backbone mobilenet_v3_small --weights none --image-size 64")


@pytest.fixture(scope="module")
def photographer(train, photo_store, tmp_path_factory):
    """A model of `photo_store`: (checkpoint, store)."""
    folder = tmp_path_factory.mktemp("photographer")
    return train(folder, "--image-h5", photo_store, "--max-epoch", "3").last, photo_store


# -- the same as the commands ---------------------------------------------------------------------


def texts(translations):
    return dict(enumerate(translation.text for translation in translations))


def test_it_says_what_generate_says(translator, generate, teacher, store, lines):
    expected = generate(teacher.best, "--image-h5", store)
    for batch_size in (1, 8):
        found = translator.translate(*lines, batch_size=batch_size, **SEARCH)
        assert texts(found) == expected.hypotheses()
    scores = [line.split("\t")[1] for line in expected.out.splitlines() if line.startswith("H-0\t")]
    assert found[0].score == pytest.approx(float(scores[0]), rel=1e-4)


def test_options_of_the_search_are_fairseqs(translator, generate, teacher, store, lines):
    more = ("--beam", "3", "--lenpen", "3", "--max-len-b", "7")
    expected = generate(teacher.best, "--image-h5", store, *more).hypotheses()
    assert texts(translator.translate(*lines, beam=3, lenpen=3, max_len_b=7)) == expected
    with pytest.raises(TypeError, match="beams"):
        translator.translate(*lines, beams=3)


def test_an_ensemble_is_that_of_generate(generate, teacher, student, store, lines):
    paths = f"{teacher.best}:{student.best}"
    expected = generate(paths, "--image-h5", store).hypotheses()
    found = Translator.from_pretrained(paths, image_h5=store).translate(*lines, **SEARCH)
    assert texts(found) == expected


def test_without_images_it_translates_the_text_alone(translator, generate, teacher, lines):
    sentences, _ = lines
    expected = generate(teacher.best, "--image-missing", "mask").hypotheses()
    assert texts(translator.translate(sentences, **SEARCH)) == expected


def test_a_text_only_model_translates_too(train, generate, lines, tmp_path):
    trained = train(tmp_path)
    found = Translator.from_pretrained(trained.last).translate(lines[0], **SEARCH)
    assert texts(found) == generate(trained.last).hypotheses()
    assert all(translation.attention is None for translation in found)


# -- photographs ----------------------------------------------------------------------------------


def test_ids_paths_and_open_pictures_are_the_same(photographer, corpus, lines):
    checkpoint, store = photographer
    sentences, ids = lines
    paths = [image and corpus / "images" / image for image in ids]
    opened = [path and Image.open(path) for path in paths]
    by_id = Translator.from_pretrained(checkpoint, image_h5=store)
    expected = by_id.translate(sentences, ids, **SEARCH)
    mixed = [(ids, paths, opened)[place % 3][place] for place in range(len(ids))]
    without_store = Translator.from_pretrained(checkpoint)
    for translator, images in (
        (by_id, mixed),
        (by_id, paths),
        (without_store, paths),
        (without_store, opened),
    ):
        found = translator.translate(sentences, images, **SEARCH)
        assert texts(found) == texts(expected)
        for one, other in zip(found, expected):
            assert one.score == pytest.approx(other.score, abs=1e-3)
    assert len({t.score for t in expected} - {t.score for t in by_id.translate(sentences)}) > 10


def test_a_model_of_pixels_needs_nothing_but_its_checkpoint(
    train, pixel_store, backbone_options, corpus, lines, tmp_path
):
    trained = train(tmp_path, "--image-h5", pixel_store, *backbone_options, "--max-epoch", "3")
    sentences, ids = lines
    paths = [image and corpus / "images" / image for image in ids]
    by_id = Translator.from_pretrained(trained.last, image_h5=pixel_store)
    expected = by_id.translate(sentences, ids, **SEARCH)
    found = Translator.from_pretrained(trained.last).translate(sentences, paths, **SEARCH)
    assert found[0].score == pytest.approx(expected[0].score, rel=1e-5)
    assert texts(found) == texts(expected)


@pytest.fixture(scope="module")
def other_photographer(train, extract, tmp_path_factory):
    """The same as `photographer`, but for the backbone's weights."""
    store = extract("--backbone mobilenet_v3_small --weights none --seed 2 --image-size 64")
    return train(tmp_path_factory.mktemp("other"), "--image-h5", store).last


def test_photographs_are_for_every_model_of_an_ensemble(
    photographer, other_photographer, train, pixel_store, backbone_options, corpus, tmp_path
):
    picture = corpus / "images" / "test_00000.png"
    pixels = train(tmp_path / "pixels", "--image-h5", pixel_store, *backbone_options).last
    for second in (other_photographer, pixels):
        for pair in ((photographer[0], second), (second, photographer[0])):
            ensemble = Translator.from_pretrained(":".join(map(str, pair)))
            with pytest.raises(ValueError, match=r"of another kind|was trained with"):
                ensemble.translate(["a"], [picture])


def test_a_text_only_model_may_stand_beside_one_with_images(photographer, train, corpus, tmp_path):
    picture = corpus / "images" / "test_00000.png"
    text = train(tmp_path).last
    found = []
    for pair in ((photographer[0], text), (text, photographer[0])):
        ensemble = Translator.from_pretrained(":".join(map(str, pair)))
        found += ensemble.translate(["A man holds a bat."], [picture], **SEARCH)
    assert found[0].text == found[1].text
    np.testing.assert_allclose(found[0].attention, found[1].attention)


def test_a_text_only_model_may_stand_beside_one_that_reads_a_store(
    teacher, store, train, generate, lines, tmp_path
):
    text = train(tmp_path).last
    for pair in ((teacher.best, text), (text, teacher.best)):
        paths = ":".join(map(str, pair))
        expected = generate(paths, "--image-h5", store)
        found = Translator.from_pretrained(paths, image_h5=store).translate(*lines, **SEARCH)
        assert texts(found) == expected.hypotheses()
        blind = Translator.from_pretrained(paths).translate(lines[0], **SEARCH)
        assert [t.score for t in found] != [t.score for t in blind]


# -- attention ------------------------------------------------------------------------------------


def test_attention_is_the_models_map_of_each_sentence(translator, teacher, store, lines):
    sentences, ids = lines
    found = translator.translate(sentences, ids, **SEARCH)
    [model] = translator._models
    images = ImageStore(store)
    for sentence, image, translation in zip(sentences, ids, found):
        assert translation.source_tokens == [*sentence.split(), "</s>"]
        if image is None:
            assert translation.attention is None
            continue
        tokens = translator._task.source_dictionary.encode_line(sentence, add_if_not_exist=False)
        features = torch.from_numpy(images.read([images.row_of(image)]))
        with torch.no_grad():
            maps = model.encoder(
                tokens.long()[None], None, features, torch.ones(1, 4).bool(), need_maps=True
            )["fusion_map"]
        expected = maps[0].mean(dim=0).numpy()
        np.testing.assert_allclose(translation.attention, expected, rtol=1e-4, atol=1e-6)


# -- subwords -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def subwords(train, fairseq, corpus, photo_store, load_script, tmp_path_factory):
    """A folder as README.md has it: text/spm.model, data-bin, and the training in student."""
    folder = tmp_path_factory.mktemp("subwords")
    text = Path(shutil.copytree(corpus / "text", folder / "text"))
    files = [text / f"{split}.{lang}" for split in ("train", "valid", "test") for lang in LANGUAGES]
    learned = ("--learn-from", *files[:2], "--vocab-size", 200)
    command = [*files, "--sentencepiece", text / "spm.model", *learned]
    assert load_script("split_into_pieces").main(list(map(str, command))) == 0
    data = folder / "data-bin"
    prefixes = [f"--{split}pref={text / 'sp'}.{split}" for split in ("train", "valid", "test")]
    fairseq("preprocess", "-s", "en", "-t", "de", "--destdir", data, *prefixes)
    for split in ("train", "valid", "test"):
        (data / f"{split}.images").write_text((text / f"{split}.images").read_text())
    train(folder / "student", "--image-h5", photo_store, "--max-epoch", "2", data=data)
    return folder


def test_subwords_are_cut_and_joined(subwords, fairseq, corpus, photo_store, tmp_path):
    text, data = corpus / "text", subwords / "data-bin"
    checkpoint, spm = subwords / "student" / "checkpoint_last.pt", subwords / "text" / "spm.model"
    options = shlex.split("--task multimodal_translation --beam 2 --max-len-b 20 --num-workers 0")
    (tmp_path / "list").write_text((text / "test.images").read_text())
    run = fairseq(
        *("interactive", data, *options, "--path", checkpoint, "--image-h5", photo_store),
        *("--input", text / "test.en", "--image-list", tmp_path / "list", "--bpe", "sentencepiece"),
        *("--sentencepiece-model", spm),
    )
    expected = [line.split("\t")[2] for line in run.out.splitlines() if line.startswith("D-")]
    translator = Translator.from_pretrained(
        checkpoint, sentencepiece_model=spm, image_h5=photo_store
    )
    images = (text / "test.images").read_text().splitlines()
    sentences = (text / "test.en").read_text().splitlines()
    assert list(texts(translator.translate(sentences, images, **SEARCH)).values()) == expected


def test_the_lines_in_the_readme(subwords, root, corpus, monkeypatch, capsys):
    [block] = re.findall(r"```python\n(.*?)```", (root / "README.md").read_text(), re.DOTALL)
    [photograph] = re.findall(r'"(photos/.*?)"', block)
    (subwords / "photos").mkdir()
    Image.open(corpus / "images" / "test_00000.png").save(subwords / photograph)
    monkeypatch.chdir(subwords)
    names = {}
    exec(block, names)
    translation = names["translation"]
    tokens = translation.source_tokens
    assert len(tokens) == translation.attention.shape[0] > 1
    assert capsys.readouterr().out.splitlines() == [
        f"{translation.text} {translation.score}",
        f"{tokens} {translation.attention.shape}",
    ]


# -- refusals -------------------------------------------------------------------------------------


def test_options_that_would_change_nothing_are_refused(translator):
    with pytest.raises(ValueError, match="nbest, replace_unk: only fairseq's commands act on that"):
        translator.translate(["a man"], replace_unk="x", nbest=3, lenpen=2)


def test_as_many_images_as_sentences(translator):
    with pytest.raises(ValueError, match="1 images for 2 sentences"):
        translator.translate(["a", "b"], [None])


def test_a_text_is_no_list_of_sentences(translator):
    with pytest.raises(ValueError, match="put the one into brackets"):
        translator.translate("a man")


def test_all_problems_are_named_at_once(translator, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match="sentence 1 has 1101 tokens") as error:
        translator.translate(["a", "b " * 1100], ["none.png", None])
    assert "none.png is no file, nor an id of " in str(error.value)


def test_a_file_that_is_no_picture_is_named(photographer, tmp_path):
    (tmp_path / "text.png").write_text("no picture")
    translator = Translator.from_pretrained(photographer[0])
    with pytest.raises(ValueError, match=r"text\.png is not a readable picture"):
        translator.translate(["a"], [tmp_path / "text.png"])


def test_a_text_only_model_refuses_images(train, store, tmp_path):
    trained = train(tmp_path)
    with pytest.raises(ValueError, match="trained without images and cannot use --image-h5"):
        Translator.from_pretrained(trained.last, image_h5=store)
    with pytest.raises(ValueError, match="trained without images and cannot use any"):
        Translator.from_pretrained(trained.last).translate(["a"], [Image.new("RGB", (8, 8))])


def test_features_of_unknown_origin_cannot_be_made(teacher, corpus):
    translator = Translator.from_pretrained(teacher.best)
    with pytest.raises(ValueError, match="their preprocessing is not the one of"):
        translator.translate(["a"], [corpus / "images" / "test_00000.png"])


def test_a_store_of_another_kind_is_refused(teacher, pixel_store):
    with pytest.raises(ValueError, match=r"features of size 8, but .* has pictures of 64 x 64"):
        Translator.from_pretrained(teacher.best, image_h5=pixel_store)


def test_a_checkpoint_of_another_task_is_refused(stock):
    with pytest.raises(ValueError, match="was trained with the task translation, not with"):
        Translator.from_pretrained(stock("lstm").last)
