"""Align-to-Distill through task, criterion and whole trainings."""

import re
import shlex
import shutil
from types import SimpleNamespace

import pytest
import torch
from fairseq import tasks

from caf_dkd_plugin.data.image_store import ImageStore
from caf_dkd_plugin.distillation.aligners import ALIGNERS

KD = ("--criterion", "kd_label_smoothed_cross_entropy", "--label-smoothing", "0.1")
ALONE = (*KD, "--kd-lambda", "1")
BOTH = (*KD, "--kd-lambda", "0.2")
ALIGNED = shlex.split("--a2d-families cross,fusion --a2d-weight 2 --a2d-decay 0.5")
STILL = shlex.split("--dropout 0 --embed-dropout 0 --fusion-dropout 0")
TRANSFORMER = shlex.split(
    "--arch cross_modal_transformer_tiny --encoder-layers 2 --decoder-layers 2 "
    "--encoder-embed-dim 16 --decoder-embed-dim 16 --encoder-ffn-embed-dim 16 "
    "--decoder-ffn-embed-dim 16 --encoder-attention-heads 2 --decoder-attention-heads 2 "
    "--fusion-dim 16 --fusion-heads 2 --fusion-ffn-dim 16"
)
FAMILIES = "cross,decoder_self,fusion,encoder_self"


@pytest.fixture(scope="module")
def transformer(train, store, tmp_path_factory):
    """A teacher with every family."""
    return train(
        tmp_path_factory.mktemp("transformer"),
        *(*TRANSFORMER, "--image-h5", store, "--max-epoch", "2"),
    )


class Training:
    """What fairseq-train builds of options, up to its first update."""

    def __init__(self, cfg):
        torch.manual_seed(1)
        self.task = tasks.setup_task(cfg.task)
        self.model = self.task.build_model(cfg.model)
        self.criterion = self.task.build_criterion(cfg.criterion)
        self.task.load_dataset("train")

    def batch(self, *places):
        pairs = self.task.dataset("train")
        return pairs.collater([pairs[place] for place in places])

    def step(self, *places, epoch=1):
        """Loss, sample size and log of the sentences; the gradients are in the parameters."""
        self.task.begin_epoch(epoch, self.model)
        optimizer = SimpleNamespace(backward=lambda loss: loss.backward())
        return self.task.train_step(
            self.batch(*places), self.model, self.criterion, optimizer, update_num=0
        )

    def gradients(self):
        return {
            name: parameter.grad.clone()
            for name, parameter in [
                *self.model.named_parameters(),
                *self.criterion.named_parameters(),
            ]
            if parameter.grad is not None
        }


@pytest.fixture
def begin(parse, store):
    def begin(*options) -> Training:
        still = [] if "--arch" in options else STILL
        return Training(parse("--image-h5", store, *still, *options))

    return begin


# -- the loss -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "aligner", "prefix"),
    [
        (ALONE, "rowmix", 0),
        (BOTH, "rowmix", 0),
        (BOTH, "conv", 0),
        (BOTH, "mean", 0),
        (BOTH, "rowmix", 2),
    ],
)
def test_the_weighted_divergence_is_added_and_decays(given, aligner, prefix, begin, teacher):
    """Epochs from 1 on; what is added is what the aligners say of both sides' maps."""
    given = (*given, "--ignore-prefix-size", str(prefix))
    kd = "--kd-lambda 0.2" in " ".join(given)
    plain = begin(*given, *(["--teacher-path", teacher.best] if kd else []))
    aligned = begin(*given, "--teacher-path", teacher.best, *ALIGNED, "--a2d-aligner", aligner)
    aligners = aligned.criterion.alignment.aligners
    assert {type(one) for one in aligners.values()} == {ALIGNERS[aligner]}
    expected, size, _ = plain.step(0, 1, 2)
    batch = aligned.batch(0, 1, 2)
    _, extra = aligned.model(**batch["net_input"], need_maps=True)
    heads = aligned.task.aligned_heads
    _, maps, masks = aligned.task.teaching.teacher.answer(batch["net_input"], torch.float32, heads)
    looks = (extra["maps"], extra["map_masks"], maps, masks)
    parts = aligned.criterion.alignment(*looks, prefix)
    assert list(parts) == ["cross", "fusion"]
    of_all = aligned.criterion.alignment(*looks, 0)
    assert (parts["cross"] < of_all["cross"]) == (prefix > 0)
    for epoch, weight in [(1, 2), (2, 1), (3, 0.5)]:
        loss, aligned_size, log = aligned.step(0, 1, 2, epoch=epoch)
        assert aligned_size == size
        torch.testing.assert_close(loss, expected + weight * sum(parts.values()))
        for family, part in parts.items():
            torch.testing.assert_close(log[f"a2d_{family}"], part.detach())
        assert ("kd_loss" in log) == kd


def test_halves_of_a_batch_add_up(begin, teacher):
    """--update-freq 2 is one batch twice as large, though the families count other tokens."""
    option = ("--teacher-path", teacher.best)
    whole, halves = (begin(*BOTH, *option, *ALIGNED) for _ in range(2))
    halves.criterion.load_state_dict(whole.criterion.state_dict())
    loss, *_ = whole.step(0, 1, 2, 3)
    other = sum(halves.step(*places)[0] for places in [(2, 0), (3, 1)])
    torch.testing.assert_close(other, loss)
    expected = whole.gradients()
    for name, gradient in halves.gradients().items():
        torch.testing.assert_close(gradient, expected[name], atol=1e-4, rtol=1e-4, msg=name)


def test_what_is_no_target_token_does_not_count(begin, teacher, monkeypatch):
    """--num-batch-buckets pads targets before they are shifted, which leaves the decoder one token more."""
    training = begin(*ALONE, "--teacher-path", teacher.best, *ALIGNED)
    expected, *_ = training.step(0, 1, 2)
    batch, dictionary = training.batch(0, 1, 2), training.task.target_dictionary
    pad, end = dictionary.pad(), dictionary.eos()
    lengths = batch["target"].ne(pad).sum(dim=1)
    for sides, name in ((batch, "target"), (batch["net_input"], "prev_output_tokens")):
        sides[name] = torch.nn.functional.pad(sides[name], (0, 1), value=pad)
    batch["net_input"]["prev_output_tokens"][range(3), lengths] = end
    monkeypatch.setattr(training, "batch", lambda *places: batch)
    torch.testing.assert_close(training.step(0, 1, 2)[0], expected)


def test_the_gradient_goes_to_what_makes_the_attention(begin, teacher):
    two_heads = ("--decoder-attention-heads", "2")
    training = begin(*ALONE, "--teacher-path", teacher.best, *ALIGNED, *two_heads)
    batch = training.batch(0, 1, 2)
    _, extra = training.model(**batch["net_input"], need_maps=True)
    heads = training.task.aligned_heads
    _, maps, masks = training.task.teaching.teacher.answer(batch["net_input"], torch.float32, heads)
    parts = training.criterion.alignment(extra["maps"], extra["map_masks"], maps, masks, 0)
    sum(parts.values()).backward()
    found = training.gradients()
    learned = {name for name, gradient in found.items() if gradient.any()}
    assert {
        *("decoder.recurrence.query.weight", "decoder.recurrence.rnn.weight_hh_l0"),
        *("encoder.fusion.text_to_image.query.weight", "encoder.fusion.text_to_image.key.weight"),
        *("alignment.aligners.cross.weight", "alignment.aligners.fusion.weight"),
    } <= learned
    assert not {"decoder.output_projection.weight", "decoder.recurrence.output.weight"} & learned
    for member in training.task.teaching.teacher._members:
        assert all(weight.grad is None for weight in member.model.parameters())


def test_every_family_of_two_transformers_is_aligned(begin, transformer):
    training = begin(
        *(*BOTH, *TRANSFORMER, "--teacher-path", transformer.last, "--a2d-families", FAMILIES),
    )
    _, _, log = training.step(0, 1, 2)
    assert all(log[f"a2d_{family}"] > 0 for family in FAMILIES.split(","))
    assert training.task.aligned_heads == {
        **dict.fromkeys(("cross", "decoder_self", "encoder_self"), (4, 4)),
        "fusion": (2, 2),
    }


def test_an_rnn_learns_from_a_transformer_and_an_rnn_together(begin, transformer, teacher):
    path = f"{transformer.last}:{teacher.best}"
    training = begin(*BOTH, "--teacher-path", path, "--a2d-families", "cross,fusion")
    training.step(0, 1, 2)
    assert training.task.aligned_heads == {"cross": (1, 4 + 1), "fusion": (2, 2 + 2)}


def test_both_sides_see_the_same_token_under_a_column(begin, transformer):
    """Right padding on both sides: real keys get all attention, in sentences of several lengths."""
    training = begin(*BOTH, "--teacher-path", transformer.last, "--a2d-families", "cross,fusion")
    batch = training.batch(0, 1, 2, 3, 4)
    real = batch["net_input"]["src_tokens"].ne(training.task.source_dictionary.pad())
    assert not real.all()
    teacher, (_, extra) = (
        training.task.teaching.teacher,
        training.model(**batch["net_input"], need_maps=True),
    )
    _, maps, masks = teacher.answer(batch["net_input"], torch.float32, ["cross"])
    assert list(maps) == ["cross"]
    for found, keys in (
        (maps["cross"], masks["cross"][1]),
        (extra["maps"]["cross"], extra["map_masks"]["cross"][1]),
    ):
        assert torch.equal(keys, real)
        assert not found.masked_select(~real[:, None, None, :]).any()
    # A sentence of its own has nothing but its own columns.
    for row, place in enumerate(batch["id"].tolist()):
        alone = training.batch(place)["net_input"]
        size, words = alone["src_tokens"].size(1), alone["prev_output_tokens"].size(1)
        assert torch.equal(alone["src_tokens"][0], batch["net_input"]["src_tokens"][row, :size])
        theirs = teacher.answer(alone, torch.float32, ["cross"]).maps["cross"]
        ours = training.model(**alone, need_maps=True)[1]["maps"]["cross"]
        for found, one in ((maps["cross"], theirs), (extra["maps"]["cross"], ours)):
            torch.testing.assert_close(found[row, :, :words, :size], one[0], atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("aligner", ["rowmix", "conv", "mean"])
@pytest.mark.parametrize("heads", ["2", "8"])
def test_a_step_that_will_be_ignored_has_every_gradient(aligner, heads, begin, transformer):
    """A process without a mini-batch takes any, and must see the graph that the others see."""
    options = ("--a2d-families", "cross,fusion", "--a2d-aligner", aligner)
    training = begin(
        *(*BOTH, "--teacher-path", transformer.last, "--decoder-attention-heads", heads, *options)
    )
    assert training.task.aligned_heads["cross"] == (int(heads), 4)
    optimizer = SimpleNamespace(backward=lambda loss: loss.backward())
    args = (training.batch(0, 1, 2), training.model, training.criterion, optimizer, 0)
    loss, *_ = training.task.train_step(*args, ignore_grad=True)
    assert loss == 0
    assert all(weight.grad is not None for weight in training.criterion.parameters())


# -- what is refused ------------------------------------------------------------------------------


def test_there_is_no_loss_of_each_token(begin, teacher):
    training = begin(*BOTH, "--teacher-path", teacher.best, *ALIGNED)
    training.model.train()
    batch = {**training.batch(0), "teacher": {}}
    with pytest.raises(ValueError, match=r"no loss of each target token \(reduce=False\)"):
        training.criterion(training.model, batch, reduce=False)


def test_another_task_gives_no_attention_to_learn(begin, teacher):
    training = begin(*BOTH, "--teacher-path", teacher.best, *ALIGNED)
    training.model.train()
    message = (
        "--a2d-families cross,fusion asks for a teacher's attention, but the mini-batch has no"
    )
    with pytest.raises(ValueError, match=message):
        training.criterion(training.model, training.batch(0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--a2d-families", "cross"], "--a2d-families cross needs a teacher that is asked"),
        (["--a2d-families", "cross,looks", "TEACHER"], "names looks; there are cross"),
        (["--a2d-families", "encoder_self", "TEACHER"], "which the student does not have"),
        (["--a2d-families", "cross", "STOCK"], "the teacher's attention, which only"),
        (["--a2d-weight", "2", "TEACHER"], "--a2d-weight 2.0 has no effect without"),
        (["--a2d-aligner", "conv", "TEACHER"], "--a2d-aligner conv has no effect without"),
        (["--a2d-decay", "0.5", "TEACHER"], "--a2d-decay 0.5 has no effect without"),
        (["--a2d-families", "cross", "--a2d-decay", "1.5", "TEACHER"], "--a2d-decay 1.5 must be"),
        (["--a2d-families", "cross", "--a2d-weight", "0", "TEACHER"], "--a2d-weight 0.0 must be"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(options, message, begin, teacher, stock):
    if options[-1] == "TEACHER":
        options = [*options[:-1], "--teacher-path", teacher.best]
    elif options[-1] == "STOCK":
        options = [*options[:-1], "--teacher-path", stock("lstm").last]
    given = BOTH if "--teacher-path" in options else ALONE
    with pytest.raises(ValueError, match=re.escape(message)):
        begin(*given, *options)


def test_attention_to_a_single_region_is_refused(parse, teacher, store, write_store, tmp_path):
    one = write_store(tmp_path / "one.h5", ImageStore(store).ids, regions=1)
    options = ("--image-h5", one, *BOTH, "--teacher-path", teacher.best)
    with pytest.raises(
        ValueError, match="an image has one region here, to which all attention goes"
    ):
        Training(parse(*options, "--a2d-families", "cross,fusion"))
    Training(parse(*options, "--a2d-families", "cross"))


def test_attention_to_other_regions_is_refused(
    train, parse, pixel_store, backbone_options, tmp_path
):
    """Of the same pictures, where the backbones differ."""
    pictures = ("--image-h5", pixel_store, *backbone_options)
    one = train(tmp_path, *pictures, "--image-backbone-layer", "global", "--max-update", "1").last
    options = (*pictures, *BOTH, "--teacher-path", one, "--a2d-families")
    with pytest.raises(ValueError, match="student sees 4 regions of a picture, the teacher 1:"):
        Training(parse(*options, "cross,fusion"))
    Training(parse(*options, "cross"))


def test_a_cache_is_refused(begin, cache_teacher, data_bin, teacher, store, tmp_path):
    path = tmp_path / "cache.h5"
    command = [data_bin, "--teacher-path", teacher.best, "--output", path, "--topk", 2]
    assert cache_teacher.main(list(map(str, [*command, "--image-h5", store]))) == 0
    with pytest.raises(ValueError, match="a cache knows its probabilities only"):
        begin(*BOTH, "--teacher-cache", path, "--a2d-families", "cross")


# -- whole trainings ------------------------------------------------------------------------------


def test_a_student_resumes_like_new_and_needs_its_teacher_no_more(
    train, fairseq, generate, data_bin, store, teacher, tmp_path
):
    path = shutil.copy(teacher.best, tmp_path / "teacher.pt")
    options = (
        *("--image-h5", store, *BOTH, "--teacher-path", path, *ALIGNED),
        *("--decoder-attention-heads", "2", "--image-dropout", "0.3", "--batch-size", "16"),
        *("--max-epoch", "3", "--log-interval", "1"),
    )
    whole = train(tmp_path / "whole", *options)
    train(tmp_path / "parts", *options, "--max-update", "6")
    parts = train(tmp_path / "parts", *options)
    expected, found = (torch.load(trained.last, weights_only=True) for trained in (whole, parts))
    assert found["criterion"].keys() == {
        f"alignment.aligners.{f}.weight" for f in ("cross", "fusion")
    }
    for part in ("model", "criterion"):
        assert found[part].keys() == expected[part].keys()
        for name, weight in expected[part].items():
            assert torch.equal(found[part][name], weight), name
    assert not any("align" in name for name in found["model"])
    for family in ("cross", "fusion"):
        assert all(value > 0 for value in whole.run.logged(f"a2d_{family}"))
    assert list(dict.fromkeys(whole.run.logged("a2d_weight"))) == [2, 2 * 0.5, 2 * 0.5**2]

    (tmp_path / "teacher.pt").unlink()
    validation = ("--task", "multimodal_translation", "--batch-size", "16", "--num-workers", "0")
    fairseq("validate", data_bin, *validation, "--path", parts.last, "--image-h5", store)
    assert len(generate(parts.last, "--image-h5", store).hypotheses()) == 22


def test_half_batches_and_update_freq_equal_whole_batches(train, store, teacher, tmp_path):
    options = (
        *("--image-h5", store, *BOTH, "--teacher-path", teacher.best, *STILL),
        *("--a2d-families", "cross,fusion", "--decoder-attention-heads", "2"),
        *("--optimizer", "sgd", "--lr", "1", "--max-epoch", "3"),
    )
    whole = train(tmp_path / "whole", *options, "--batch-size", "64")
    halves = train(tmp_path / "halves", *options, "--batch-size", "32", "--update-freq", "2")
    expected, found = (torch.load(one.last, weights_only=True) for one in (whole, halves))
    assert whole.run.logged("train_gnorm")[0] > 0.1  # with a rate of 1 the weights have moved
    for part in ("model", "criterion"):
        for name, weight in expected[part].items():
            torch.testing.assert_close(
                found[part][name], weight, atol=1e-5, rtol=1e-4, msg=f"{part} {name}"
            )


def test_alignment_can_begin_from_a_training_without(train, store, teacher, tmp_path):
    train(tmp_path, "--image-h5", store, *ALONE)
    aligned = ("--teacher-path", teacher.best, *ALIGNED, "--reset-optimizer", "--max-epoch", "2")
    aligned = (*aligned, "--log-interval", "1")
    trained = train(tmp_path, "--image-h5", store, *ALONE, *aligned)
    assert "Loaded checkpoint" in trained.run.log
    assert all(value > 0 for value in trained.run.logged("a2d_cross"))
    assert set(trained.run.logged("a2d_weight")) == {2 * 0.5}  # of the second epoch


def test_other_aligners_are_refused_when_a_training_goes_on(train, store, teacher, tmp_path):
    options = ("--image-h5", store, *BOTH, "--teacher-path", teacher.best, "--max-update")
    train(tmp_path, *options, "1")
    with pytest.raises(ValueError, match=r"has aligned nothing, .* now ask for cross with weights"):
        train(tmp_path, *options, "2", "--a2d-families", "cross")
    train(tmp_path, *options, "2", "--a2d-families", "cross,fusion", "--reset-optimizer")
    aligner = ["cross,fusion", "--a2d-aligner"]
    for other in (["cross"], [*aligner, "conv"], [*aligner, "mean"]):
        with pytest.raises(ValueError, match="has aligned cross, fusion with weights of"):
            train(tmp_path, *options, "3", "--a2d-families", *other)
    train(tmp_path, *options, "3", "--a2d-families", "fusion,cross")  # in any order
    state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
    state["last_optimizer_state"] = None  # as of averaged checkpoints: it begins anew
    torch.save(state, tmp_path / "average.pt")
    from_average = (*options, "3", "--restore-file", tmp_path / "average.pt", "--max-epoch", "1")
    train(tmp_path / "new", *from_average, "--a2d-families", "cross")
    last = train(tmp_path, *options, "4", "--a2d-families", "cross", "--reset-optimizer")
    assert "the aligners begin anew" in last.run.log
    options = (*options, "1", "--finetune-from-model", last.last)
    anew = train(tmp_path / "anew", *options, *ALIGNED, "--log-interval", "1")
    assert "Loaded checkpoint" in anew.run.log
    assert set(anew.run.logged("a2d_weight")) == {2}  # of the first epoch
