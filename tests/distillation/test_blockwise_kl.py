"""The divergence in blocks of positions is the one over all of them at once."""

import math

import pytest
import torch

from caf_dkd_plugin.distillation import blockwise_kl
from caf_dkd_plugin.distillation.divergences import forward_kl
from caf_dkd_plugin.distillation.losses import distillation_loss, soften
from caf_dkd_plugin.distillation.tail_shape import fit_tail_shape
from caf_dkd_plugin.distillation.top_k import soft_probabilities, soften_top_k, top_k

SYMBOLS = 40
POSITIONS = 3 * blockwise_kl.BLOCK + 7
TEMPERATURES = pytest.mark.parametrize("temperature", [1.0, 1.5, 2.0])


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
def real():
    return torch.rand(POSITIONS) < 0.7


@pytest.fixture(params=["live", "cached"])
def teacher(request, log_probs):
    if request.param == "live":
        return log_probs
    return top_k(log_probs, 5, fit_tail_shape(log_probs.clone(), rank=6))


@pytest.fixture(params=["blocks", "one block"])
def blocks(request, monkeypatch):
    if request.param == "one block":  # as on a GPU
        monkeypatch.setattr(blockwise_kl, "_blocks", lambda real: (torch.arange(len(real)),))


def at_once(student, teacher, real, temperature):
    """What :func:`distillation_loss` gives of any other divergence."""
    if isinstance(teacher, torch.Tensor):
        softened = soften(teacher, temperature)
    else:
        softened = soften_top_k(teacher, temperature, SYMBOLS)
    found = forward_kl(soften(student, temperature), softened)
    return found.masked_fill(~real, 0.0) * temperature**2


def with_gradient(loss, student):
    """Loss and gradient, where every position counts another number of times."""
    weights = torch.arange(len(loss), dtype=loss.dtype)
    return loss.detach(), *torch.autograd.grad(loss @ weights, student)


@TEMPERATURES
@pytest.mark.usefixtures("blocks")
def test_it_is_the_divergence_of_all_positions_at_once(temperature, student, teacher, real):
    found = with_gradient(distillation_loss(student, teacher, real, temperature), student)
    expected = with_gradient(at_once(student, teacher, real, temperature), student)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@TEMPERATURES
@pytest.mark.usefixtures("blocks")
def test_student_and_teacher_stay_as_they_are(temperature, student, teacher, real):
    tensors = [student, *(teacher[:4] if isinstance(teacher, tuple) else [teacher])]
    before = [tensor.detach().clone() for tensor in tensors]
    loss = distillation_loss(student, teacher, real, temperature)
    first, second = (
        torch.autograd.grad(loss.sum(), student, retain_graph=True)[0] for _ in range(2)
    )
    assert torch.equal(first, second)
    assert all(torch.equal(*pair) for pair in zip(before, tensors))


@pytest.mark.usefixtures("blocks")
def test_nothing_but_padding_has_no_loss(student, teacher):
    real = torch.zeros(POSITIONS, dtype=torch.bool)
    loss, gradient = with_gradient(distillation_loss(student, teacher, real, 2.0), student)
    assert not loss.any()
    assert not gradient.any()


@pytest.mark.usefixtures("blocks")
def test_what_a_teacher_says_of_padding_does_not_matter(student, teacher, real):
    numbers = teacher if isinstance(teacher, torch.Tensor) else teacher.log_probs
    expected = with_gradient(distillation_loss(student, teacher, real, 2.0), student)
    numbers[~real] = 3.0
    found = with_gradient(distillation_loss(student, teacher, real, 2.0), student)
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
