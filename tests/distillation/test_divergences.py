import math

import pytest
import torch

from caf_dkd_plugin.distillation.divergences import (
    DIVERGENCES,
    SMALLEST_LOG_PROB,
    forward_kl,
    jensen_shannon,
    reverse_kl,
)
from caf_dkd_plugin.distillation.losses import distillation_loss

NAMES = pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES.keys())
TEMPERATURES = pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])


def kl_by_loops(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


def js_by_loops(p, q):
    mixture = [(a + b) / 2 for a, b in zip(p, q)]
    return (kl_by_loops(p, mixture) + kl_by_loops(q, mixture)) / 2


BY_LOOPS = {
    forward_kl: lambda student, teacher: kl_by_loops(teacher, student),
    reverse_kl: lambda student, teacher: kl_by_loops(student, teacher),
    jensen_shannon: js_by_loops,
}


def probabilities(logits, temperature):
    terms = [math.exp(z / temperature) for z in logits]
    return [term / sum(terms) for term in terms]


def random_logits(shape=(20, 6), seed=0):
    """The student's and the teacher's, float64."""
    torch.manual_seed(seed)
    student, teacher = 3 * torch.randn(2, *shape, dtype=torch.float64)
    return student.requires_grad_(), teacher


def loss_of_logits(student, teacher, divergence, temperature=1.0, real=None):
    """In float32 at least, as fairseq computes the log-probabilities of models of any dtype."""
    dtype = torch.promote_types(student.dtype, torch.float32)
    student, teacher = (z.log_softmax(-1, dtype=dtype) for z in (student, teacher))
    if real is None:
        real = torch.ones(student.shape[:-1], dtype=torch.bool)
    return distillation_loss(student, teacher, real, temperature, divergence)


def test_the_paper_asks_for_forward_kl():
    student, teacher = random_logits()
    real = torch.ones(20, dtype=torch.bool)
    paper = distillation_loss(student.log_softmax(-1), teacher.log_softmax(-1), real, 2.0)
    assert torch.equal(paper, loss_of_logits(student, teacher, forward_kl, 2.0))


@TEMPERATURES
@NAMES
def test_agrees_with_loops(divergence, temperature):
    student, teacher = random_logits()
    expected = [
        temperature**2
        * BY_LOOPS[divergence](probabilities(s, temperature), probabilities(t, temperature))
        for s, t in zip(student.tolist(), teacher.tolist())
    ]
    loss = loss_of_logits(student, teacher, divergence, temperature)
    torch.testing.assert_close(loss, torch.tensor(expected, dtype=torch.float64))
    assert (loss > 0).all()


@TEMPERATURES
@NAMES
def test_passes_gradcheck(divergence, temperature):
    student, teacher = random_logits((3, 4))
    assert torch.autograd.gradcheck(
        lambda z: loss_of_logits(z, teacher, divergence, temperature), (student,)
    )


@TEMPERATURES
@NAMES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_teacher_equal_to_student_gives_zero_loss_and_zero_gradient(divergence, temperature, dtype):
    logits = random_logits((4, 7, 11))[0].to(dtype).detach().requires_grad_()
    loss = loss_of_logits(logits, logits.detach().clone(), divergence, temperature)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    tolerance = 200 * torch.finfo(dtype).eps
    assert loss.abs().max() < tolerance
    assert gradient.abs().max() < tolerance


def test_each_kl_is_the_other_with_the_roles_changed():
    student, teacher = (z.log_softmax(-1) for z in random_logits())
    torch.testing.assert_close(forward_kl(student, teacher), reverse_kl(teacher, student))
    assert not torch.allclose(forward_kl(student, teacher), reverse_kl(student, teacher))


def test_jensen_shannon_is_symmetric_and_at_most_log_2():
    student, teacher = (z.log_softmax(-1) for z in random_logits())
    loss = jensen_shannon(student, teacher)
    torch.testing.assert_close(loss, jensen_shannon(teacher, student))
    assert (loss < math.log(2)).all()
    disjoint = torch.tensor([[50.0, -50.0], [-50.0, 50.0]]).log_softmax(-1)
    torch.testing.assert_close(jensen_shannon(*disjoint), torch.tensor(math.log(2)))


@TEMPERATURES
def test_where_they_nearly_agree_they_are_quadratic_with_known_ratios(temperature):
    """Both KL are chi^2 / 2 there, Jensen-Shannon a quarter of that (Csiszar & Shields 2004, 4.1)."""
    student, teacher = random_logits()
    near = teacher + 1e-3 * student.detach()
    forward, reverse, js = (
        loss_of_logits(near, teacher, divergence, temperature)
        for divergence in (forward_kl, reverse_kl, jensen_shannon)
    )
    torch.testing.assert_close(reverse, forward, rtol=1e-2, atol=0)
    torch.testing.assert_close(js, forward / 4, rtol=1e-2, atol=0)


@NAMES
def test_padding_has_neither_loss_nor_gradient(divergence):
    student, teacher = random_logits((8, 5))
    real = torch.tensor([True, False] * 4)
    loss = loss_of_logits(student, teacher, divergence, 2.0, real)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert (loss[~real] == 0).all()
    assert (gradient[~real] == 0).all()
    assert (gradient[real] != 0).all()


@NAMES
def test_no_gradient_flows_to_the_teacher(divergence):
    student, teacher = random_logits()
    teacher.requires_grad_()
    loss_of_logits(student, teacher, divergence, 2.0).sum().backward()
    assert student.grad is not None
    assert teacher.grad is None


@TEMPERATURES
@NAMES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_logits_at_the_limits_of_half_precision(divergence, temperature, dtype):
    limit = torch.finfo(dtype).max if dtype == torch.float16 else 1e5
    values = torch.tensor([0.0, 1.0, -limit, limit], dtype=dtype)
    student = torch.cartesian_prod(values, values, values).requires_grad_()
    teacher = student.detach().flip(0)
    loss = loss_of_logits(student, teacher, divergence, temperature)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert loss.dtype == torch.float32
    assert loss.isfinite().all()
    assert gradient.isfinite().all()
    assert (loss >= -1e-5).all()
    assert loss.max() > 0


@TEMPERATURES
@NAMES
def test_words_that_the_teacher_rules_out_do_not_break_the_loss(divergence, temperature):
    student, teacher = random_logits((2, 4))
    teacher[:, 0] = -math.inf
    loss = loss_of_logits(student, teacher, divergence, temperature)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()


def test_a_word_that_the_teacher_rules_out_costs_reverse_kl_no_more_than_the_smallest_number():
    student, teacher = random_logits((5, 4))
    ruled_out, unlikely = teacher.log_softmax(-1), teacher.log_softmax(-1)
    ruled_out[:, 0] = -math.inf
    unlikely[:, 0] = SMALLEST_LOG_PROB
    log_probs = student.log_softmax(-1)
    assert torch.equal(reverse_kl(log_probs, ruled_out), reverse_kl(log_probs, unlikely))
    assert (reverse_kl(log_probs, ruled_out) > reverse_kl(log_probs, teacher.log_softmax(-1))).all()
