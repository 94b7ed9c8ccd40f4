"""One step of a GRU or LSTM whose input is already multiplied with the first layer's weights.

Letters: B sentences, L layers, H width, G gates of the cell: 3 of a GRU, 4 of an LSTM.
"""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def recurrent_step(rnn: nn.RNNBase, gates: Tensor, state: Tuple[Tensor, ...]) -> Tuple[Tensor, ...]:
    """What `rnn` makes of one more input, without dropout between its layers.

    In a growing translation the input is one of a few thousand embeddings, whose product with the
    first layer's weights can be known beforehand; torch's own call would multiply anew.

    Args:
        rnn: an ``nn.GRU`` or ``nn.LSTM`` of L layers in one direction.
        gates: what the first layer's input weights and biases make of the input (B, G H).
        state: (hidden,) of a GRU or (hidden, cell) of an LSTM, each (L, B, H).

    Returns:
        the new state, in the same form; its last hidden layer is the output.
    """
    cell = _gru if isinstance(rnn, nn.GRU) else _lstm
    layers = []
    for layer, (from_input, from_hidden, input_bias, hidden_bias) in enumerate(rnn.all_weights):
        if layer:
            gates = F.linear(layers[-1][0], from_input, input_bias)
        before = [part[layer] for part in state]
        layers.append(cell(gates, F.linear(before[0], from_hidden, hidden_bias), *before))
    return tuple(torch.stack(part) for part in zip(*layers))


def _gru(from_input: Tensor, from_hidden: Tensor, hidden: Tensor) -> Tuple[Tensor]:
    """Cho et al. 2014 (section 2.3), with torch's order of the gates: reset, keep, new."""
    size = hidden.size(-1)
    both = from_input[:, : 2 * size] + from_hidden[:, : 2 * size]
    reset, keep = torch.sigmoid_(both).chunk(2, dim=-1)
    new = torch.addcmul(from_input[:, 2 * size :], reset, from_hidden[:, 2 * size :]).tanh_()
    return (torch.lerp(new, hidden, keep),)


def _lstm(
    from_input: Tensor, from_hidden: Tensor, hidden: Tensor, carried: Tensor
) -> Tuple[Tensor, Tensor]:
    """Hochreiter and Schmidhuber 1997 with forget gates, in torch's order: take, keep, new, give."""
    take, keep, new, give = (from_input + from_hidden).chunk(4, dim=-1)
    carried = torch.sigmoid(keep) * carried + torch.sigmoid(take) * torch.tanh(new)
    return torch.sigmoid(give) * torch.tanh(carried), carried
