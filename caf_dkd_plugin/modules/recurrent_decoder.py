"""A GRU or LSTM decoder with attention over the encoder's output.

Letters: B sentences, S source tokens, T target tokens, L layers, H width, M width of the memory,
h heads.
"""

from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masked_attention import masked_attention
from .recurrent_encoder import CELLS

State = Tuple[Tensor, ...]
"""(hidden,) of a GRU or (hidden, cell) of an LSTM, each (L, B, H); with input feeding the result of
the last step (1, B, output_size) comes after them"""


class RecurrentDecoder(nn.Module):
    """Recurrent layers first, attention after them (Luong et al. 2015, sections 3 and 3.1).

    Without input feeding all steps of a known target run in one fused call, and the attention of
    step t has seen token t. The score is Luong's "general" one, scaled and in several heads: the
    state is projected into the memory's space, so that keys and values are the memory itself and
    nothing about them is computed in a step. The result is tanh(W [c_t ; s_t]) (their Eq. 5).

    With input feeding (their section 3.3) the RNN reads [x_t ; result of step t - 1], the result
    before the first step being zero. It knows then what has been attended to, but the steps of a
    known target run one after the other.

    Args:
        cell: "gru" or "lstm".
        input_size: width of the target embeddings.
        hidden_size: width H of the recurrent layers.
        layers: number L of recurrent layers, at least 1.
        memory_size: width M of the encoder's output.
        heads: attention heads, a divisor of `memory_size`.
        output_size: width of the result.
        dropout: dropout between the layers and on their output.
        attention_dropout: dropout on the attention weights.
        input_feeding: the RNN also reads the result of the step before.

    Raises:
        ValueError: `heads` does not divide `memory_size`.
    """

    def __init__(
        self,
        cell: str,
        input_size: int,
        hidden_size: int,
        layers: int,
        memory_size: int,
        heads: int,
        output_size: int,
        dropout: float,
        attention_dropout: float,
        input_feeding: bool,
    ):
        super().__init__()
        if memory_size % heads:
            raise ValueError(
                f"{heads} attention heads cannot share a memory of width {memory_size}: the number "
                "of heads must divide it"
            )
        self.heads = heads
        self.dropout = dropout
        self.attention_dropout = attention_dropout
        self.input_feeding = input_feeding
        self.rnn = CELLS[cell](
            input_size + (output_size if input_feeding else 0),
            hidden_size,
            num_layers=layers,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
        )
        self.states_per_layer = 2 if cell == "lstm" else 1
        self.initial = nn.Linear(memory_size, self.states_per_layer * layers * hidden_size)
        self.query = nn.Linear(hidden_size, memory_size, bias=False)
        self.output = nn.Linear(memory_size + hidden_size, output_size)

    def initial_state(self, memory: Tensor, memory_mask: Tensor) -> State:
        """The state before the first token: tanh(W mean(memory)), and zero as the result.

        Args:
            memory: (B, S, M).
            memory_mask: (B, S) bool, True where the source token is real.

        Returns:
            the state.
        """
        real = memory_mask.unsqueeze(-1).type_as(memory)
        mean = (memory * real).sum(dim=1) / real.sum(dim=1)  # (B, M)
        start = torch.tanh(self.initial(mean))
        parts = start.unflatten(1, (self.states_per_layer, self.rnn.num_layers, -1))
        state = tuple(part.transpose(0, 1).contiguous() for part in parts.unbind(dim=1))
        if not self.input_feeding:
            return state
        return (*state, mean.new_zeros(1, len(mean), self.output.out_features))

    def forward(
        self, x: Tensor, state: State, memory: Tensor, memory_mask: Tensor
    ) -> Tuple[Tensor, State, Tensor]:
        """Run over all given steps.

        Args:
            x: embedded target tokens (B, T, input_size).
            state: the state before the first of them.
            memory: (B, S, M).
            memory_mask: (B, S) bool, True where the source token is real.

        Returns:
            the result (B, T, output_size), the state after the last step, and the attention
            (B, h, T, S) before dropout.
        """
        if not self.input_feeding:
            return self._run(x, state, memory, memory_mask)
        results, rows = [], []
        for x_t in x.split(1, dim=1):  # (B, 1, input_size)
            x_t = torch.cat([x_t, state[-1].transpose(0, 1)], dim=-1)
            result, rnn_state, row = self._run(x_t, state[:-1], memory, memory_mask)
            state = (*rnn_state, result.transpose(0, 1))
            results.append(result)
            rows.append(row)
        return torch.cat(results, dim=1), state, torch.cat(rows, dim=2)

    def _run(
        self, x: Tensor, state: State, memory: Tensor, memory_mask: Tensor
    ) -> Tuple[Tensor, State, Tensor]:
        """:meth:`forward` in one fused call; `x` is all that the RNN reads, `state` all it remembers."""
        if self.states_per_layer == 2:
            states, state = self.rnn(x, state)  # (B, T, H)
        else:
            states, hidden = self.rnn(x, state[0])
            state = (hidden,)
        states = F.dropout(states, p=self.dropout, training=self.training)
        context, weights = masked_attention(
            self.query(states),
            memory,
            memory,
            memory_mask,
            self.heads,
            self.attention_dropout if self.training else 0.0,
        )
        return torch.tanh(self.output(torch.cat([context, states], dim=-1))), state, weights
