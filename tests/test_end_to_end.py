"""The real fairseq commands, run on the quickstart's corpus made small."""

import atexit
import gc
import os
import random
import re
import shutil

import numpy as np
import pytest
import torch
from torchvision.models import get_model
from weights import assert_same_weights, weights

from caf_dkd_plugin import Translator
from caf_dkd_plugin.data.image_store import Description, ImageStore
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter
from caf_dkd_plugin.tasks.multimodal_translation import teaching

KD = ("--criterion", "kd_label_smoothed_cross_entropy")
VALIDATION = ("--task", "multimodal_translation", "--batch-size", "8", "--num-workers", "0")
NO_DROPOUT = ("--dropout", "0", "--embed-dropout", "0", "--fusion-dropout", "0")


def load(checkpoint):
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


# -- plain translation and plain training ---------------------------------------------------------


@pytest.mark.parametrize("arch", ["transformer", "lstm"])
def test_without_a_store_it_is_plain_translation(train, stock_options, tmp_path, arch):
    model = [*stock_options[arch], "--max-epoch", "2"]
    ours = train(tmp_path / "ours", *model)
    # In fairseq this switch, true by default, means False.
    stock = train(tmp_path / "stock", "--task", "translation", "--left-pad-source", *model)
    assert ours.run.logged("train_loss") == stock.run.logged("train_loss")
    assert len(ours.run.logged("train_loss")) == 2
    assert_same_weights(ours.last, stock.last)


def test_a_fusion_that_has_learned_other_images_is_not_taken(train, store, write_store, tmp_path):
    first = train(tmp_path / "model", "--image-h5", store).last
    foreign = Description("resnet50", "grid", "none", "1" * 64, "none")
    other = write_store(tmp_path / "other.h5", ImageStore(store).ids, description=foreign)
    log = train(tmp_path / "new", "--image-h5", other, "--init-from", first).run.log
    assert "it has learned to read images of another kind: backbone 'made-up'" in log
    log = train(tmp_path / "same", "--image-h5", store, "--init-from", first).run.log
    assert "images of another kind" not in log


def test_with_lambda_1_it_is_plain_training(train, store, tmp_path):
    plain = train(tmp_path / "plain", "--image-h5", store)
    ours = train(tmp_path / "ours", "--image-h5", store, *KD, "--kd-lambda", "1")
    assert_same_weights(ours.last, plain.last)
    assert ours.run.logged("valid_loss") == plain.run.logged("valid_loss")


# -- data -----------------------------------------------------------------------------------------


def test_every_sentence_is_translated(teacher, stock, generate, store):
    """22 is no multiple of 8: fairseq-fixed's own translation task leaves some out."""
    assert sorted(generate(teacher.best, "--image-h5", store).hypotheses()) == list(range(22))
    assert sorted(generate(stock("lstm").last).hypotheses()) == list(range(22))


def test_images_are_used(teacher, generate, data_bin, data_copy, store):
    right = generate(teacher.best, "--image-h5", store)
    without = generate(teacher.best, "--image-missing", "mask")
    ids = (data_bin / "test.images").read_text().splitlines()
    random.Random(1).shuffle(ids)
    (data_copy / "test.images").write_text("".join(f"{image}\n" for image in ids))
    wrong = generate(teacher.best, "--image-h5", store, data=data_copy)
    assert right.out != without.out != wrong.out != right.out


def test_folders_shards_and_upsampling(train, data_bin, data_copy, store, tmp_path):
    for suffix in ("en-de.en.bin", "en-de.en.idx", "en-de.de.bin", "en-de.de.idx", "images"):
        shutil.copy(data_bin / f"valid.{suffix}", data_copy / f"train1.{suffix}")
        shutil.copy(data_bin / f"test.{suffix}", data_copy / f"valid1.{suffix}")
    trained = train(
        *(tmp_path / "new", "--image-h5", store, "--upsample-primary", "2", "--max-epoch", "2"),
        *("--combine-val", "--max-update", "99"),
        data=f"{data_copy}:{data_bin}",
    )
    assert len(trained.run.logged("train_loss")) == 2
    for line in (
        f"{data_copy} train: {2 * 55 + 17} of {2 * 64 + 20} sentences have an image",
        f"{data_bin} train: 55 of 64 sentences have an image",
        f"{data_copy} valid: {2 * 17 + 19} of {2 * 20 + 22} sentences have an image",
    ):
        assert line in trained.run.log.splitlines()


def test_workers_change_nothing(train, store, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.utils.data._utils, "MP_STATUS_CHECK_INTERVAL", 0.1)
    none = train(tmp_path / "none", "--image-h5", store)
    two = train(tmp_path / "two", "--image-h5", store, "--num-workers", "2")
    gc.collect()  # torch waits for each worker as long as the interval above says: 5 seconds
    assert_same_weights(two.last, none.last)


# -- training with a teacher ----------------------------------------------------------------------


def test_a_resumed_training_equals_an_uninterrupted_one(student, train, store, teacher, tmp_path):
    """Stopped in the middle of the second epoch; with images, teacher and all kinds of dropout."""
    options = (
        *("--image-h5", store, *KD, "--teacher-path", teacher.best, "--kd-lambda", "0.3"),
        *("--image-dropout", "0.3", "--rnn-cell", "lstm", "--max-epoch", "3"),
    )
    first = train(tmp_path, *options, "--max-update", "12")
    assert load(first.last)["optimizer_history"][-1]["num_updates"] == 12
    resumed = train(tmp_path, *options)
    assert "Loaded checkpoint" in resumed.run.log
    assert_same_weights(resumed.last, student.last)
    assert resumed.run.logged("valid_loss")[-1] == student.run.logged("valid_loss")[-1]


def test_going_on_with_another_store_or_dictionary_is_refused(
    train, store, write_store, data_copy, tmp_path
):
    train(tmp_path / "model", "--image-h5", store)
    foreign = Description("resnet50", "grid", "none", "1" * 64, "none")
    other = write_store(tmp_path / "other.h5", ImageStore(store).ids, description=foreign)
    with pytest.raises(ValueError, match="images of another kind: backbone 'made-up' so far"):
        train(tmp_path / "model", "--image-h5", other, "--max-epoch", "2")
    dictionary = data_copy / "dict.de.txt"
    dictionary.write_text("".join(reversed(dictionary.read_text().splitlines(keepends=True))))
    with pytest.raises(ValueError, match=r"another target dictionary than dict\.de\.txt"):
        train(tmp_path / "model", "--image-h5", store, "--max-epoch", "2", data=data_copy)


def test_so_it_is_when_a_new_training_takes_all_of_a_model(
    train, store, write_store, data_copy, tmp_path
):
    """--finetune-from-model loads weights without a look at where they are from."""
    first = train(tmp_path / "model", "--image-h5", store).last
    options = ("--finetune-from-model", first)
    foreign = Description("resnet50", "grid", "none", "1" * 64, "none")
    other = write_store(tmp_path / "other.h5", ImageStore(store).ids, description=foreign)
    with pytest.raises(ValueError, match=r"backbone 'made-up' so far.* --init-from in place of"):
        train(tmp_path / "new", "--image-h5", other, *options)
    with pytest.raises(ValueError, match="--init-from and --finetune-from-model are two models"):
        train(tmp_path / "new", "--image-h5", store, *options, "--init-from", first)
    dictionary = data_copy / "dict.de.txt"
    dictionary.write_text("".join(reversed(dictionary.read_text().splitlines(keepends=True))))
    with pytest.raises(ValueError, match=r"another target dictionary than dict\.de\.txt"):
        train(tmp_path / "new", "--image-h5", store, *options, data=data_copy)
    new = train(tmp_path / "new", "--image-h5", store, *options)
    assert f"loading pretrained model from {first}" in new.run.log


def test_half_batches_and_update_freq_equal_whole_batches(train, store, teacher, tmp_path):
    options = (
        *("--image-h5", store, *KD, "--teacher-path", teacher.best, *NO_DROPOUT),
        *("--optimizer", "sgd", "--lr", "1", "--max-epoch", "3"),
    )
    whole = train(tmp_path / "whole", *options, "--batch-size", "64")
    halves = train(tmp_path / "halves", *options, "--batch-size", "32", "--update-freq", "2")
    start = train(tmp_path / "start", *options, "--lr", "0", "--max-epoch", "1")
    assert_same_weights(halves.last, whole.last, rtol=1e-4, atol=1e-5)
    last_layers = (weights(x.last)["decoder.output_projection.weight"] for x in (start, whole))
    assert not torch.allclose(*last_layers, atol=1e-3)
    for run in (whole.run, halves.run):
        assert run.logged("train_num_updates") == [1, 2, 3]


def test_the_teacher_is_in_no_checkpoint_and_does_not_learn(
    train, teacher, store, tmp_path, monkeypatch
):
    used = []

    def remember(*args):
        used.append(load_teacher(*args))
        return used[-1]

    load_teacher = teaching.load_teacher
    monkeypatch.setattr(teaching, "load_teacher", remember)
    distilled = train(
        tmp_path / "kd", "--image-h5", store, *KD, "--teacher-path", teacher.best, *NO_DROPOUT
    )
    plain = train(tmp_path / "plain", "--image-h5", store, *KD, "--kd-lambda", "1", *NO_DROPOUT)

    assert all(value > 0 for value in distilled.run.logged("train_kd_loss"))
    assert "kd_loss" not in plain.run.log
    ours, without = load(distilled.last), load(plain.last)
    assert list(ours["model"]) == list(without["model"])
    assert ours["criterion"] == without["criterion"]
    assert set(ours["task_state"]) == set(without["task_state"])
    sizes = [trained.last.stat().st_size for trained in (distilled, plain)]
    assert abs(sizes[0] - sizes[1]) < 2000
    [frozen] = used
    [(model, *_)] = frozen._members
    learnt = weights(teacher.best)
    for name, parameter in model.state_dict().items():
        assert torch.equal(parameter, learnt[name])


def test_the_teachers_file_may_go(train, fairseq, generate, data_bin, teacher, store, tmp_path):
    path = tmp_path / "teacher.pt"
    shutil.copy(teacher.best, path)
    distil = (*KD, "--image-h5", store, "--teacher-path", path)
    trained = train(tmp_path / "student", *distil)
    path.unlink()

    validated = fairseq("validate", data_bin, *VALIDATION, "--path", trained.last)
    assert f"loss {trained.run.logged('valid_loss')[-1]:g} " in validated.text
    assert len(generate(trained.last, "--image-h5", store).hypotheses()) == 22

    with pytest.raises(ValueError, match=f"--teacher-path {path} does not exist"):
        train(tmp_path / "student", *distil, "--max-epoch", "2")
    plain = (*KD, "--image-h5", store, "--kd-lambda", "1", "--max-epoch", "2")
    resumed = train(tmp_path / "student", *plain)
    assert resumed.run.logged("train_num_updates") == [16]


def test_models_of_all_kinds_teach_together(train, stock, student, store, tmp_path):
    """A stock Transformer, a stock LSTM and a distilled multimodal model."""
    paths = [stock("transformer").last, stock("lstm").last, student.last]
    trained = train(
        *(tmp_path, "--image-h5", store, *KD, "--kd-lambda", "0", "--max-epoch", "3"),
        *("--teacher-path", ":".join(map(str, paths))),
    )
    first, *_, last = trained.run.logged("train_kd_loss")
    assert 0 < last < first


# -- validation -----------------------------------------------------------------------------------


def test_bleu_in_training_is_that_of_generate(teacher, generate, store):
    bleu = teacher.run.logged("valid_bleu")
    assert len(set(bleu)) > 1
    best = generate(
        *(teacher.best, "--image-h5", store, "--gen-subset", "valid", "--scoring", "sacrebleu")
    )
    assert best.bleu() == max(bleu) > 0
    assert len(best.hypotheses()) == 20


@pytest.mark.parametrize("name", ["teacher", "student"])
def test_validate_gives_the_loss_of_the_training(name, request, fairseq, data_bin):
    """With the training's settings; a distilled model's loss is the plain cross-entropy."""
    trained = request.getfixturevalue(name)
    run = fairseq("validate", data_bin, *VALIDATION, "--path", trained.last)
    assert f"loss {trained.run.logged('valid_loss')[-1]:g} " in run.text
    assert "kd_loss" not in run.text


# -- using a checkpoint ---------------------------------------------------------------------------


def test_generate_needs_images_or_a_word(teacher, stock, generate, store):
    with pytest.raises(ValueError, match="was trained with images"):
        generate(teacher.best)
    with pytest.raises(ValueError, match="was trained without images"):
        generate(stock("lstm").last, "--image-h5", store)
    for pair in ((stock("lstm").last, teacher.best), (teacher.best, stock("lstm").last)):
        with pytest.raises(ValueError, match="was trained without images"):
            generate(":".join(map(str, pair)), "--image-h5", store)


def test_generate_refuses_another_folder(teacher, generate, data_copy, store):
    words = (data_copy / "dict.de.txt").read_text().splitlines()
    (data_copy / "dict.de.txt").write_text("\n".join([words[1], words[0], *words[2:]]) + "\n")
    with pytest.raises(ValueError, match=r"another target dictionary .*: symbol 4 is"):
        generate(teacher.best, "--image-h5", store, data=data_copy)


def test_what_is_given_of_a_translation_is_in_it(teacher, generate, store, corpus):
    """--prefix-size and --constraints are fairseq's, and every translation goes through this task."""
    german = (corpus / "text" / "test.de").read_text().splitlines()
    found = generate(teacher.best, "--image-h5", store, "--prefix-size", "2").hypotheses()
    begun = {place: " ".join(german[place].split()[:2]) for place in found}
    assert {place: " ".join(text.split()[:2]) for place, text in found.items()} == begun
    free = generate(teacher.best, "--image-h5", store).hypotheses()
    assert any(" ".join(free[place].split()[:2]) != start for place, start in begun.items())


# -- fairseq-interactive --------------------------------------------------------------------------


@pytest.fixture
def interactive(fairseq, teacher, data_bin, store, tmp_path, monkeypatch):
    """A function that translates lines with a list of images: (lines, ids, *options) -> Run."""

    def run(lines, ids, *options, without_store=False):
        run.at_exit = []
        monkeypatch.setattr(atexit, "register", run.at_exit.append)
        for name, content in (("input", lines), ("images", ids)):
            (tmp_path / name).write_text("".join(f"{line}\n" for line in content))
        images = () if without_store else ("--image-h5", store)
        use = ("--task", "multimodal_translation", *images, "--path", teacher.best)
        return fairseq(
            *("interactive", data_bin, *use, "--beam", "2", "--max-len-b", "20"),
            *("--input", tmp_path / "input", "--image-list", tmp_path / "images", *options),
        )

    return run


@pytest.fixture
def test_lines(corpus, data_bin):
    """The lines of the test set and their images, some of which are empty."""
    lines = (corpus / "text" / "test.en").read_text().splitlines()
    return lines, (data_bin / "test.images").read_text().splitlines()


def test_a_list_of_images_is_nothing_for_a_model_without(interactive, train, tmp_path):
    text = train(tmp_path / "text").last
    with pytest.raises(ValueError, match="trained without images and cannot use --image-list"):
        interactive(["a man"], ["bat.png"], "--path", text, without_store=True)


@pytest.mark.parametrize(("buffer", "batch"), [(1, 1), (5, 2), (22, 8)])
def test_interactive_equals_generate(
    interactive, generate, teacher, store, test_lines, buffer, batch, caplog
):
    expected = generate(teacher.best, "--image-h5", store).hypotheses()
    run = interactive(*test_lines, "--buffer-size", buffer, "--batch-size", batch)
    assert run.hypotheses() == expected
    for last_word in interactive.at_exit:
        last_word()
    assert "--image-list" not in caplog.text


def test_blank_lines_keep_their_images(interactive, test_lines):
    lines, ids = test_lines
    expected = interactive(lines, ids, "--buffer-size", "4").hypotheses()
    for place in (0, 3, 4, 9):
        lines.insert(place, "")
        ids.insert(place, "train_00001.png")
    found = interactive(lines, ids, "--buffer-size", "4").hypotheses()
    assert len(found) == 26
    assert [found[place] for place in range(26) if lines[place]] == list(expected.values())


def test_constraints_are_kept_and_images_stay_in_step(interactive, teacher, data_bin, test_lines):
    lines, ids = test_lines
    use = ("--buffer-size", "5", "--batch-size", "2", "--constraints")
    free = interactive(lines, ids, *use[:-1]).hypotheses()
    assert interactive(lines, ids, *use).hypotheses() == free
    words = [line.split()[0] for line in (data_bin / "dict.de.txt").read_text().splitlines()]
    wanted = [next(w for w in words if w not in free[place].split()) for place in range(22)]
    constrained = [f"{line}\t{word}" for line, word in zip(lines, wanted)]
    found = interactive(constrained, ids, *use).hypotheses()
    assert all(word in found[place].split() for place, word in enumerate(wanted))


def test_a_list_that_is_too_short_stops_it(interactive, test_lines):
    lines, ids = test_lines
    with pytest.raises(ValueError, match="has 21 lines, but the input has at least 22"):
        interactive(lines, ids[:21], "--buffer-size", "2")


def test_a_list_that_is_too_long_is_warned_about(interactive, test_lines, teacher, caplog):
    lines, ids = test_lines
    ensemble = ("--path", f"{teacher.best}:{teacher.last}")  # of which each model is checked
    assert len(interactive(lines[:20], ids, "--buffer-size", "8", *ensemble).hypotheses()) == 20
    [last_word] = interactive.at_exit
    last_word()
    assert "images has 22 lines, but the input had only 20: are they in step?" in caplog.text


def test_an_unknown_image_stops_it(interactive, test_lines):
    lines, ids = test_lines
    with pytest.raises(ValueError, match=r"lacks 1 of the images of .*x\.png \(line 1\)"):
        interactive(lines, ["x.png", *ids[1:]], "--buffer-size", "2")


# -- photographs ----------------------------------------------------------------------------------


def test_interactive_reads_photographs(
    interactive, train, generate, extract, corpus, test_lines, tmp_path
):
    """Ids, paths of the same pictures, and paths without any store, by their real backbone."""
    extracted = extract("--backbone mobilenet_v3_small --weights none --image-size 64")
    trained = train(tmp_path / "model", "--image-h5", extracted, "--max-epoch", "3")
    lines, ids = test_lines
    paths = [image and str(corpus / "images" / image) for image in ids]
    mixed = [path if number % 2 else image for number, (image, path) in enumerate(zip(ids, paths))]
    expected = generate(trained.last, "--image-h5", extracted).hypotheses()
    use = ("--path", trained.last, "--buffer-size", "7", "--batch-size", "3")
    for images in (ids, paths, mixed):
        found = interactive(lines, images, *use, "--image-h5", extracted).hypotheses()
        assert found == expected
    assert interactive(lines, paths, *use, without_store=True).hypotheses() == expected
    shuffled = interactive(lines, paths[1:] + paths[:1], *use, without_store=True)
    assert shuffled.hypotheses() != expected


def test_photographs_by_a_backbone_from_a_file(
    interactive, train, generate, extract, corpus, test_lines, tmp_path
):
    """Which the store knows by its hash, not by its place."""
    torch.manual_seed(5)
    weights = tmp_path / "weights.pth"
    torch.save(get_model("mobilenet_v3_small", weights=None).state_dict(), weights)
    store = extract(f"--backbone mobilenet_v3_small --weights {weights} --image-size 64")
    trained = train(tmp_path / "model", "--image-h5", store, "--max-epoch", "3")
    lines, ids = test_lines
    paths = [image and str(corpus / "images" / image) for image in ids]
    expected = generate(trained.last, "--image-h5", store).hypotheses()
    use = ("--path", trained.last, "--image-list-weights", weights)
    assert interactive(lines, paths, *use, without_store=True).hypotheses() == expected
    with pytest.raises(ValueError, match="--image-list-weights"):
        interactive(lines, paths, *use[:2], without_store=True)
    translator = Translator.from_pretrained(trained.last, image_weights=weights)
    found = translator.translate(lines, [path or None for path in paths], beam=2, max_len_b=20)
    assert {place: one.text for place, one in enumerate(found)} == expected


def test_photographs_that_cannot_be_read_stop_it_before_it_starts(
    interactive, train, pixel_store, backbone_options, test_lines, tmp_path
):
    trained = train(tmp_path / "model", "--image-h5", pixel_store, *backbone_options)
    (tmp_path / "text.png").write_text("no picture")
    lines, ids = test_lines
    use = ("--path", trained.last, "--image-h5", pixel_store)
    with pytest.raises(ValueError, match=r"text\.png is not a readable picture"):
        interactive(lines, [str(tmp_path / "text.png"), *ids[1:]], *use)
    with pytest.raises(ValueError, match=r"none\.png \(line 1\); nor are they files"):
        interactive(lines, ["none.png", *ids[1:]], *use)


def test_generate_refuses_a_list_for_interactive(teacher, generate, store, tmp_path, monkeypatch):
    at_exit = []
    monkeypatch.setattr(atexit, "register", at_exit.append)
    (tmp_path / "list").write_text("train_00001.png\n")
    with pytest.raises(ValueError, match="--image-list is for fairseq-interactive; the images of"):
        generate(teacher.best, "--image-h5", store, "--image-list", tmp_path / "list")
    assert not at_exit  # no warning of lines that nobody was to read


# -- with and without images ----------------------------------------------------------------------


@pytest.fixture
def telling_store(corpus, tmp_path):
    """A store whose every region says, by a random vector of its own, which sense is meant."""
    ids, senses = [], []
    for split in ("train", "valid", "test"):
        text = corpus / "text" / split
        ids += text.with_suffix(".images").read_text().splitlines()
        lines = text.with_suffix(".senses").read_text().splitlines()
        senses += [line.split("\t")[1] for line in lines]
    random = np.random.default_rng(0)
    of_sense = {sense: random.normal(size=8) for sense in dict.fromkeys(senses)}
    features = np.array([[of_sense[sense]] * 4 for sense in senses], dtype="float32")
    path = tmp_path / "telling.h5"
    writer = ImageStoreWriter(path, ids, (4, 8), "float32", Description("made-up", "", "", "", ""))
    writer.write(range(len(ids)), features)
    writer.finish()
    return path


def test_one_model_serves_with_and_without_images(
    train, fairseq, data_bin, telling_store, tmp_path
):
    """A model that always saw the images is at a loss without them; with image dropout less so."""
    losses = {}
    for dropout in ("0", "0.5"):
        quick = (
            "--arch",
            "cross_modal_rnn_tiny",
            "--lr",
            "0.003",
            "--max-epoch",
            "16",
            *NO_DROPOUT,
        )
        use = ("--image-h5", telling_store, "--image-dropout", dropout)
        trained = train(tmp_path / dropout, *quick, *use, "--disable-validation")
        for name, changes in (
            ("with", {}),
            ("without", {"image_h5": None, "image_missing": "mask"}),
        ):
            run = fairseq(
                *("validate", data_bin, *VALIDATION, "--path", trained.last),
                *("--valid-subset", "train", "--model-overrides", repr(changes)),
            )
            losses[dropout, name] = float(re.search(r" loss ([\d.]+) ", run.text).group(1))
    missed = {p: losses[p, "without"] - losses[p, "with"] for p in ("0", "0.5")}
    assert missed["0"] > 0.05  # it did learn to look
    assert 0 < missed["0.5"] < missed["0"] / 2
    assert losses["0.5", "without"] < losses["0", "without"]


# -- sizes and ways of reading --------------------------------------------------------------------


def test_widths_may_all_differ(train, generate, fairseq, data_bin, store, tmp_path):
    """With everything that is optional in encoder and decoder, through a resume to translations."""
    widths = (
        *("--encoder-embed-dim", "24", "--encoder-hidden-size", "40", "--encoder-layers", "2"),
        *("--decoder-embed-dim", "28", "--decoder-hidden-size", "36", "--decoder-layers", "2"),
        *("--fusion-dim", "20", "--fusion-ffn-dim", "30", "--fusion-heads", "4"),
        *("--decoder-attention-heads", "5", "--rnn-cell", "lstm", "--decoder-input-feeding"),
        *("--fusion-direction", "both", "--image-h5", store),
    )
    whole = train(tmp_path / "whole", *widths, "--max-epoch", "2")
    train(tmp_path / "halves", *widths)
    assert_same_weights(train(tmp_path / "halves", *widths, "--max-epoch", "2").last, whole.last)
    assert len(generate(whole.last, "--image-h5", store).hypotheses()) == 22
    run = fairseq("validate", data_bin, *VALIDATION, "--path", whole.last)
    assert f"loss {whole.run.logged('valid_loss')[-1]:g} " in run.text


def test_several_stores_are_read_as_one(train, generate, store, tmp_path):
    whole = ImageStore(store)
    paths = [tmp_path / f"part{number}.h5" for number in range(3)]
    for number, path in enumerate(paths):
        rows = range(number, len(whole), 3)
        ids = [whole.ids[row] for row in rows]
        writer = ImageStoreWriter(path, ids, whole.shape[1:], "float32", whole.description)
        writer.write(range(len(ids)), whole.read(rows))
        writer.finish()
    joined = os.pathsep.join(map(str, paths))
    one = train(tmp_path / "one", "--image-h5", store)
    several = train(tmp_path / "several", "--image-h5", joined)
    assert_same_weights(several.last, one.last)
    expected = generate(one.last, "--image-h5", store).hypotheses()
    assert generate(one.last, "--image-h5", joined).hypotheses() == expected


# -- starting from another model ------------------------------------------------------------------


def test_a_multimodal_model_starts_from_a_text_only_one(train, store, tmp_path):
    text = train(tmp_path / "text", "--max-epoch", "3")
    start = ("--image-h5", store, "--fusion-residual", "--init-from", text.last)
    still = ("--lr", "1e-20", "--image-dropout", "0.5")
    run = train(tmp_path / "images", *start, *still).run
    assert run.logged("valid_loss")[-1] == text.run.logged("valid_loss")[-1]
    assert "- zero, so that the fusion adds nothing at first: encoder.fusion.ffn.3.bias" in run.log
    assert "- taken: decoder.embed_tokens.weight\n" in run.log


def test_a_model_starts_from_fairseqs_lstm(train, stock, tmp_path):
    sizes = {"--encoder-embed-dim": 16, "--encoder-hidden-size": 32, "--decoder-embed-dim": 16}
    sizes.update({"--decoder-hidden-size": 16, "--rnn-cell": "lstm"})
    options = [str(word) for pair in sizes.items() for word in pair]
    found = {}
    for name, start in (("random", ()), ("lstm", ("--init-from", stock("lstm").last))):
        run = train(tmp_path / name, *options, "--decoder-input-feeding", *start).run
        found[name] = run.logged("train_loss")[0]
    assert re.search(r"- believed: the checkpoint does not tell its \d+ source symbols", run.log)
    assert found["lstm"] < found["random"]


def test_a_start_from_nothing_is_refused(train, stock, tmp_path):
    with pytest.raises(ValueError, match=r"none\.pt does not exist"):
        train(tmp_path, "--init-from", "none.pt")
    with pytest.raises(ValueError, match="has the architecture transformer; a cross_modal_rnn can"):
        train(tmp_path, "--init-from", stock("transformer").last)
