import warnings

import pytest
import torch

from caf_dkd_plugin.modules.recurrent_encoder import RecurrentEncoder

CELLS = pytest.mark.parametrize("cell", ["gru", "lstm"])
LAYERS = pytest.mark.parametrize("layers", [1, 2, 3])
LENGTHS = torch.tensor([3, 6, 1, 4])


def build(cell="gru", layers=1, hidden_size=8, dropout=0.0):
    torch.manual_seed(1)
    return RecurrentEncoder(cell, 5, hidden_size, layers, dropout)


@pytest.fixture
def x():
    """(4, 6, 5), with noise where padding is."""
    torch.manual_seed(0)
    return torch.randn(4, 6, 5)


@CELLS
@LAYERS
def test_each_sentence_is_read_as_if_alone_and_without_padding(cell, layers, x):
    module = build(cell, layers)
    states = module(x, LENGTHS)
    assert states.shape == (4, 6, 8)
    for sentence, length in enumerate(LENGTHS):
        alone, _ = module.rnn(x[sentence : sentence + 1, :length])
        torch.testing.assert_close(states[sentence, :length], alone[0])
        assert (states[sentence, length:] == 0).all()


@CELLS
def test_extra_padding_changes_nothing(cell, x):
    module = build(cell, layers=2)
    wider = torch.cat([x, torch.full((4, 3, 5), 1e30)], dim=1)
    states = module(wider, LENGTHS)
    assert states.shape == (4, 9, 8)
    torch.testing.assert_close(states[:, :6], module(x, LENGTHS))
    assert (states[:, 6:] == 0).all()


@CELLS
def test_half_of_the_width_comes_from_each_direction(cell, x):
    """A change of the last token reaches the first only from the right, and the other way round."""
    module = build(cell)
    full = torch.full((4,), 6)
    changed_last, changed_first = x.clone(), x.clone()
    changed_last[:, -1] += 1
    changed_first[:, 0] += 1
    states = module(x, full)
    first = module(changed_last, full)[:, 0]
    last = module(changed_first, full)[:, -1]
    torch.testing.assert_close(first[:, :4], states[:, 0, :4])
    assert not torch.allclose(first[:, 4:], states[:, 0, 4:])
    torch.testing.assert_close(last[:, 4:], states[:, -1, 4:])
    assert not torch.allclose(last[:, :4], states[:, -1, :4])


@pytest.mark.parametrize(("layers", "random"), [(1, False), (2, True)])
def test_dropout_is_between_layers_only(x, layers, random):
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of dropout without a second layer
        module = build("gru", layers, dropout=0.5)
    assert torch.equal(module(x, LENGTHS), module(x, LENGTHS)) != random
    module.eval()
    assert torch.equal(module(x, LENGTHS), module(x, LENGTHS))


def test_an_odd_width_is_refused():
    with pytest.raises(ValueError, match="a width of 7 is odd"):
        build(hidden_size=7)
