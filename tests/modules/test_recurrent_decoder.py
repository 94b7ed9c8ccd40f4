import warnings

import pytest
import torch

from caf_dkd_plugin.modules.recurrent_decoder import RecurrentDecoder

CELLS = pytest.mark.parametrize("cell", ["gru", "lstm"])
LAYERS = pytest.mark.parametrize("layers", [1, 2, 3])
B, S, T, INPUT, HIDDEN, MEMORY, OUTPUT = 3, 5, 4, 6, 7, 8, 9


def build(cell="gru", layers=1, heads=2, dropout=0.0, attention_dropout=0.0):
    torch.manual_seed(1)
    return RecurrentDecoder(
        cell, INPUT, HIDDEN, layers, MEMORY, heads, OUTPUT, dropout, attention_dropout
    )


@pytest.fixture
def x():
    torch.manual_seed(0)
    return torch.randn(B, T, INPUT)


@pytest.fixture
def memory(random_mask):
    """The encoder's output (B, S, M) and its mask (B, S)."""
    torch.manual_seed(2)
    return torch.randn(B, S, MEMORY), random_mask(B, S)


@CELLS
@LAYERS
def test_the_initial_state_comes_from_the_mean_of_the_real_tokens(cell, layers, memory):
    module = build(cell, layers)
    state = module.initial_state(*memory)
    assert len(state) == (2 if cell == "lstm" else 1)
    for sentence, (rows, real) in enumerate(zip(*memory)):
        start = torch.tanh(module.initial(rows[real].mean(dim=0)))
        for part, expected in zip(state, start.split(layers * HIDDEN)):
            assert part.shape == (layers, B, HIDDEN)
            torch.testing.assert_close(part[:, sentence], expected.view(layers, HIDDEN))


@CELLS
@LAYERS
@pytest.mark.parametrize("heads", [1, 4])
def test_is_luongs_formula(cell, layers, heads, x, memory, attention_by_loops):
    """tanh(W [c_t ; s_t]), c_t from attention of W_q s_t over the memory itself."""
    module = build(cell, layers, heads).double()
    memory, mask = memory[0].double(), memory[1]
    state = module.initial_state(memory, mask)
    result, after, weights = module(x.double(), state, memory, mask)
    states, expected_after = module.rnn(x.double(), state if cell == "lstm" else state[0])
    context, expected_weights = attention_by_loops(
        states @ module.query.weight.T, memory, memory, mask, heads
    )
    w_context, w_state = module.output.weight.split([MEMORY, HIDDEN], dim=1)
    expected = torch.tanh(context @ w_context.T + states @ w_state.T + module.output.bias)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(weights, expected_weights, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(after if cell == "lstm" else after[0], expected_after)


@CELLS
@LAYERS
def test_step_by_step_is_all_at_once(cell, layers, x, memory):
    module = build(cell, layers)
    start = module.initial_state(*memory)
    result, after, weights = module(x, start, *memory)
    state, results, rows = start, [], []
    for step in range(T):
        one, state, row = module(x[:, step : step + 1], state, *memory)
        results.append(one)
        rows.append(row)
    torch.testing.assert_close(torch.cat(results, dim=1), result)
    torch.testing.assert_close(torch.cat(rows, dim=2), weights)
    torch.testing.assert_close(state, after)


@CELLS
@pytest.mark.parametrize("content", [0.0, 1e30])
def test_padding_in_the_memory_does_not_matter(cell, content, x, memory):
    module = build(cell)
    rows, mask = memory
    hidden = rows.masked_fill(~mask[..., None], content)
    expected = module(x, module.initial_state(rows, mask), rows, mask)
    found = module(x, module.initial_state(hidden, mask), hidden, mask)
    torch.testing.assert_close(found, expected)
    assert (found[2].masked_select(~mask[:, None, None, :]) == 0).all()


@pytest.mark.parametrize("rate", ["dropout", "attention_dropout"])
def test_each_dropout_is_active_in_training_only(rate, x, memory):
    module = build(**{rate: 0.5})
    start = module.initial_state(*memory)
    assert not torch.equal(module(x, start, *memory)[0], module(x, start, *memory)[0])
    module.eval()
    assert torch.equal(module(x, start, *memory)[0], module(x, start, *memory)[0])


@pytest.mark.parametrize(("layers", "random"), [(1, False), (2, True)])
def test_dropout_is_between_layers_too(layers, random, x, memory):
    """The state does not pass through the dropout on the output."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of dropout without a second layer
        module = build(layers=layers, dropout=0.5)
    start = module.initial_state(*memory)
    (one,), (other,) = (module(x, start, *memory)[1] for _ in range(2))
    assert torch.equal(one, other) != random


def test_heads_that_do_not_divide_the_memory_are_refused():
    with pytest.raises(ValueError, match="3 attention heads cannot share a memory of width 8"):
        build(heads=3)
