"""The loss in blocks of positions is the one over all of them at once."""

import math

import pytest
import torch

from caf_dkd_plugin.distillation import blockwise_loss
from caf_dkd_plugin.distillation.blockwise_loss import Mixture
from caf_dkd_plugin.distillation.divergences import forward_kl
from caf_dkd_plugin.distillation.losses import mixed_loss
from caf_dkd_plugin.distillation.tail_shape import fit_tail_shape
from caf_dkd_plugin.distillation.top_k import soft_probabilities, soften_top_k, top_k

SYMBOLS = 40
POSITIONS = 3 * blockwise_loss.BLOCK + 7
PAD = 1
TEMPERATURES = pytest.mark.parametrize("temperature", [1.0, 1.5, 2.0])
MIXTURES = pytest.mark.parametrize(
    "mixture",
    [
        Mixture(kd_lambda, smoothing, temperature)
        for kd_lambda, smoothing in ((0.3, 0.1), (0.3, 0.0), (0.0, 0.1), (1.0, 0.1))
        for temperature in (1.0, 1.5, 2.0)
    ],
    ids=str,
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(1)


@pytest.fixture
def log_probs():
    return (2 * torch.randn(POSITIONS, SYMBOLS, dtype=torch.float64)).log_softmax(dim=-1)


@pytest.fixture
def student():
    logits = torch.randn(POSITIONS, SYMBOLS, dtype=torch.float64)
    return logits.log_softmax(dim=-1).requires_grad_()


@pytest.fixture
def target():
    """About a third is padding."""
    symbols = torch.randint(SYMBOLS, (POSITIONS,))
    return symbols.masked_fill(torch.rand(POSITIONS) < 0.3, PAD)


@pytest.fixture(params=["live", "cached"])
def teacher(request, log_probs):
    if request.param == "live":
        return log_probs
    return top_k(log_probs, 5, fit_tail_shape(log_probs.clone(), rank=6))


@pytest.fixture(params=["blocks", "as on a GPU"])
def blocks(request, monkeypatch):
    if request.param == "as on a GPU":
        monkeypatch.setattr(blockwise_loss, "is_slow_to_look_at", lambda tensor: True)


def mixed(student, target, teacher, mixture, divergence=forward_kl):
    return mixed_loss(student, target, PAD, teacher, mixture, divergence)


def at_once(*args):
    """What :func:`mixed_loss` gives of any other divergence."""

    def any_other(one, other):
        return forward_kl(one, other)

    return mixed(*args, any_other)


def with_gradient(losses, student):
    """Losses and gradient, where every position counts another number of times."""
    weights = torch.arange(len(losses.mixed), dtype=student.dtype)
    gradient = torch.autograd.grad(losses.mixed @ weights, student)
    return tuple(x.detach() for x in (*losses, *gradient))


@MIXTURES
@pytest.mark.usefixtures("blocks")
def test_it_is_the_loss_of_all_positions_at_once(mixture, student, target, teacher):
    found = with_gradient(mixed(student, target, teacher, mixture), student)
    expected = with_gradient(at_once(student, target, teacher, mixture), student)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@MIXTURES
@pytest.mark.usefixtures("blocks")
def test_what_it_reads_stays_as_it_is(mixture, student, target, teacher):
    tensors = [student, target, *(teacher[:4] if isinstance(teacher, tuple) else [teacher])]
    before = [tensor.detach().clone() for tensor in tensors]
    loss = mixed(student, target, teacher, mixture).mixed.sum()
    first, second = (
        torch.autograd.grad(loss, student, retain_graph=True)[0].clone() for _ in range(2)
    )
    [thrice] = torch.autograd.grad(3 * loss, student)
    assert torch.equal(first, second)
    torch.testing.assert_close(thrice, 3 * first)
    assert all(torch.equal(*pair) for pair in zip(before, tensors))


def test_a_low_temperature_does_not_underflow(student, target, log_probs):
    mixture = Mixture(0.3, 0.1, 0.001)
    found = with_gradient(mixed(student, target, log_probs, mixture), student)
    expected = with_gradient(at_once(student, target, log_probs, mixture), student)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_automatic_mixed_precision_leaves_it_in_float32(temperature, student, target, teacher):
    mixture = Mixture(0.3, 0.1, temperature)
    student = student.detach().float().requires_grad_()
    if isinstance(teacher, torch.Tensor):
        teacher = teacher.float()
    else:
        numbers = (number.float() for number in teacher[1:4])
        shape = type(teacher.shape)(*(part.float() for part in teacher.shape))
        teacher = type(teacher)(teacher.ids, *numbers, shape)
    expected = with_gradient(mixed(student, target, teacher, mixture), student)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = mixed(student, target, teacher, mixture)
    found = with_gradient(losses, student)
    assert all(torch.equal(*pair) for pair in zip(expected, found))


def test_only_the_mixture_has_a_gradient(student, target, teacher):
    found = mixed(student, target, teacher, Mixture(0.3, 0.1, 2.0))
    assert [loss.requires_grad for loss in found] == [True, False, False]


@pytest.mark.usefixtures("blocks")
def test_nothing_but_padding_has_no_loss(student, teacher):
    target = torch.full((POSITIONS,), PAD)
    found = with_gradient(mixed(student, target, teacher, Mixture(0.3, 0.1, 2.0)), student)
    assert not any(x.any() for x in found)


@pytest.mark.usefixtures("blocks")
def test_what_a_teacher_says_of_padding_does_not_matter(student, target, teacher):
    mixture = Mixture(0.3, 0.1, 2.0)
    numbers = teacher if isinstance(teacher, torch.Tensor) else teacher.log_probs
    expected = with_gradient(mixed(student, target, teacher, mixture), student)
    numbers[target == PAD] = 3.0
    found = with_gradient(mixed(student, target, teacher, mixture), student)
    assert all(torch.equal(*pair) for pair in zip(expected, found))


@TEMPERATURES
@pytest.mark.parametrize("k", [1, 5, SYMBOLS])
@pytest.mark.parametrize("possible", [True, False], ids=["with a tail", "impossible tail"])
def test_soft_probabilities_are_those_of_the_softened_distribution(
    temperature, k, possible, log_probs
):
    if not possible:
        ids = log_probs.topk(k).indices
        kept = torch.full_like(log_probs, -math.inf).scatter(-1, ids, log_probs.gather(-1, ids))
        log_probs = kept.log_softmax(dim=-1)
    kept = top_k(log_probs, k, fit_tail_shape(log_probs.clamp(min=-9), rank=6))
    kept = kept._replace(tail_code=torch.randn(POSITIONS, 6, dtype=torch.float64))
    q, negative_entropy = soft_probabilities(kept, temperature, SYMBOLS)
    expected = soften_top_k(kept, temperature, SYMBOLS)
    torch.testing.assert_close(q, expected.exp())
    torch.testing.assert_close(
        negative_entropy, -torch.distributions.Categorical(logits=expected).entropy()
    )
