import math
from itertools import pairwise

import pytest
import torch

from caf_dkd_plugin.distillation.divergences import DIVERGENCES
from caf_dkd_plugin.distillation.losses import distillation_loss, soften
from caf_dkd_plugin.distillation.tail_shape import TailShape, fit_tail_shape
from caf_dkd_plugin.distillation.top_k import (
    TAIL_TEMPERATURES,
    soften_top_k,
    tail_log_mass_at,
    top_k,
)

NAMES = pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES.keys())
SYMBOLS = 300


def even(like):
    """A shape that knows nothing: all symbols of the tail are alike."""
    return TailShape(like.new_zeros(SYMBOLS), like.new_zeros(0, SYMBOLS))


@pytest.fixture
def teacher():
    """Log-probabilities (4, 25, V), as peaked as a translation model's: from sure to undecided."""
    torch.manual_seed(0)
    ranks = torch.arange(1, SYMBOLS + 1, dtype=torch.float64)
    sharpness = torch.linspace(1.2, 3.5, 100, dtype=torch.float64).reshape(4, 25, 1)
    logits = -sharpness * ranks.log() + 0.5 * torch.randn(4, 25, SYMBOLS, dtype=torch.float64)
    order = torch.rand(4, 25, SYMBOLS).argsort(-1)
    return logits.gather(-1, order).log_softmax(-1)


@pytest.fixture
def student(teacher):
    """One that knows something: the teacher's scores with noise."""
    return (0.7 * teacher + torch.randn_like(teacher)).log_softmax(-1).requires_grad_()


def loss_and_gradient(student, teacher, temperature, divergence):
    real = torch.ones(student.shape[:-1], dtype=torch.bool)
    loss = distillation_loss(student, teacher, real, temperature, divergence)
    (gradient,) = torch.autograd.grad(loss.sum(), student)
    return loss.detach(), gradient


def coarse(log_probs, ids):
    """The k + 1 outcomes: each of the k symbols, and any other."""
    tail = log_probs.scatter(-1, ids, -math.inf).logsumexp(-1, keepdim=True)
    return torch.cat([log_probs.gather(-1, ids), tail], dim=-1)


def test_top_k_keeps_what_it_says():
    probs = torch.tensor([0.1, 0.5, 0.06, 0.3, 0.04])
    shape = TailShape(torch.zeros(5), torch.eye(5)[2:3])
    kept = top_k(probs.log(), 2, shape)
    assert kept.ids.tolist() == [1, 3]
    torch.testing.assert_close(kept.log_probs, torch.tensor([0.5, 0.3]).log())
    expected = [sum(p ** (1 / t) for p in (0.1, 0.06, 0.04)) for t in TAIL_TEMPERATURES]
    torch.testing.assert_close(kept.tail_log_mass, torch.tensor(expected).log())
    assert TAIL_TEMPERATURES[0] == 1  # the mass itself
    torch.testing.assert_close(kept.tail_code, (probs.log() - probs.log().mean())[2:3])


def test_all_symbols_leave_an_impossible_tail(teacher):
    assert (top_k(teacher, SYMBOLS, even(teacher)).tail_log_mass == -math.inf).all()


@NAMES
@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 3.0])
def test_all_symbols_are_the_teacher_itself(divergence, temperature, teacher, student):
    teacher, student = teacher.float(), student.detach().float().requires_grad_()
    found = loss_and_gradient(
        student, top_k(teacher, SYMBOLS, even(teacher)), temperature, divergence
    )
    expected = loss_and_gradient(student, teacher, temperature, divergence)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_all_symbols_leave_nothing_undefined_at_padding(teacher):
    """There everything is zero, the ids too; torch fills what it does not define with NaN here."""
    nothing = [torch.zeros_like(x) for x in top_k(teacher, SYMBOLS, even(teacher))[:4]]
    kept = top_k(teacher, SYMBOLS, even(teacher))._replace(
        ids=nothing[0], log_probs=nothing[1], tail_log_mass=nothing[2]
    )
    torch.use_deterministic_algorithms(True)
    try:
        assert soften_top_k(kept, 2.0, SYMBOLS).isfinite().all()
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("k", [1, 8, SYMBOLS - 1])
@pytest.mark.parametrize("temperature", TAIL_TEMPERATURES)
def test_softening_gives_the_top_and_the_tail_their_mass(k, temperature, teacher):
    kept = top_k(teacher, k, even(teacher))
    found, expected = soften_top_k(kept, temperature, SYMBOLS), soften(teacher, temperature)
    torch.testing.assert_close(coarse(found, kept.ids), coarse(expected, kept.ids))
    torch.testing.assert_close(found.logsumexp(-1), torch.zeros_like(found[..., 0]))


def test_a_shape_that_knows_nothing_spreads_the_tail_evenly(teacher):
    kept = top_k(teacher, 8, even(teacher))
    rest = torch.ones_like(teacher).scatter(-1, kept.ids, 0).bool()
    tail = soften_top_k(kept, 2.0, SYMBOLS)[rest].reshape(-1, SYMBOLS - 8)
    torch.testing.assert_close(tail, tail[:, :1].expand_as(tail))
    assert tail.exp().sum(-1).min() > 0.05


@NAMES
@pytest.mark.parametrize("temperature", [1.0, 1.5, 2.0, 6.0])
def test_a_teacher_whose_tail_is_even_is_known_in_full(divergence, temperature, teacher, student):
    flat = soften_top_k(top_k(teacher, 8, even(teacher)), 1.0, SYMBOLS)
    found = loss_and_gradient(student, top_k(flat, 8, even(flat)), temperature, divergence)
    torch.testing.assert_close(
        found, loss_and_gradient(student, flat, temperature, divergence), atol=1e-9, rtol=1e-7
    )


@pytest.fixture
def translator():
    """Log-probabilities (4, 25, V) of a model: hidden states of 6 numbers times one matrix."""
    torch.manual_seed(0)
    hidden = torch.randn(4, 25, 6, dtype=torch.float64)
    output = torch.randn(6, SYMBOLS, dtype=torch.float64)
    return (hidden @ output + torch.randn(SYMBOLS)).log_softmax(-1)


@NAMES
@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0])
def test_the_rank_of_the_models_width_is_the_teacher_itself(
    divergence, temperature, translator, student
):
    shape = fit_tail_shape(translator.flatten(0, 1).clone(), 6)
    found = loss_and_gradient(student, top_k(translator, 8, shape), temperature, divergence)
    expected = loss_and_gradient(student, translator, temperature, divergence)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_higher_the_rank_the_nearer(temperature, translator):
    shapes = [even(translator)]
    shapes += [fit_tail_shape(translator.flatten(0, 1).clone(), rank) for rank in range(7)]
    whole = soften(translator, temperature)
    errors = [
        DIVERGENCES["forward-kl"](
            soften_top_k(top_k(translator, 8, shape), temperature, SYMBOLS), whole
        )
        .mean()
        .item()
        for shape in shapes
    ]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-9 < errors[-2]


@pytest.mark.parametrize(
    ("temperature", "tolerance"),
    [(1.1, 0.02), (1.25, 0.02), (1.5, 0.01), (3.0, 0.006), (6.0, 0.004), (50.0, 0.001)],
)
@pytest.mark.parametrize("k", [4, 8, 32])
def test_between_the_reference_temperatures_the_mass_is_nearly_right(
    temperature, tolerance, k, teacher
):
    kept = top_k(teacher, k, even(teacher))
    found = coarse(soften_top_k(kept, temperature, SYMBOLS), kept.ids)[..., -1].exp()
    expected = coarse(soften(teacher, temperature), kept.ids)[..., -1].exp()
    assert (found - expected).abs().max() < tolerance


def test_the_log_mass_of_the_tail_grows_with_the_temperature(teacher):
    tail = top_k(teacher, 8, even(teacher)).tail_log_mass
    temperatures = torch.logspace(0, 2, 60).tolist()
    curve = torch.stack([tail_log_mass_at(tail, t, SYMBOLS - 8) for t in temperatures])
    assert (curve.diff(dim=0) > 0).all()
    assert (curve[-1] < math.log(SYMBOLS - 8)).all()


def test_sharpening_needs_the_whole_teacher(teacher, student):
    with pytest.raises(ValueError, match=r"from 1 up, not --kd-temperature 0\.5"):
        loss_and_gradient(student, top_k(teacher, 8, even(teacher)), 0.5, DIVERGENCES["forward-kl"])


@NAMES
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_it_is_at_least_the_divergence_over_k_plus_one_outcomes(
    divergence, temperature, teacher, student
):
    """Of the data-processing inequality: what is known for certain is never overlooked."""
    kept = top_k(teacher, 8, even(teacher))
    loss, _ = loss_and_gradient(student, kept, temperature, divergence)
    softened = (coarse(soften(x, temperature), kept.ids) for x in (student, teacher))
    assert (loss >= temperature**2 * divergence(*softened) - 1e-12).all()


@NAMES
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_more_symbols_the_nearer(divergence, temperature, teacher, student):
    loss, gradient = loss_and_gradient(student, teacher, temperature, divergence)
    errors = []
    for k in (4, 16, 64, 256, SYMBOLS):
        found = loss_and_gradient(
            student, top_k(teacher, k, even(teacher)), temperature, divergence
        )
        errors.append(((found[0] - loss).abs().mean(), (found[1] - gradient).norm()))
    for before, after in pairwise(errors):
        assert after[0] < before[0]
        assert after[1] < before[1]


def test_it_is_nearer_to_the_teachers_gradient_than_leaving_the_tail_out(teacher, student):
    divergence, kept = DIVERGENCES["forward-kl"], top_k(teacher, 8, even(teacher))
    without = torch.full_like(teacher, -math.inf)
    without = without.scatter(-1, kept.ids, kept.log_probs.log_softmax(-1))
    _, gradient = loss_and_gradient(student, teacher, 2.0, divergence)
    errors = [
        (loss_and_gradient(student, other, 2.0, divergence)[1] - gradient).norm()
        for other in (kept, without)
    ]
    assert errors[0] < errors[1] / 4


@NAMES
@pytest.mark.parametrize("temperature", [1.0, 1.5, 2.0])
def test_an_impossible_tail_gives_a_finite_loss_and_gradient(
    divergence, temperature, teacher, student
):
    ids = top_k(teacher, 8, even(teacher)).ids
    sure = torch.full_like(teacher, -math.inf).scatter(-1, ids, teacher.gather(-1, ids))
    kept = top_k(sure.log_softmax(-1), 8, even(teacher))
    kept = kept._replace(tail_code=torch.zeros_like(kept.tail_code))
    assert (kept.tail_log_mass == -math.inf).all()
    loss, gradient = loss_and_gradient(student, kept, temperature, divergence)
    assert loss.isfinite().all()
    assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.int16, torch.int32])
def test_ids_may_be_stored_in_few_bytes(dtype, teacher):
    kept = top_k(teacher, 8, even(teacher))
    small = kept._replace(ids=kept.ids.to(dtype))
    assert torch.equal(soften_top_k(small, 2.0, SYMBOLS), soften_top_k(kept, 2.0, SYMBOLS))


def test_no_gradient_flows_to_the_teacher(teacher, student):
    kept = top_k(teacher, 8, even(teacher))
    kept = kept._replace(shape=TailShape(torch.zeros(SYMBOLS), torch.ones(1, SYMBOLS)))
    kept = kept._replace(tail_code=torch.ones(4, 25, 1))
    known = (kept.log_probs, kept.tail_log_mass, kept.tail_code, *kept.shape)
    for tensor in known:
        tensor.requires_grad_()
    real = torch.ones(4, 25, dtype=torch.bool)
    distillation_loss(student, kept, real, 2.0).sum().backward()
    assert student.grad is not None
    assert all(tensor.grad is None for tensor in known)
