"""python -m caf_dkd_plugin image-awareness: what it says of models that are known to look or not."""

import json
import re
import shutil
from unittest import mock

import pytest
import torch

from caf_dkd_plugin.checkpoints.load import load_checkpoint
from caf_dkd_plugin.evaluation.scores import score

SPLITS = ("train", "valid", "test")


@pytest.fixture
def awareness(command):
    """A function that runs the command: (DATA, checkpoint, store, *options) -> figures or errors."""

    def run(data, checkpoint, store, *options):
        return command(
            *("image-awareness", data, "--path", checkpoint, "--image-h5", store, "--beam", "2"),
            *("--derangements", "2", *options),
        )

    return run


@pytest.fixture
def of_corpus(awareness, data_bin, store, corpus):
    """The same on the corpus's test set: (checkpoint, *options) -> figures or errors."""
    references = ("--references", corpus / "text" / "test.de")

    def run(checkpoint, *options, data=data_bin, store=store):
        return awareness(data, checkpoint, store, *references, *options)

    return run


@pytest.fixture
def rewritten(looker, fairseq, tmp_path):
    """A function that binarises the looker's text in another form, with the references as they are
    written: (what makes it of a line) -> DATA."""
    data, text = tmp_path / "bin", tmp_path / "text"

    def binarise(change):
        text.mkdir()
        for split in SPLITS:
            for lang in ("en", "de"):
                lines = (looker.data / "text" / f"{split}.{lang}").read_text().split("\n")
                (text / f"{split}.{lang}").write_text("\n".join(map(change, lines)))
        prefixes = [f"--{split}pref={text / split}" for split in SPLITS]
        fairseq("preprocess", "-s", "en", "-t", "de", "--destdir", data, *prefixes)
        shutil.copytree(looker.data / "text", data / "text")
        for split in SPLITS:
            shutil.copy(looker.data / f"{split}.images", data)
        return data

    return binarise


# -- models that are known ------------------------------------------------------------------------


def test_a_model_that_looks(awareness, looker):
    found = awareness(
        *(looker.data, looker.checkpoint, looker.store, "--masked-words", looker.masked)
    )
    assert (found["sentences"], found["with_image"]) == (18, 16)
    words = found["masked_words"]
    assert (words["words"], words["right"], words["deranged"]) == (16, 1, [0, 0])
    assert words["none"] < 0.5
    assert found["bleu"]["right"] == pytest.approx(100)
    for measure in ("masked_words", "bits_per_token"):
        assert found[measure]["p"]["deranged"] < 0.001
        assert found[measure]["gain"]["none"] > 0
    assert found["bits_per_token"]["right"] < 0.2 < 1 < found["bits_per_token"]["gain"]["deranged"]
    assert "test: 16 of 18 sentences have their image in " in found["table"]


def test_a_model_whose_fusion_says_nothing(of_corpus, teacher, tmp_path):
    state = load_checkpoint(teacher.best)
    for name in ("weight", "bias"):
        state["model"][f"encoder.fusion.ffn.3.{name}"].zero_()
    torch.save(state, tmp_path / "blind.pt")
    found = of_corpus(tmp_path / "blind.pt")
    for measure in ("bleu", "bits_per_token"):
        each = found[measure]
        assert {each["right"], *each["deranged"], each["none"]} == {each["right"]}
        assert each["gain"] == {"deranged": 0, "none": 0}
    assert found["bleu"]["p"] == {"deranged": [1, 1], "none": 1}
    assert found["bits_per_token"]["p"] == {"deranged": 1, "none": 1}


# -- the same as the commands ---------------------------------------------------------------------


def bleu_of(run, corpus, data):
    ids = (data / "test.images").read_text().split("\n")
    references = (corpus / "text" / "test.de").read_text().splitlines()
    lines = [line for line in range(len(references)) if ids[line]]
    hypotheses = run.hypotheses()
    texts = [hypotheses[line] for line in lines]
    return score(texts, [[references[line] for line in lines]], "de")["bleu"].value


@pytest.mark.parametrize("ensemble", [False, True])
def test_right_and_none_are_what_generate_says(
    of_corpus, generate, teacher, student, store, corpus, data_bin, ensemble
):
    path = f"{teacher.best}:{student.best}" if ensemble else teacher.best
    found = of_corpus(path)["bleu"]
    for condition, images in (
        ("right", ("--image-h5", store)),
        ("none", ("--image-missing", "mask")),
    ):
        expected = bleu_of(generate(path, *images, "--max-len-b", "200"), corpus, data_bin)
        assert found[condition] == expected
    assert found["right"] != found["none"]


def test_a_baseline_is_what_generate_says_of_it(
    of_corpus, generate, train, teacher, store, corpus, data_bin, tmp_path
):
    text_only = train(tmp_path / "text-only", "--max-epoch", "3").last
    found = of_corpus(teacher.best, "--baseline", text_only)
    expected = bleu_of(generate(text_only, "--max-len-b", "200"), corpus, data_bin)
    assert found["bleu"]["baseline"] == expected
    assert found["baseline"] == str(text_only)
    assert found["bits_per_token"]["baseline"] > 0
    plain = of_corpus(teacher.best)
    assert found["bleu"]["right"] == plain["bleu"]["right"]
    [error] = of_corpus(teacher.best, "--baseline", teacher.best)
    assert f"--baseline {teacher.best} reads images; it is to be a model that" in error
    [error] = of_corpus(teacher.best, "--baseline", tmp_path / "none.pt")
    assert f"--baseline: {tmp_path / 'none.pt'} does not exist" in error


def test_a_baseline_must_be_able_to_translate_the_same(of_corpus, train, teacher, tmp_path):
    short = train(
        *(tmp_path / "short", "--max-source-positions", "9", "--max-target-positions", "9"),
        *("--skip-invalid-size-inputs-valid-test", "--max-update", "1"),
    )
    errors = of_corpus(teacher.best, "--baseline", short.last)
    assert len(errors) == 2
    for side, error in zip(("source", "target"), errors):
        assert error.startswith("error: --baseline: ")
        assert f"{side} sentences of test have more than the 9 tokens" in error
    back = train(tmp_path / "back", "-s", "de", "-t", "en", "--max-update", "1").last
    [error] = of_corpus(teacher.best, "--baseline", back)
    assert f"--baseline {back} translates de-en, --path {teacher.best} en-de" in error


def test_a_model_of_pixels(
    of_corpus, train, generate, pixel_store, backbone_options, corpus, data_bin, tmp_path
):
    trained = train(tmp_path / "model", "--image-h5", pixel_store, *backbone_options)
    found = of_corpus(trained.last, "--derangements", "1", store=pixel_store)
    run = generate(trained.last, "--image-h5", pixel_store, "--max-len-b", "200")
    assert found["bleu"]["right"] == bleu_of(run, corpus, data_bin)
    assert found["bits_per_token"]["right"] != found["bits_per_token"]["none"]


def test_subwords_are_joined_as_the_dictionary_has_them(
    awareness, looker, train_looker, rewritten, tmp_path
):
    """A corpus whose words are marked as sentencepiece does, with references as they are written."""
    data = rewritten(lambda line: " ".join(f"▁{word}" for word in line.split()))
    trained = train_looker(tmp_path / "model", data, looker.store)
    found = awareness(data, trained.last, looker.store)
    assert found["bleu"]["right"] > 90
    [error] = awareness(data, trained.last, looker.store, "--remove-bpe")
    assert f"test in {data} has subwords ('▁') left in 18 of 18 lines" in error


def test_of_several_folders_the_first_is_read(awareness, looker, tmp_path):
    found, expected = (
        awareness(data, looker.checkpoint, looker.store)
        for data in (f"{looker.data}:{tmp_path}", looker.data)
    )
    assert found["data"] == f"{looker.data}:{tmp_path}"
    assert {**found, "data": str(looker.data)} == expected


# -- seeds ----------------------------------------------------------------------------------------


def test_a_seed_decides_the_derangements_alone(of_corpus, teacher):
    one, again, other = (
        of_corpus(teacher.best, "--seed", seed, "--max-tokens", most)["bits_per_token"]
        for seed, most in ((1, 4000), (1, 60), (2, 4000))
    )
    assert one["deranged"] == pytest.approx(again["deranged"], rel=1e-5)
    assert one["right"] == other["right"]
    assert len({*one["deranged"], *other["deranged"]}) == 4


# -- refusals -------------------------------------------------------------------------------------


def test_a_text_only_model_reads_no_images(of_corpus, train, stock, tmp_path):
    [error] = of_corpus(train(tmp_path / "model").last)
    assert "reads no images: it was trained without any" in error
    [error] = of_corpus(stock("lstm").last)
    assert "fairseq-generate translates with it; to use it here, train it with --task" in error


def test_images_of_another_kind_are_refused(of_corpus, teacher, pixel_store):
    [error] = of_corpus(teacher.best, store=pixel_store)
    assert "features of size 8, but " in error
    assert "has pictures of 64 x 64" in error


def test_all_files_that_cannot_be_used_are_named(awareness, data_bin, tmp_path, capsys):
    found = awareness(data_bin, tmp_path / "none.pt", tmp_path / "none.h5")
    assert len(found) == 2
    assert "none.h5" in found[0]
    assert f"{tmp_path / 'none.pt'} does not exist" in found[1]


def test_all_that_is_wrong_with_a_split_is_said(awareness, data_copy, teacher, store, tmp_path):
    (tmp_path / "words.jsonl").write_text("")
    options = ("--masked-words", tmp_path / "words.jsonl")
    absent, words = awareness(data_copy, teacher.best, store, *options)
    path = data_copy / "text" / "test.de"
    assert f"{path} does not exist, the references as written: say with --references" in absent
    assert f"{tmp_path / 'words.jsonl'} has 0 lines, but there are 22 sentences" in words
    path.parent.mkdir()
    path.write_text("Eins.\nZwei.\n")
    [error] = awareness(data_copy, teacher.best, store)
    assert f"{path} has 2 lines, but test in {data_copy} has 22 sentences" in error
    [error] = awareness(data_copy, teacher.best, store, "--gen-subset", "test7")
    assert "has no split 'test7' for en-de" in error


def test_references_of_another_split_are_refused(awareness, looker, tmp_path):
    path, lines = tmp_path / "other.de", (looker.data / "text" / "test.de").read_text().split("\n")
    path.write_text("\n".join([*lines[1:-1], lines[0], ""]))
    [error] = awareness(looker.data, looker.checkpoint, looker.store, "--references", path)
    assert f"{path} is of other sentences than test in {looker.data}: its line 1 is" in error


@pytest.mark.parametrize(
    ("written", "left", "signs"),
    [
        (".", " .", "tokens (' .')"),
        ("ein", "&quot;ein&quot;", "escapes ('&apos;')"),
    ],
)
def test_text_that_is_not_as_written_is_refused(
    written, left, signs, awareness, looker, rewritten, train, tmp_path
):
    data = rewritten(lambda line: line.replace(written, left))
    trained = train(tmp_path / "model", "--image-h5", looker.store, "--max-update", "1", data=data)
    with mock.patch("caf_dkd_plugin.evaluation.image_awareness.run_conditions") as translated:
        [error] = awareness(data, trained.last, looker.store)
    assert not translated.called
    assert f"test in {data} has {signs} left in 18 of 18 lines, first in 'Da ist" in error
    assert "for Moses' tokens give --tokenizer moses" in error


def test_masked_words_that_the_source_says_are_refused(awareness, looker, tmp_path):
    """What comes back then has not been read off any image."""
    path = tmp_path / "masked.jsonl"
    records = looker.masked.read_text().splitlines()
    records[3] = json.dumps({"line": 3, "masked": [{"source": "There", "target": ["Da"]}]})
    path.write_text("".join(f"{record}\n" for record in records))
    options = ("--masked-words", path)
    [error] = awareness(looker.data, looker.checkpoint, looker.store, *options)
    assert f"test in {looker.data} is not the text that {path} is of: its line 4 has" in error
    assert "has the word 'There', which is masked there" in error


def test_moses_tokens_are_joined(awareness, looker, rewritten, train, generate, tmp_path):
    """Also their escapes; what is scored is what `fairseq-generate --tokenizer moses` writes."""
    data = rewritten(lambda line: line.replace(".", " .").replace("ein", "&quot; ein &quot;"))
    text = data / "text" / "test.de"
    text.write_text(text.read_text().replace("ein", '"ein"'))
    trained = train(tmp_path / "model", "--image-h5", looker.store, "--max-epoch", "2", data=data)
    found = awareness(data, trained.last, looker.store, "--tokenizer", "moses")
    options = ("--image-h5", looker.store, "--image-missing", "mask", "--max-len-b", "200")
    moses = ("--tokenizer", "moses", "--source-lang", "en", "--target-lang", "de")
    run = generate(trained.last, *options, *moses, data=data)
    written = dict(re.findall(r"^D-(\d+)\t[^\t]*\t(.*)$", run.out, re.MULTILINE))
    images = (data / "test.images").read_text().split("\n")
    lines = [n for n, name in enumerate(images) if name not in ("", "violet.png")]
    references = text.read_text().split("\n")
    expected = score([written[str(n)] for n in lines], [[references[n] for n in lines]], "de")
    assert found["bleu"]["right"] == expected["bleu"].value


def test_sentences_that_are_too_long_are_refused(of_corpus, teacher):
    [error] = of_corpus(teacher.best, "--max-tokens", "5")
    assert "--max-tokens 5: a sentence of test has " in error


def test_there_must_be_images_to_exchange(of_corpus, data_copy, teacher):
    images = data_copy / "test.images"
    count, [first, *_] = 22, images.read_text().splitlines()
    images.write_text(f"{first}\n" * count)
    [error] = of_corpus(teacher.best, data=data_copy)
    assert "22 of 22 sentences have the same image" in error
    images.write_text("none.png\n" * count)
    [error] = of_corpus(teacher.best, data=data_copy)
    assert "no image of test is in " in error
