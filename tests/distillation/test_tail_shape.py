import pytest
import torch

from caf_dkd_plugin.distillation.tail_shape import TailShape, fit_tail_shape

SYMBOLS = 200


@pytest.fixture
def log_probs():
    """(N, V) of rank 5 about their mean, and some noise."""
    torch.manual_seed(0)
    scores = torch.randn(400, 5) @ torch.randn(5, SYMBOLS) + torch.randn(SYMBOLS)
    return (scores + 0.01 * torch.randn(400, SYMBOLS)).log_softmax(-1)


def centred(log_probs):
    return log_probs - log_probs.mean(-1, keepdim=True)


def test_it_decodes_what_was_encoded(log_probs):
    shape = fit_tail_shape(log_probs.clone(), 5)
    decoded = shape.decode(shape.encode(log_probs))
    torch.testing.assert_close(centred(decoded), centred(log_probs), atol=0.06, rtol=0)


def test_it_is_the_exact_decomposition(log_probs):
    """Eckart-Young: no other directions leave less over."""
    for rank in (0, 1, 3):
        shape = fit_tail_shape(log_probs.clone(), rank)
        left = centred(log_probs) - shape.decode(shape.encode(log_probs))
        values = torch.linalg.svdvals(centred(log_probs) - centred(log_probs).mean(0))
        assert left.norm().item() == pytest.approx(values[rank:].norm().item(), rel=1e-4)


def test_the_numbers_are_of_the_order_of_one_so_that_few_bits_keep_them(log_probs):
    shape = fit_tail_shape(1000 * log_probs, 5)
    code = shape.encode(1000 * log_probs)
    torch.testing.assert_close(code.std(0), torch.ones(5), atol=0.02, rtol=0)
    half = shape.decode(code.half().float()) - shape.decode(code)
    assert half.abs().max() < 1e-3 * shape.decode(code).abs().max()


def test_there_are_no_more_directions_than_the_sample_varies_in():
    torch.manual_seed(0)
    shape = fit_tail_shape(torch.randn(3, SYMBOLS).log_softmax(-1), 10)
    assert shape.directions.shape == (2, SYMBOLS)  # three positions, about their mean
    assert shape.encode(torch.randn(4, SYMBOLS)).isfinite().all()


@pytest.mark.parametrize("positions", [1, 5])
def test_a_teacher_that_says_always_the_same_has_no_directions(positions):
    always = torch.randn(1, SYMBOLS).log_softmax(-1)
    shape = fit_tail_shape(always.repeat(positions, 1), 10)
    assert shape.directions.shape == (0, SYMBOLS)
    torch.testing.assert_close(shape.decode(shape.encode(always)), centred(always))


def test_a_last_layer_is_kept_whole_with_as_many_numbers_as_it_is_wide():
    """log softmax(W h + b): also of positions that the sample did not have."""
    torch.manual_seed(0)
    weight, bias = torch.randn(5, SYMBOLS), torch.randn(SYMBOLS)
    seen, unseen = ((torch.randn(400, 5) @ weight + bias).log_softmax(-1) for _ in range(2))
    shape = fit_tail_shape(seen.clone(), 64)
    assert len(shape.directions) == 5
    decoded = shape.decode(shape.encode(unseen))
    torch.testing.assert_close(centred(decoded), centred(unseen), atol=1e-4, rtol=0)


def test_the_same_sample_gives_the_same_and_leaves_the_random_numbers_alone(log_probs):
    before = torch.get_rng_state()
    first = fit_tail_shape(log_probs.clone(), 4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(5)
    again = fit_tail_shape(log_probs.clone(), 4)
    assert isinstance(again, TailShape)
    assert all(torch.equal(one, other) for one, other in zip(first, again))
