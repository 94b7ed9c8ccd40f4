"""A GRU or LSTM decoder with attention over the encoder's output.

Letters: N sentences, B targets, S source tokens, T target tokens, L layers, H width, M width of the
encoder's output, O width of the result, h heads, G gates of the cell.
"""

import math
from typing import NamedTuple, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .masked_attention import masked_attention
from .recurrent_encoder import CELLS
from .recurrent_step import recurrent_step

State = Tuple[Tensor, ...]
"""(hidden,) of a GRU or (hidden, cell) of an LSTM, each (L, B, H); with input feeding the result of
the last step (1, B, O) comes after them"""


class Memory(NamedTuple):
    """The encoder's output as the attention reads it, which is the same at each step."""

    keys: Tensor
    """(N, S, h H)"""
    values: Tensor
    """(N, S, h O)"""
    mask: Tensor
    """(N, S) bool, True where the source token is real"""

    def of(self, sentences: Tensor) -> "Memory":
        """That of some sentences, in their order: (N',) -> N' in the place of N."""
        if torch.equal(sentences, torch.arange(len(self.mask), device=sentences.device)):
            return self
        return Memory(*(part.index_select(0, sentences) for part in self))


class RecurrentDecoder(nn.Module):
    """Recurrent layers first, attention after them (Luong et al. 2015, sections 3 and 3.1).

    Without input feeding all steps of a known target run in one fused call, and the attention of
    step t has seen token t. The score is Luong's "general" one, scaled and in several heads, and the
    result is tanh(W [c_t ; s_t]) (their Eq. 5). Both matrices that stand beside the encoder's output,
    the score's and the half of W that reads c_t, are multiplied with it once a sentence
    (:meth:`read`), not with each state and context at each step.

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
        output_size: width O of the result.
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
            memory: the encoder's output (B, S, M).
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

    def read(self, memory: Tensor, memory_mask: Tensor) -> Memory:
        """Multiply the encoder's output with the matrices that stand beside it.

        Args:
            memory: the encoder's output (N, S, M).
            memory_mask: (N, S) bool, True where the source token is real.
        """
        if self.heads == 1:
            return Memory(
                memory @ self.query.weight, F.linear(memory, self._context_weight), memory_mask
            )
        memory = memory.unflatten(2, (self.heads, -1))  # (N, S, h, M / h)
        queries = self.query.weight.unflatten(0, (self.heads, -1))  # (h, M / h, H)
        contexts = self._context_weight.unflatten(1, (self.heads, -1))  # (O, h, M / h)
        keys = torch.einsum("nshm,hmd->nshd", memory, queries)
        values = torch.einsum("nshm,ohm->nsho", memory, contexts)
        return Memory(keys.flatten(2), values.flatten(2), memory_mask)

    def forward(self, x: Tensor, state: State, memory: Memory) -> Tuple[Tensor, State, Tensor]:
        """Run over all given steps.

        Args:
            x: embedded target tokens (B, T, input_size).
            state: the state before the first of them.
            memory: what :meth:`read` made of the N sentences; B is a multiple k of N, and k targets
                side by side are of one sentence.

        Returns:
            the result (B, T, O), the state after the last step, and the attention (B, h, T, S)
            before dropout.
        """
        if not self.input_feeding:
            states, state = self._recur(x, state)
            result, weights = self._attend(states, memory)
            return result, state, weights
        results, rows = [], []
        for x_t in x.split(1, dim=1):  # (B, 1, input_size)
            x_t = torch.cat([x_t, state[-1].transpose(0, 1)], dim=-1)
            states, rnn_state = self._recur(x_t, state[:-1])
            result, row = self._attend(states, memory)
            state = (*rnn_state, result.transpose(0, 1))
            results.append(result)
            rows.append(row)
        return torch.cat(results, dim=1), state, torch.cat(rows, dim=2)

    def gates(self, x: Tensor) -> Tensor:
        """What the first layer makes of embedded tokens: (..., input_size) -> (..., G H)."""
        weights, _, bias, _ = self.rnn.all_weights[0]
        return F.linear(x, weights[:, : x.size(-1)], bias)

    def step(self, gates: Tensor, state: State, memory: Memory) -> Tuple[Tensor, State, Tensor]:
        """One step of :meth:`forward`, without dropout, from what :meth:`gates` made of the token.

        Args:
            gates: (B, G H).
            state: the state before the token.
            memory: as in :meth:`forward`.

        Returns:
            as :meth:`forward`, with T = 1.
        """
        if self.input_feeding:
            *state, fed = state
            weights = self.rnn.all_weights[0][0]
            gates = gates + F.linear(fed.squeeze(0), weights[:, -fed.size(-1) :])
        state = recurrent_step(self.rnn, gates, tuple(state))
        result, weights = self._attend(state[0][-1].unsqueeze(1), memory)
        if self.input_feeding:
            state = (*state, result.transpose(0, 1))
        return result, state, weights

    @property
    def _context_weight(self) -> Tensor:
        """The half of W that reads the context: (O, M)."""
        return self.output.weight[:, : self.query.out_features]

    def _recur(self, x: Tensor, state: State) -> Tuple[Tensor, State]:
        """The recurrent layers alone; `x` is all that they read, `state` all they remember."""
        if self.states_per_layer == 2:
            states, state = self.rnn(x, state)  # (B, T, H)
        else:
            states, hidden = self.rnn(x, state[0])
            state = (hidden,)
        return F.dropout(states, p=self.dropout, training=self.training), state

    def _attend(self, states: Tensor, memory: Memory) -> Tuple[Tensor, Tensor]:
        """(B, T, H) -> the result (B, T, O) and the attention (B, h, T, S) before dropout."""
        size, steps, width = states.shape
        targets = size // len(memory.mask)  # of each sentence
        queries = states.reshape(-1, targets * steps, width)  # (N, k T, H)
        contexts, weights = masked_attention(
            queries.repeat(1, 1, self.heads) if self.heads > 1 else queries,
            memory.keys,
            memory.values,
            memory.mask,
            self.heads,
            self.attention_dropout if self.training else 0.0,
            scale=math.sqrt(self.heads / self.query.out_features),
        )
        context = contexts.view(size, steps, self.heads, -1).sum(dim=2)  # (B, T, O)
        weights = weights.unflatten(2, (targets, steps)).transpose(1, 2).flatten(0, 1)
        from_states = self.output.weight[:, self.query.out_features :]
        return torch.tanh(context + F.linear(states, from_states, self.output.bias)), weights
