import warnings

import pytest
import torch

from caf_dkd_plugin.modules.recurrent_decoder import RecurrentDecoder

CELLS = pytest.mark.parametrize("cell", ["gru", "lstm"])
LAYERS = pytest.mark.parametrize("layers", [1, 2, 3])
FEEDING = pytest.mark.parametrize("feeding", [False, True], ids=["", "feeding"])
B, S, T, INPUT, HIDDEN, MEMORY, OUTPUT = 3, 5, 4, 6, 7, 8, 9


def build(cell="gru", layers=1, heads=2, dropout=0.0, attention_dropout=0.0, feeding=False):
    torch.manual_seed(1)
    return RecurrentDecoder(
        cell, INPUT, HIDDEN, layers, MEMORY, heads, OUTPUT, dropout, attention_dropout, feeding
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
    result, after, weights = module(x.double(), state, module.read(memory, mask))
    states, expected_after = module.rnn(x.double(), state if cell == "lstm" else state[0])
    context, expected_weights = attention_by_loops(
        states @ module.query.weight.T, memory, memory, mask, heads
    )
    w_context, w_state = module.output.weight.split([MEMORY, HIDDEN], dim=1)
    expected = torch.tanh(context @ w_context.T + states @ w_state.T + module.output.bias)
    torch.testing.assert_close(result, expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(weights, expected_weights, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(after if cell == "lstm" else after[0], expected_after)


def cell_by_hand(cell, x, hidden, carried, weights):
    """One step of one layer for one sentence, from the formulas of Cho et al. and of Hochreiter
    and Schmidhuber as torch documents them: the new hidden and, of an LSTM, cell state."""
    w_x, w_h, b_x, b_h = weights
    from_x, from_h = w_x @ x + b_x, w_h @ hidden + b_h
    if cell == "gru":
        (r_x, z_x, n_x), (r_h, z_h, n_h) = from_x.chunk(3), from_h.chunk(3)
        reset, keep = torch.sigmoid(r_x + r_h), torch.sigmoid(z_x + z_h)
        return keep * hidden + (1 - keep) * torch.tanh(n_x + reset * n_h), None
    take, keep, new, give = (from_x + from_h).chunk(4)
    carried = torch.sigmoid(keep) * carried + torch.sigmoid(take) * torch.tanh(new)
    return torch.sigmoid(give) * torch.tanh(carried), carried


@CELLS
@LAYERS
@pytest.mark.parametrize("heads", [1, 4])
def test_input_feeding_is_luongs_formula(cell, layers, heads, x, memory, attention_by_loops):
    """The first layer reads [x_t ; result of step t - 1], which is zero before the first step."""
    module = build(cell, layers, heads, feeding=True).double()
    x, memory, mask = x.double(), memory[0].double(), memory[1]
    start = module.initial_state(memory, mask)
    results, after, weights = module(x, start, module.read(memory, mask))
    assert (start[-1] == 0).all()
    assert after[-1].shape == (1, B, OUTPUT)
    for b in range(B):
        hidden = list(start[0][:, b])
        carried = list(start[1][:, b]) if cell == "lstm" else [None] * layers
        fed = torch.zeros(OUTPUT, dtype=torch.float64)
        for t in range(T):
            read = torch.cat([x[b, t], fed])
            for layer, layer_weights in enumerate(module.rnn.all_weights):
                hidden[layer], carried[layer] = cell_by_hand(
                    cell, read, hidden[layer], carried[layer], layer_weights
                )
                read = hidden[layer]
            one = slice(b, b + 1)
            query = (module.query.weight @ read).view(1, 1, MEMORY)
            context, row = attention_by_loops(query, memory[one], memory[one], mask[one], heads)
            both = torch.cat([context[0, 0], read])
            fed = torch.tanh(module.output.weight @ both + module.output.bias)
            torch.testing.assert_close(results[b, t], fed, atol=1e-6, rtol=1e-6)
            torch.testing.assert_close(weights[b, :, t], row[0, :, 0], atol=1e-6, rtol=1e-6)
        remembered = (hidden, carried) if cell == "lstm" else (hidden,)
        for part, expected in zip(after, (*remembered, [fed])):
            torch.testing.assert_close(part[:, b], torch.stack(expected), atol=1e-6, rtol=1e-6)


@CELLS
@LAYERS
@FEEDING
def test_step_by_step_is_all_at_once(cell, layers, feeding, x, memory):
    module = build(cell, layers, feeding=feeding)
    start = module.initial_state(*memory)
    result, after, weights = module(x, start, module.read(*memory))
    state, results, rows = start, [], []
    for step in range(T):
        one, state, row = module(x[:, step : step + 1], state, module.read(*memory))
        results.append(one)
        rows.append(row)
    torch.testing.assert_close(torch.cat(results, dim=1), result)
    torch.testing.assert_close(torch.cat(rows, dim=2), weights)
    torch.testing.assert_close(state, after)


@CELLS
@LAYERS
@FEEDING
@pytest.mark.parametrize("heads", [1, 2])
def test_a_step_from_gates_is_a_step(cell, layers, feeding, heads, x, memory):
    module = build(cell, layers, heads, feeding=feeding).double().eval()
    x, memory = x.double(), module.read(memory[0].double(), memory[1])
    state = module.initial_state(torch.randn(B, S, MEMORY).double(), memory.mask)
    for token in x.unbind(dim=1):
        expected, after, row = module(token[:, None], state, memory)
        found = module.step(module.gates(token), state, memory)
        torch.testing.assert_close(found, (expected, after, row))
        state = after


@CELLS
@FEEDING
@pytest.mark.parametrize("heads", [1, 2])
def test_targets_side_by_side_share_a_sentence(cell, feeding, heads, memory):
    module = build(cell, heads=heads, feeding=feeding)
    x = torch.randn(2 * B, T, INPUT)
    start = tuple(part.repeat_interleave(2, 1) for part in module.initial_state(*memory))
    shared = module.read(*memory)
    apart = shared.of(torch.arange(B).repeat_interleave(2))
    assert [len(part) for part in apart] == [2 * B] * 3
    torch.testing.assert_close(module(x, start, shared), module(x, start, apart))


@CELLS
@FEEDING
@pytest.mark.parametrize("content", [0.0, 1e30])
def test_padding_in_the_memory_does_not_matter(cell, feeding, content, x, memory):
    module = build(cell, feeding=feeding)
    rows, mask = memory
    hidden = rows.masked_fill(~mask[..., None], content)
    expected = module(x, module.initial_state(rows, mask), module.read(rows, mask))
    found = module(x, module.initial_state(hidden, mask), module.read(hidden, mask))
    torch.testing.assert_close(found, expected)
    assert (found[2].masked_select(~mask[:, None, None, :]) == 0).all()


@FEEDING
@pytest.mark.parametrize("rate", ["dropout", "attention_dropout"])
def test_each_dropout_is_active_in_training_only(rate, feeding, x, memory):
    module = build(feeding=feeding, **{rate: 0.5})
    start = module.initial_state(*memory)
    assert not torch.equal(
        module(x, start, module.read(*memory))[0], module(x, start, module.read(*memory))[0]
    )
    module.eval()
    assert torch.equal(
        module(x, start, module.read(*memory))[0], module(x, start, module.read(*memory))[0]
    )


@pytest.mark.parametrize(("layers", "random"), [(1, False), (2, True)])
def test_dropout_is_between_layers_too(layers, random, x, memory):
    """The state does not pass through the dropout on the output."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch warns of dropout without a second layer
        module = build(layers=layers, dropout=0.5)
    start = module.initial_state(*memory)
    (one,), (other,) = (module(x, start, module.read(*memory))[1] for _ in range(2))
    assert torch.equal(one, other) != random


def test_heads_that_do_not_divide_the_memory_are_refused():
    with pytest.raises(ValueError, match="3 attention heads cannot share a memory of width 8"):
        build(heads=3)


def test_input_feeding_widens_the_first_layer_only():
    plain, feeding = build(layers=2).state_dict(), build(layers=2, feeding=True).state_dict()
    assert plain.keys() == feeding.keys()
    wider = {name for name in plain if plain[name].shape != feeding[name].shape}
    assert wider == {"rnn.weight_ih_l0"}
    assert feeding["rnn.weight_ih_l0"].shape == (3 * HIDDEN, INPUT + OUTPUT)
