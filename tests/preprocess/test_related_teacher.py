"""A teacher of a related pair: it reads the same sentences in a third language, made up here."""

import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from fairseq import checkpoint_utils, tasks
from weights import assert_same_weights

KD = ("--criterion", "kd_label_smoothed_cross_entropy", "--kd-lambda", "0.3")
RELATED = ("--teacher-source-lang", "fr")
PARTS = ("bin", "idx")


def in_french(line: int, sentence: str) -> str:
    """Other words, in another order, and of other lengths than the English, line by line."""
    words = [f"{word}e" for word in reversed(sentence.split())]
    return " ".join(words + ["très"] * (line * 7 % 5))


@pytest.fixture(scope="module")
def french(corpus, data_bin, fairseq, tmp_path_factory) -> Path:
    """The pair fr-de: the same German as `data_bin`."""
    text, folder = tmp_path_factory.mktemp("text"), tmp_path_factory.mktemp("fr-de")
    splits = ("train", "valid", "test")
    for split in splits:
        lines = (corpus / "text" / f"{split}.en").read_text().splitlines()
        french = [in_french(number, sentence) for number, sentence in enumerate(lines)]
        (text / f"{split}.fr").write_text("".join(f"{line}\n" for line in french))
        shutil.copy(corpus / "text" / f"{split}.de", text)
    prefixes = [f"--{split}pref={text / split}" for split in splits]
    target = ("--tgtdict", data_bin / "dict.de.txt")
    fairseq("preprocess", "-s", "fr", "-t", "de", "--destdir", folder, *prefixes, *target)
    for split in splits:
        shutil.copy(data_bin / f"{split}.images", folder)
    return folder


@pytest.fixture(scope="module")
def three_sided(data_bin, french, tmp_path_factory) -> Path:
    """The pair en-de with its French side."""
    folder = tmp_path_factory.mktemp("three") / "bin"
    shutil.copytree(data_bin, folder)
    shutil.copy(french / "dict.fr.txt", folder)
    for split in ("train", "valid", "test"):
        for part in PARTS:
            source = french / f"{split}.fr-de.fr.{part}"
            shutil.copy(source, folder / f"{split}.en-de.fr.{part}")
    return folder


@pytest.fixture(scope="module")
def teachers(train, french, store, stock_options, tmp_path_factory):
    """Of fr-de: fairseq's lstm, trained as fairseq does it, and our model, which sees images."""
    folder = tmp_path_factory.mktemp("teachers")
    stock = ("--task", "translation", *stock_options["lstm"], "--max-epoch", "3")
    ours = ("--image-h5", store, "--max-epoch", "3")
    return {
        "lstm": train(folder / "lstm", *stock, data=french).last,
        "ours": train(folder / "ours", *ours, data=french).last,
    }


CLOSE = {"rtol": 1e-3, "atol": 1e-5}


# -- what it says ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lstm", "ours"])
def test_it_says_what_it_says_in_its_own_folder(
    name, teachers, three_sided, store, parse, monkeypatch
):
    """The student's mini-batch gives the answers that the teacher's own collater would have got."""
    [model], _, own = checkpoint_utils.load_model_ensemble_and_task([str(teachers[name])])
    own.load_dataset("train")
    cfg = parse(
        *KD, *RELATED, "--image-h5", store, "--teacher-path", teachers[name], data=three_sided
    )
    task = tasks.setup_task(cfg.task)
    task.build_model(cfg.model)
    task.load_dataset("train")
    lines = [3, 0, 17, 9, 40]
    batch = task.dataset("train").collater([task.dataset("train")[line] for line in lines])
    assert "fr" not in str(batch["net_input"].keys())
    said = {}
    monkeypatch.setattr(
        "fairseq.tasks.translation.TranslationTask.train_step",
        lambda self, sample, *rest, **more: said.update(sample),
    )
    student = torch.nn.Linear(1, 1)
    task.train_step(batch, student, None, None, 0)
    assert said["net_input"].keys() == batch["net_input"].keys()
    assert torch.equal(said["net_input"]["src_tokens"], batch["net_input"]["src_tokens"])

    expected = own.dataset("train").collater([own.dataset("train")[line] for line in lines])
    assert expected["id"].tolist() != batch["id"].tolist()  # other lengths, another order
    with torch.no_grad():
        answers = model.eval()(**expected["net_input"])[0].log_softmax(-1)
    for row, line in enumerate(batch["id"].tolist()):
        tokens = int(batch["target"][row].ne(task.target_dictionary.pad()).sum())
        answer = answers[expected["id"].tolist().index(line), :tokens]
        found = said["teacher"]["log_probs"][row, :tokens]
        torch.testing.assert_close(found, answer, rtol=1e-4, atol=1e-5)


def test_the_students_own_language_as_a_third_one_changes_nothing(
    train, data_bin, teacher, store, tmp_path
):
    """A copy of the English side under another name teaches what the English side teaches."""
    folder = Path(shutil.copytree(data_bin, tmp_path / "data"))
    shutil.copy(folder / "dict.en.txt", folder / "dict.xx.txt")
    for split in ("train", "valid"):
        for part in PARTS:
            for name in (f"{split}.xx-de.xx", f"{split}.en-de.xx"):
                shutil.copy(folder / f"{split}.en-de.en.{part}", folder / f"{name}.{part}")
            source = folder / f"{split}.en-de.de.{part}"
            shutil.copy(source, folder / f"{split}.xx-de.de.{part}")
    pair = ("--source-lang", "xx", "--target-lang", "de", "--max-epoch", "2")
    relative = train(tmp_path / "xx", *pair, "--image-h5", store, data=folder)
    own = train(tmp_path / "own", "--max-epoch", "2", "--image-h5", store)
    options = (*KD, "--image-h5", store, "--source-lang", "en", "--target-lang", "de")
    third = ("--teacher-source-lang", "xx", "--teacher-path", relative.last)
    found = train(tmp_path / "found", *options, *third, data=folder)
    expected = train(tmp_path / "expected", *options, "--teacher-path", own.last)
    assert found.run.logged("train_kd_loss") == expected.run.logged("train_kd_loss")
    assert_same_weights(found.last, expected.last, **CLOSE)


# -- learning from it -----------------------------------------------------------------------------


@pytest.fixture
def cache(cache_teacher, three_sided, teachers, store, tmp_path):
    """A function that writes down what a teacher says: (name, *options, data=) -> path."""

    def make(name, *options, data=three_sided, code=0):
        path = tmp_path / "cache.h5"
        images = ("--image-h5", store) if name == "ours" else ()
        command = [data, "--teacher-path", teachers[name], "--output", path, *images]
        found = cache_teacher.main([str(word) for word in (*command, *options, *RELATED)])
        assert found == code
        return path

    return make


@pytest.mark.parametrize("name", ["lstm", "ours"])
def test_live_and_cached_students_are_the_same_and_do_without_it_later(
    name, train, generate, fairseq, cache, teachers, three_sided, store, tmp_path
):
    options = (*KD, "--image-h5", store)
    copy = shutil.copy(teachers[name], tmp_path / "teacher.pt")
    live = ("--teacher-path", copy, *RELATED)
    whole = train(tmp_path / "whole", *options, *live, "--max-epoch", "2", data=three_sided)
    train(tmp_path / "halves", *options, *live, data=three_sided)
    halves = train(tmp_path / "halves", *options, *live, "--max-epoch", "2", data=three_sided)
    assert_same_weights(halves.last, whole.last)

    cached = ("--teacher-cache", cache(name, "--topk", "136"))
    found = train(tmp_path / "cached", *options, *cached, "--max-epoch", "2", data=three_sided)
    np.testing.assert_allclose(
        found.run.logged("train_kd_loss"), whole.run.logged("train_kd_loss"), atol=1e-3
    )
    assert_same_weights(found.last, whole.last, **CLOSE)

    Path(copy).unlink()
    (tmp_path / "cache.h5").unlink()
    for student in (whole, found):
        assert len(generate(student.last, "--image-h5", store).hypotheses()) == 22
        task = ("--task", "multimodal_translation", "--batch-size", "8", "--num-workers", "0")
        validated = fairseq("validate", three_sided, *task, "--path", student.last)
        assert f"loss {student.run.logged('valid_loss')[-1]:g} " in validated.text


def test_it_follows_shards_and_upsampling(
    train, cache, teachers, three_sided, french, store, tmp_path
):
    data = Path(shutil.copytree(three_sided, tmp_path / "data"))
    for path in sorted(data.glob("valid.*")):
        shutil.copy(path, data / path.name.replace("valid", "train1"))
    options = (*KD, "--image-h5", store, "--upsample-primary", "2")
    live = train(
        tmp_path / "live", *options, *RELATED, "--teacher-path", teachers["lstm"], data=data
    )
    path = cache("lstm", "--topk", "136", data=data)
    cached = train(tmp_path / "cached", *options, "--teacher-cache", path, data=data)
    assert_same_weights(cached.last, live.last, **CLOSE)


# -- learning where it looks ----------------------------------------------------------------------

TRANSFORMER = shlex.split(
    "--arch cross_modal_transformer_tiny --encoder-layers 1 --decoder-layers 1 "
    "--encoder-embed-dim 16 --decoder-embed-dim 16 --encoder-ffn-embed-dim 16 "
    "--decoder-ffn-embed-dim 16 --encoder-attention-heads 2 --decoder-attention-heads 2"
)


def test_only_what_looks_at_the_translation_can_be_aligned(train, french, three_sided, tmp_path):
    """Under the other columns the two have different words."""
    path = train(tmp_path / "teacher", *TRANSFORMER, data=french).last
    options = (*KD, *TRANSFORMER, *RELATED, "--teacher-path", path, "--a2d-families")
    with pytest.raises(ValueError, match="only decoder_self can be aligned"):
        train(tmp_path / "x", *options, "cross,decoder_self", data=three_sided)
    found = train(tmp_path / "student", *options, "decoder_self", data=three_sided)
    assert all(part > 0 for part in found.run.logged("train_a2d_decoder_self"))


# -- refusals -------------------------------------------------------------------------------------


@pytest.fixture
def refused(train, teachers, store, tmp_path):
    """A function that trains and gives the message of the refusal: (data, *options) -> str."""

    def refused(data, *options, name="lstm"):
        teacher = () if "--teacher-cache" in options else ("--teacher-path", teachers[name])
        with pytest.raises(ValueError, match=r"training cannot start") as error:
            train(tmp_path / "x", *KD, "--image-h5", store, *teacher, *options, data=data)
        return str(error.value)

    return refused


@pytest.fixture
def data(three_sided, tmp_path):
    """`three_sided`, to be changed."""
    return Path(shutil.copytree(three_sided, tmp_path / "changed"))


def test_a_side_that_is_missing_or_of_another_text_is_refused(refused, data):
    for part in PARTS:
        shutil.copy(data / f"valid.en-de.fr.{part}", data / f"train.en-de.fr.{part}")
    said = refused(data, *RELATED)
    assert "train.en-de.fr.bin has 20 sentences, but train in" in said
    assert "has 64. Each must be there in all three languages" in said
    for part in PARTS:
        (data / f"train.en-de.fr.{part}").unlink()
    said = refused(data, *RELATED)
    assert "train.en-de.fr.bin does not exist, the sentences of train in the teacher's" in said
    assert "prepare_multi30k.py --teacher-source" in said


def test_a_dictionary_that_is_missing_or_not_the_teachers_is_refused(refused, data):
    dictionary = data / "dict.fr.txt"
    dictionary.write_text("".join(reversed(dictionary.read_text().splitlines(keepends=True))))
    said = refused(data, *RELATED)
    assert "has another source dictionary (first: teacher, second: fr in the student's" in said
    assert "symbol 4 is" in said
    dictionary.unlink()
    assert "dict.fr.txt does not exist, the dictionary of the side" in refused(data, *RELATED)


def test_the_teacher_must_be_of_that_language(refused, three_sided, teachers, train, tmp_path):
    said = refused(three_sided)
    assert "translates from fr, but is to read en: --teacher-source-lang names another" in said
    said = refused(three_sided, "--teacher-source-lang", "en")
    assert "--teacher-source-lang en is the student's own source: leave it out" in said
    with pytest.raises(ValueError, match="--teacher-source-lang without a teacher has no effect"):
        train(tmp_path, "--kd-lambda", "1", *KD[:2], *RELATED, data=three_sided)


def test_sentences_that_are_too_long_for_the_teacher_are_named(
    train, refused, cache, french, three_sided, stock_options, teachers, tmp_path, capsys
):
    short = ("--task", "translation", *stock_options["lstm"], "--max-source-positions", "12")
    options = ("--skip-invalid-size-inputs-valid-test",)
    path = train(tmp_path / "short", *short, *options, data=french).last
    teachers = {**teachers, "short": path}
    said = refused(three_sided, *RELATED, "--teacher-path", path)
    assert "the teacher reads at most 12 source tokens of " in said
    assert "train.en-de.fr.bin, of which " in said
    cache("lstm", "--teacher-path", path, code=1)
    assert "the teacher reads at most 12 source tokens" in capsys.readouterr().err


def test_a_cache_of_another_language_is_refused(refused, cache, three_sided, data_bin, data):
    path = cache("lstm")
    said = refused(three_sided, "--teacher-cache", path, "--teacher-source-lang", "cs")
    assert "cache.h5 reads fr, not --teacher-source-lang cs" in said
    assert "dict.fr.txt does not exist" in refused(data_bin, "--teacher-cache", path)
    for part in PARTS:
        shutil.copy(data / f"train.en-de.en.{part}", data / f"train.en-de.fr.{part}")
    said = refused(data, "--teacher-cache", path)
    assert "has another source text" in said
