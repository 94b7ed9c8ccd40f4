import math

import pytest
import torch

from caf_dkd_plugin.distillation.losses import distillation_loss, soften

TEMPERATURES = pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 7.0])
SHAPES = pytest.mark.parametrize("shape", [(1, 2), (4, 5), (9, 3), (2, 3, 6)])


def random_case(shape, seed=0):
    """Student's and teacher's logits in float64 and a random mask."""
    torch.manual_seed(seed)
    student = (3 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
    teacher = (3 * torch.randn(shape, dtype=torch.float64)).requires_grad_()
    return student, teacher, torch.rand(shape[:-1]) < 0.7


def loss_of_logits(student, teacher, real, temperature):
    return distillation_loss(student.log_softmax(-1), teacher.log_softmax(-1), real, temperature)


def loss_by_loops(student, teacher, real, temperature):
    """T^2 sum_y p_T(y) log(p_T(y) / p_S(y)) of one position, one number at a time."""

    def probabilities(logits):
        terms = [math.exp(z / temperature) for z in logits]
        return [term / sum(terms) for term in terms]

    if not real:
        return 0.0
    pairs = zip(probabilities(teacher), probabilities(student))
    return temperature**2 * sum(p * math.log(p / q) for p, q in pairs)


@TEMPERATURES
@SHAPES
@pytest.mark.parametrize("seed", range(3))
def test_agrees_with_loops(temperature, shape, seed):
    student, teacher, real = random_case(shape, seed)
    loss = loss_of_logits(student, teacher, real, temperature)
    expected = [
        loss_by_loops(*position, temperature)
        for position in zip(
            student.reshape(-1, shape[-1]).tolist(),
            teacher.reshape(-1, shape[-1]).tolist(),
            real.flatten().tolist(),
        )
    ]
    assert loss.shape == shape[:-1]
    torch.testing.assert_close(loss.flatten(), torch.tensor(expected, dtype=torch.float64))


@TEMPERATURES
def test_is_never_negative_and_not_symmetric(temperature):
    student, teacher, _ = random_case((50, 6))
    real = torch.ones(50, dtype=torch.bool)
    loss = loss_of_logits(student, teacher, real, temperature)
    assert (loss > 0).all()
    assert not torch.allclose(loss, loss_of_logits(teacher, student, real, temperature))


@TEMPERATURES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_teacher_equal_to_student_gives_zero_loss_and_zero_gradient(temperature, dtype):
    logits = random_case((4, 7, 11))[0].to(dtype).detach().requires_grad_()
    real = torch.ones(4, 7, dtype=torch.bool)
    loss = loss_of_logits(logits, logits.detach().clone(), real, temperature)
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    tolerance = 100 * torch.finfo(dtype).eps
    assert loss.abs().max() < tolerance
    assert gradient.abs().max() < tolerance


@TEMPERATURES
def test_the_gradient_is_t_times_the_difference_of_the_distributions(temperature):
    student, teacher, real = random_case((6, 5))
    (gradient,) = torch.autograd.grad(
        loss_of_logits(student, teacher, real, temperature).sum(), student
    )
    difference = (student / temperature).softmax(-1) - (teacher / temperature).softmax(-1)
    torch.testing.assert_close(gradient, temperature * difference * real[..., None])


def test_t_squared_keeps_the_size_of_the_gradient():
    """At high T it tends to matching centred logits, (z_S - z_T) / V (Hinton et al. 2015, Eq. 4)."""
    student, teacher, _ = random_case((6, 5))
    real = torch.ones(6, dtype=torch.bool)
    centred = [z - z.mean(-1, keepdim=True) for z in (student, teacher)]
    limit = (centred[0] - centred[1]) / 5
    errors = []
    for temperature in (1e2, 1e3, 1e4):
        (gradient,) = torch.autograd.grad(
            loss_of_logits(student, teacher, real, temperature).sum(), student
        )
        errors.append((gradient - limit).abs().max().item())
    assert errors[0] < 0.1
    assert errors[1] == pytest.approx(errors[0] / 10, rel=0.2)
    assert errors[2] == pytest.approx(errors[1] / 10, rel=0.2)


def test_padding_has_neither_loss_nor_gradient():
    student, teacher, real = random_case((8, 5), seed=1)
    assert 0 < real.sum() < 8
    loss = loss_of_logits(student, teacher, real, 2.0)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert (loss[~real] == 0).all()
    assert (gradient[~real] == 0).all()
    assert (gradient[real] != 0).all()


def test_no_gradient_flows_to_the_teacher():
    student, teacher, real = random_case((4, 5))
    loss_of_logits(student, teacher, real, 2.0).sum().backward()
    assert student.grad is not None
    assert teacher.grad is None


@TEMPERATURES
def test_passes_gradcheck(temperature):
    student, teacher, real = random_case((3, 4))
    teacher = teacher.detach()
    assert torch.autograd.gradcheck(
        lambda z: loss_of_logits(z, teacher, real, temperature), (student,)
    )


@TEMPERATURES
def test_words_that_the_teacher_rules_out_do_not_break_the_loss(temperature):
    student, teacher, _ = random_case((2, 4))
    impossible = teacher.detach().clone()
    impossible[:, 0] = -math.inf
    loss = loss_of_logits(student, impossible, torch.tensor([True, True]), temperature)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()


@TEMPERATURES
@SHAPES
def test_soften_is_the_softmax_of_logits_over_t(temperature, shape):
    logits, _, _ = random_case(shape)
    torch.testing.assert_close(
        soften(logits.log_softmax(-1), temperature).exp(), (logits / temperature).softmax(-1)
    )


def test_softening_flattens():
    log_probs = random_case((20, 5))[0].log_softmax(-1)

    def entropy(log_p):
        return -(log_p.exp() * log_p).sum(-1)

    assert (entropy(soften(log_probs, 2.0)) > entropy(log_probs)).all()
    assert (entropy(soften(log_probs, 0.5)) < entropy(log_probs)).all()
