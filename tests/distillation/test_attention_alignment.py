"""Align-to-Distill on tensors: the loss, its masks and what can be learned through it."""

import math

import pytest
import torch
from torch import nn

from caf_dkd_plugin.distillation.aligners import ALIGNERS, FlatConv, Mean, RowMix
from caf_dkd_plugin.distillation.attention_alignment import (
    FAMILIES,
    AttentionAlignment,
    family_problems,
)

B, S, T, R = 3, 5, 4, 6
SIZES = {"cross": (T, S), "decoder_self": (T, T), "fusion": (S, R), "encoder_self": (S, S)}
"""queries and keys of each family"""
SOURCE, TARGET, REGIONS = [5, 3, 2], [4, 2, 3], [6, 0, 2]
"""real ones of each sentence; the second has no image"""
HEADS = {"cross": (2, 3), "decoder_self": (3, 2), "fusion": (1, 4), "encoder_self": (2, 2)}
"""of student and teacher"""


def mask(counts, size):
    return torch.arange(size) < torch.tensor(counts)[:, None]


MASKS = {
    "cross": (mask(TARGET, T), mask(SOURCE, S)),
    "decoder_self": (mask(TARGET, T), mask(TARGET, T)),
    "fusion": (mask(SOURCE, S), mask(REGIONS, R)),
    "encoder_self": (mask(SOURCE, S), mask(SOURCE, S)),
}


def maps(side, seed=0, masks=MASKS):
    """Of each family (B, C, X, K) float64: distributions over the real keys, zero without any."""
    random = torch.Generator().manual_seed(10 * seed + side)
    found = {}
    for family, (queries, keys) in SIZES.items():
        scores = 2 * torch.randn(
            B, HEADS[family][side], queries, keys, generator=random, dtype=torch.float64
        )
        real = masks[family][1][:, None, None, :]
        rows = scores.masked_fill(~real, -1e9).softmax(-1) * real
        found[family] = rows
    return found


def build(aligner="rowmix", families=FAMILIES):
    torch.manual_seed(3)
    return AttentionAlignment(aligner, {family: HEADS[family] for family in families}).double()


def loss(module, student, teacher, masks=MASKS, teacher_masks=MASKS, first=0):
    return module(student, masks, teacher, teacher_masks, first)


def by_loops(family, student, teacher, weights, first=0, masks=MASKS):
    """sum over sentences and their queries of the mean over the teacher's heads of the row's KL."""
    queries, keys = masks[family]
    total = 0.0
    for b in range(B):
        sentence = 0.0
        for x in range(student.size(2)):
            skipped = family in ("cross", "decoder_self") and x < first
            if skipped or not queries[b, x] or not keys[b].any():
                continue
            for i in range(teacher.size(1)):
                row = sum(weights[i, j] * student[b, j, x] for j in range(student.size(1)))
                for k in range(student.size(3)):
                    if keys[b, k] and teacher[b, i, x, k] > 0:
                        log_ratio = math.log(teacher[b, i, x, k]) - math.log(max(row[k], 1e-8))
                        sentence += teacher[b, i, x, k].item() * log_ratio / teacher.size(1)
        if family in ("fusion", "encoder_self"):
            sentence *= (TARGET[b] - min(first, TARGET[b])) / SOURCE[b]
        total += sentence
    return total


@pytest.mark.parametrize("first", [0, 1])
def test_rowmix_is_the_formula(first):
    module, student, teacher = build(), maps(0), maps(1)
    found = loss(module, student, teacher, first=first)
    assert list(found) == list(FAMILIES)
    for family, value in found.items():
        weights = module.aligners[family].weight.softmax(-1).detach()
        expected = by_loops(family, student[family], teacher[family], weights, first)
        assert expected > 0.1
        torch.testing.assert_close(value.item(), expected, atol=1e-6, rtol=1e-6)


def test_single_precision_is_enough():
    def narrow(maps):
        return {family: x.float() for family, x in maps.items()}

    expected = loss(build(), maps(0), maps(1))
    for family, value in loss(build().float(), narrow(maps(0)), narrow(maps(1))).items():
        torch.testing.assert_close(value.double(), expected[family], atol=1e-5, rtol=1e-5)


def test_mean_is_the_formula_of_the_means():
    student, teacher = maps(0), maps(1)
    for family, value in loss(build("mean"), student, teacher).items():
        one, other = (x[family].mean(dim=1, keepdim=True) for x in (student, teacher))
        expected = by_loops(family, one, other, torch.ones(1, 1))
        torch.testing.assert_close(value.item(), expected, atol=1e-6, rtol=1e-6)


def test_conv_is_the_published_formula():
    """A softmax over all cells of each map, KL summed over sentences and maps, decoder families half."""
    module, student, teacher = build("conv"), maps(0), maps(1)
    for family, value in loss(module, student, teacher).items():
        mix, total = module.aligners[family].mix, 0.0
        weight = mix.weight.detach()[:, :, 0, 0]
        for b in range(B):
            for i in range(teacher[family].size(1)):
                aligned = mix.bias[i] + sum(
                    w * heads for w, heads in zip(weight[i], student[family][b])
                )
                q, p = (x.flatten().softmax(0) for x in (aligned, teacher[family][b, i]))
                total += (p * (p.log() - q.log())).sum().item()
        half = 0.5 if family in ("cross", "decoder_self") else 1
        torch.testing.assert_close(value.item(), half * total, atol=1e-6, rtol=1e-6)


def test_conv_counts_one_decoder_family_whole():
    student, teacher = maps(0), maps(1)
    both = build("conv", ["cross", "decoder_self"])
    alone = build("conv", ["cross"])
    alone.load_state_dict({k: v for k, v in both.state_dict().items() if ".cross." in k})
    assert loss(alone, student, teacher)["cross"] == 2 * loss(both, student, teacher)["cross"]


@pytest.mark.parametrize("aligner", ALIGNERS)
def test_targets_that_are_no_longer_than_the_prefix_are_no_loss(aligner):
    module, student = build(aligner, ["cross"]), maps(0)
    student["cross"].requires_grad_()
    found = loss(module, student, maps(1), first=T)["cross"]
    found.backward()
    assert found == 0
    for weight in (student["cross"], *module.parameters()):
        assert not weight.grad.any()


@pytest.mark.parametrize("aligner", ["rowmix", "mean"])
def test_a_key_that_the_student_does_not_look_at_costs_a_bounded_amount(aligner):
    module = AttentionAlignment(aligner, {"cross": (1, 1)}).double()
    masks = {"cross": (torch.ones(1, 1, dtype=torch.bool), torch.ones(1, 2, dtype=torch.bool))}
    student, teacher = (
        {"cross": torch.tensor(row, dtype=torch.float64).view(1, 1, 1, 2)}
        for row in ([1.0, 0.0], [0.0, 1.0])
    )
    found = module(student, masks, teacher, masks, 0)["cross"]
    assert found.item() == pytest.approx(-math.log(1e-8))


def test_mixtures_do_not_begin_alike():
    """From equal ones every head of the student would be drawn to the same place."""
    torch.manual_seed(0)
    weights = RowMix(4, 3).weight.softmax(-1)
    assert (weights.std(dim=0) > 0.01).all()


def test_a_bias_of_conv_is_inert():
    module = build("conv")
    sum(loss(module, maps(0), maps(1)).values()).backward()
    for aligner in module.aligners.values():
        assert aligner.mix.weight.grad.abs().max() > 1e-4
        assert aligner.mix.bias.grad.abs().max() < 1e-8


def padded(maps_or_masks, more=3):
    """With more padding on the right of queries and keys."""
    if isinstance(next(iter(maps_or_masks.values())), tuple):
        return {
            family: tuple(nn.functional.pad(x, (0, more)) for x in both)
            for family, both in maps_or_masks.items()
        }
    return {family: nn.functional.pad(x, (0, more, 0, more)) for family, x in maps_or_masks.items()}


def of(values, b):
    if isinstance(values, tuple):
        return tuple(x[b : b + 1] for x in values)
    return values[b : b + 1]


@pytest.mark.parametrize("aligner", ["rowmix", "mean"])
def test_a_batch_is_the_sum_of_its_sentences_however_it_is_padded(aligner):
    module, student, teacher = build(aligner), maps(0), maps(1)
    whole = loss(module, student, teacher)
    for family, value in loss(
        module, padded(student), padded(teacher), *[padded(MASKS)] * 2
    ).items():
        torch.testing.assert_close(value, whole[family])
    alone = [
        loss(
            module,
            *({family: of(x, b) for family, x in side.items()} for side in (student, teacher)),
            *[{family: of(both, b) for family, both in MASKS.items()}] * 2,
        )
        for b in (2, 0, 1)
    ]
    for family, value in whole.items():
        torch.testing.assert_close(sum(each[family] for each in alone), value)


def test_the_published_form_depends_on_padding():
    module, student, teacher = build("conv"), maps(0), maps(1)
    whole = loss(module, student, teacher)
    more = loss(module, padded(student), padded(teacher), *[padded(MASKS)] * 2)
    for family, value in whole.items():
        assert abs(more[family] / value - 1) > 0.1


@pytest.mark.parametrize("hidden", ["student", "teacher"])
def test_a_query_without_a_key_on_either_side_does_not_count(hidden):
    """An image that --image-dropout hides from the student, or a sentence without one."""
    module = build(families=["fusion", "cross"])
    masks = {**MASKS, "fusion": (MASKS["fusion"][0], MASKS["fusion"][1].clone())}
    masks["fusion"][1][0] = False
    sides = {"student": (maps(0), MASKS), "teacher": (maps(1), MASKS)}
    sides[hidden] = (maps(("student", "teacher").index(hidden), masks=masks), masks)
    (student, student_masks), (teacher, teacher_masks) = sides["student"], sides["teacher"]
    student = {family: x.requires_grad_() for family, x in student.items()}
    found = loss(module, student, teacher, student_masks, teacher_masks)["fusion"]
    found.backward()
    gradient = student["fusion"].grad
    weights = module.aligners["fusion"].weight.softmax(-1).detach()
    values = (student["fusion"].detach(), teacher["fusion"])
    assert found.item() == pytest.approx(by_loops("fusion", *values, weights, masks=masks))
    assert found > 0
    assert torch.isfinite(gradient).all()
    assert [bool(gradient[b].any()) for b in range(B)] == [False, False, True]


def test_nothing_counts_where_no_sentence_has_an_image():
    masks = {**MASKS, "fusion": (MASKS["fusion"][0], torch.zeros(B, R, dtype=torch.bool))}
    student, teacher = maps(0, masks=masks), maps(1, masks=masks)
    module = build(families=["fusion"])
    found = loss(module, student, teacher, masks, masks)["fusion"]
    found.backward()
    assert found == 0
    assert not module.aligners["fusion"].weight.grad.any()


def test_one_key_leaves_nothing_to_learn():
    module = AttentionAlignment("rowmix", {"cross": (2, 3)}).double()
    ones = {"cross": (torch.ones(B, T, dtype=torch.bool), torch.ones(B, 1, dtype=torch.bool))}
    student, teacher = (torch.ones(B, heads, T, 1, dtype=torch.float64) for heads in (2, 3))
    found = module({"cross": student}, ones, {"cross": teacher}, ones, 0)["cross"]
    assert abs(found.item()) < 1e-12


def test_the_same_heads_in_the_same_order_are_no_loss():
    module = AttentionAlignment("rowmix", {"cross": (3, 3)}).double()
    with torch.no_grad():
        module.aligners["cross"].weight.copy_(50 * torch.eye(3))
    teacher = maps(1)
    assert loss(module, teacher, teacher)["cross"].item() < 1e-9


def test_a_mixture_of_the_students_heads_can_be_learned():
    torch.manual_seed(0)
    module, student = AttentionAlignment("rowmix", {"cross": (2, 3)}).double(), maps(0)
    truth = torch.tensor([[0.9, 0.1], [0.2, 0.8], [0.5, 0.5]], dtype=torch.float64)
    teacher = {"cross": torch.einsum("ts,bsxk->btxk", truth, student["cross"])}
    optimizer = torch.optim.Adam(module.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        found = loss(module, student, teacher)["cross"]
        found.backward()
        optimizer.step()
    assert found.item() < 1e-4
    torch.testing.assert_close(
        module.aligners["cross"].weight.softmax(-1), truth, atol=0.01, rtol=0
    )


# -- half precision -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("aligner", ALIGNERS)
def test_autocast_changes_nothing(aligner, dtype):
    """In float16 the smallest probability of an attention would be zero, and its log infinite."""
    module = build(aligner).float()
    student, teacher = ({f: x.float() for f, x in maps(side).items()} for side in (0, 1))
    expected = loss(module, student, teacher)
    with torch.autocast("cpu", dtype):
        found = loss(module, student, teacher)
    for family, value in expected.items():
        assert torch.equal(found[family], value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("aligner", ALIGNERS)
def test_a_halved_criterion_reads_attention_in_any_precision(aligner, dtype):
    """Both sides' weights are float32 with --fp16 too; in half precision they would do as well."""
    module = build(aligner).to(dtype)
    expected = loss(build(aligner), maps(0), maps(1))
    for precision in (dtype, torch.float32):
        student, teacher = ({f: x.to(precision) for f, x in maps(side).items()} for side in (0, 1))
        for family, value in loss(module, student, teacher).items():
            torch.testing.assert_close(value.double(), expected[family], atol=0, rtol=4e-3)


# -- gradients ------------------------------------------------------------------------------------


@pytest.mark.parametrize("aligner", ALIGNERS)
def test_the_gradient_goes_to_the_student_and_not_to_the_teacher(aligner):
    module = build(aligner)
    student, teacher = (
        {family: x.requires_grad_() for family, x in maps(side).items()} for side in (0, 1)
    )
    sum(loss(module, student, teacher).values()).backward()
    assert all(x.grad.any() for x in student.values())
    assert all(x.grad is None for x in teacher.values())


def test_each_aligner_has_what_it_learns():
    shapes = {
        name: {k: tuple(v.shape) for k, v in aligner(2, 3).state_dict().items()}
        for name, aligner in ALIGNERS.items()
    }
    assert shapes == {
        "rowmix": {"weight": (3, 2)},
        "conv": {"mix.weight": (3, 2, 1, 1), "mix.bias": (3,)},
        "mean": {},
    }
    assert {"rowmix": RowMix, "conv": FlatConv, "mean": Mean} == ALIGNERS


# -- what can be aligned --------------------------------------------------------------------------

RNN = {"cross": 1, "fusion": 4}
TRANSFORMER = {"encoder_self": 16, "decoder_self": 16, "cross": 16, "fusion": 4}


@pytest.mark.parametrize(
    ("families", "student", "teacher", "other_source"),
    [
        (["cross", "fusion"], RNN, TRANSFORMER, False),
        (FAMILIES, TRANSFORMER, TRANSFORMER, False),
        (["decoder_self"], TRANSFORMER, TRANSFORMER, True),
    ],
)
def test_what_both_sides_have_can_be_aligned(families, student, teacher, other_source):
    assert family_problems(families, student, teacher, other_source) == []


@pytest.mark.parametrize(
    ("families", "student", "teacher", "other_source", "problems"),
    [
        (["cros", "fusion"], RNN, RNN, False, ["names cros; there are cross, decoder_self"]),
        (["cross", "cross"], RNN, RNN, False, ["cross,cross names a family twice"]),
        (["cross"], RNN, None, False, ["the teacher's attention, which only"]),
        (["cross"], None, RNN, False, ["the student's attention, which only"]),
        (
            ["fusion", "encoder_self"],
            RNN,
            {"cross": 4},
            True,
            [
                "encoder_self, which the student does not have: it has cross, fusion",
                "fusion, encoder_self, which the teacher does not have: it has cross",
                "with --teacher-source-lang the teacher reads other source tokens",
            ],
        ),
    ],
)
def test_all_that_stands_against_it_is_said(families, student, teacher, other_source, problems):
    found = family_problems(families, student, teacher, other_source)
    assert len(found) == len(problems)
    for line, part in zip(found, problems):
        assert part in line
