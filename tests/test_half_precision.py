"""Students in float16 and bfloat16, with every kind of teacher, on a CPU.

A loss of a model in such a type is compared with that of the same weights in float32. It may differ by
the type's unit roundoff, relative: 2^-11 for float16, 2^-8 for bfloat16.
"""

import copy
import importlib.machinery
import logging
import re
import shlex
import sys
import types
from typing import NamedTuple
from unittest import mock

import pytest
import torch
from fairseq import tasks, utils
from fairseq.logging import metrics
from fairseq.trainer import Trainer
from fairseq_cli import train as fairseq_train
from omegaconf import OmegaConf
from weights import weights

from caf_dkd_plugin.criterions.kd_label_smoothed_cross_entropy import (
    KDLabelSmoothedCrossEntropyCriterion,
)
from caf_dkd_plugin.distillation.divergences import DIVERGENCES
from caf_dkd_plugin.distillation.teacher import FrozenTeacher

KD = ("--criterion", "kd_label_smoothed_cross_entropy", "--kd-lambda", "0.3")
NO_DROPOUT = ("--dropout", "0", "--embed-dropout", "0", "--fusion-dropout", "0")

TRANSFORMER = shlex.split(
    "--arch cross_modal_transformer_tiny --encoder-layers 2 --decoder-layers 2 --dropout 0 "
    "--fusion-dropout 0"
)

A2D = {"criterion.a2d_families": "cross,fusion", "model.decoder_attention_heads": 2}

FP16 = {"common.fp16": True, "common.fp16_no_flatten_grads": True}  # flat ones are for GPUs only
BF16 = {"common.bf16": True}
PRECISIONS = {torch.float32: {}, torch.float16: FP16, torch.bfloat16: BF16}


def roundoff(dtype):
    """The largest relative error of rounding a number to this type."""
    return torch.finfo(dtype).eps / 2


@pytest.fixture(scope="module")
def teachers(cache_teacher, teacher, stock, data_bin, store, tmp_path_factory):
    """The settings that ask for a teacher of each kind."""
    paths = [teacher.best, stock("transformer").last, stock("lstm").last]
    changes = {}
    for name, path in (("one", str(teacher.best)), ("ensemble", ":".join(map(str, paths)))):
        cache = tmp_path_factory.mktemp("cache") / "teacher.h5"
        command = [data_bin, "--image-h5", store, "--teacher-path", path, "--output", cache]
        assert cache_teacher.main(list(map(str, command))) == 0
        changes[name] = {"task.teacher_path": path}
        changes[f"{name} cached"] = {"task.teacher_cache": str(cache)}
    return changes


@pytest.fixture(scope="module")
def settings(parse, store):
    """A function that gives the settings of a training, changed as fairseq-hydra-train would.

    With a stock architecture fairseq-train takes --bf16 for a sign of a TPU; the settings do not.
    """
    rnn = parse("--image-h5", store, *KD, *NO_DROPOUT)
    transformer = parse("--image-h5", store, *KD, *TRANSFORMER)

    def change(changes):
        changed = copy.deepcopy(transformer if "transformer" in changes else rnn)
        for name, value in changes.items():
            if name == "transformer":
                continue
            OmegaConf.update(changed, name, value, merge=False)
        return changed

    return change


# -- one update -----------------------------------------------------------------------------------


class Update(NamedTuple):
    """What happened in it."""

    student: torch.dtype
    """type of the model"""
    asked: list
    """in which type the teacher was asked to compute"""
    answered: list
    """and of which type its answer was"""
    loss: torch.Tensor
    kd_loss: torch.Tensor
    gradient: torch.Tensor
    """(P,) of all weights, the aligners' among them; fairseq's scale of the loss is in it"""
    gradient_norm: float
    """without that scale"""


@pytest.fixture(scope="module")
def update(settings, teachers):
    """A function that does fairseq's first update: (kind of teacher, dtype, changes) -> Update."""

    def update(kind, dtype, changes) -> Update:
        cfg = settings({**teachers[kind], **PRECISIONS[dtype], **changes})
        utils.set_torch_seed(1)
        task = tasks.setup_task(cfg.task)
        model, criterion = task.build_model(cfg.model), task.build_criterion(cfg.criterion)
        trainer = Trainer(cfg, task, model, criterion)
        task.load_dataset("train")
        pairs = task.dataset("train")
        batch = pairs.collater([pairs[place] for place in (0, 2, 3, 4)])
        asked, answered, losses = [], [], []

        def answer(teacher, net_input, dtype, need_maps):
            asked.append(dtype)
            said = ask(teacher, net_input, dtype, need_maps)
            answered.append(said.log_probs.dtype)
            return said

        def forward(*args, **kwargs):
            losses.append(compute(*args, **kwargs))
            return losses[-1]

        ask, compute = FrozenTeacher.answer, KDLabelSmoothedCrossEntropyCriterion.forward
        with (
            mock.patch.object(FrozenTeacher, "answer", answer),
            mock.patch.object(KDLabelSmoothedCrossEntropyCriterion, "forward", forward),
            metrics.aggregate(new_root=True) as logged,
        ):
            trainer.train_step([batch])
        [(loss, _, log)] = losses
        weights = [*trainer.model.parameters(), *trainer.criterion.parameters()]
        return Update(
            student=weights[0].dtype,
            asked=asked,
            answered=answered,
            loss=loss.detach(),
            kd_loss=log["kd_loss"],
            gradient=torch.cat([weight.grad.flatten().float() for weight in weights]),
            gradient_norm=float(logged["gnorm"].avg),
        )

    return update


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        *(
            (kind, {"criterion.kd_divergence": divergence})
            for kind in ("one", "one cached")
            for divergence in DIVERGENCES
        ),
        ("ensemble", {}),
        ("ensemble cached", {}),
        ("one", {"model.rnn_cell": "lstm", "model.decoder_input_feeding": True}),
        ("one", {"model.fusion_direction": "both", "model.fusion_normalize_image": True}),
        ("one", {"model.encoder_layers": 0, "model.fusion_residual": True}),
        *(
            ("one", {**A2D, "criterion.a2d_aligner": aligner})
            for aligner in ("rowmix", "conv", "mean")
        ),
        ("one", {"transformer": True, "criterion.a2d_families": "cross,fusion"}),
    ],
    ids=lambda value: value if isinstance(value, str) else ",".join(map(str, value.values())),
)
def test_the_first_update_is_that_of_float32(kind, changes, dtype, update):
    """At temperature 2, the default.

    The gradient may turn by several roundoffs: a ReLU near zero is switched by one.
    """
    found, expected = update(kind, dtype, changes), update(kind, torch.float32, changes)
    assert found.student == dtype
    assert found.asked == ([] if "cached" in kind else [dtype])
    assert found.answered == ([] if "cached" in kind else [torch.float32])
    assert found.loss.dtype == found.kd_loss.dtype == torch.float32
    for name in ("loss", "kd_loss"):
        assert abs(getattr(found, name) / getattr(expected, name) - 1) < roundoff(dtype), name
    assert found.gradient.isfinite().all()
    assert found.gradient_norm == pytest.approx(expected.gradient_norm, rel=8 * roundoff(dtype))
    directions = [x / x.norm() for x in (found.gradient, expected.gradient)]
    assert torch.dist(*directions) < 8 * roundoff(dtype)


# -- whole commands -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arch",
    [
        "cross_modal_rnn",
        "cross_modal_rnn_tiny",
        "cross_modal_transformer",
        "cross_modal_transformer_tiny",
    ],
)
@pytest.mark.parametrize("option", ["--bf16", "--memory-efficient-bf16"])
def test_bf16_needs_no_tpu(arch, option, parse):
    common = parse("--arch", arch, option).common
    assert (common.bf16, common.tpu) == (True, False)


@pytest.mark.parametrize("flags", [("--tpu",), ("--tpu", "--bf16")])
def test_an_installed_tpu_is_left_alone(flags, parse, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_xla", types.ModuleType("torch_xla"))
    sys.modules["torch_xla"].__spec__ = importlib.machinery.ModuleSpec("torch_xla", None)
    assert parse("--arch", "cross_modal_rnn", *flags).common.tpu


def test_fairseq_train_takes_bf16(train, generate, tmp_path):
    trained = train(tmp_path, "--arch", "cross_modal_rnn", "--bf16", "--max-epoch", "1")
    for weight in weights(trained.last).values():
        assert torch.equal(weight, weight.bfloat16().float())
    assert "\nH-" in generate(trained.last).out


@pytest.mark.parametrize(
    ("kind", "precision"),
    [
        ("one", FP16),
        ("one", {**FP16, **A2D}),
        ("ensemble cached", {"common.fp16": True, "common.memory_efficient_fp16": True}),
        ("one cached", BF16),
        ("ensemble", {**BF16, "common.memory_efficient_bf16": True}),
        ("one", {"common.amp": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else list(value)[-1],
)
def test_a_student_is_trained(kind, precision, settings, teachers, tmp_path, caplog):
    """An epoch, and another one after a resume. On a CPU, AMP does nothing."""
    changes = {
        **teachers[kind],
        **precision,
        "criterion.kd_lambda_end": 0.8,
        "criterion.kd_lambda_updates": 12,
        "task.image_dropout": 0.2,
        "checkpoint.save_dir": str(tmp_path),
        "task.save_dir": str(tmp_path),
    }
    losses = []
    caplog.set_level(logging.INFO)
    for epochs in (1, 2):
        with metrics.aggregate(new_root=True):
            fairseq_train.main(settings({**changes, "optimization.max_epoch": epochs}))
        state = torch.load(tmp_path / "checkpoint_last.pt", weights_only=True)
        assert state["optimizer_history"][-1]["num_updates"] == 8 * epochs
        learned = {**state["model"], **(state["criterion"] or {})}
        assert all(weight.isfinite().all() for weight in learned.values())
        losses.append(state["extra_state"]["val_loss"])
    assert losses[1] < losses[0]
    assert "Loaded checkpoint" in caplog.text


def test_a_student_is_used_in_float16(student, fairseq, generate, data_bin, store):
    validation = ("--task", "multimodal_translation", "--batch-size", "8", "--num-workers", "0")
    said = fairseq("validate", data_bin, *validation, "--path", student.last, "--fp16").text
    loss = float(re.search(r" loss ([\d.]+) ", said).group(1))
    expected = student.run.logged("valid_loss")[-1]
    assert loss == pytest.approx(expected, rel=2 * roundoff(torch.float16))
    assert len(generate(student.last, "--image-h5", store, "--fp16").hypotheses()) == 22


@pytest.mark.parametrize("option", ["--bf16", "--memory-efficient-bf16"])
def test_bfloat16_of_a_stock_model_is_answered_with_what_to_do(option, train, tmp_path):
    """fairseq takes the option for a sign of a TPU, on any machine."""
    with pytest.raises(
        ValueError, match=r"--bf16 asks fairseq-train for a TPU.* common\.bf16=true"
    ):
        train(tmp_path, "--arch", "lstm", option)
