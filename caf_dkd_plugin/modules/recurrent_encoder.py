"""A bidirectional GRU or LSTM over the source.

Letters: B sentences, S source tokens, H width.
"""

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

CELLS = {"gru": nn.GRU, "lstm": nn.LSTM}


class RecurrentEncoder(nn.Module):
    """A bidirectional recurrent network whose result for a token does not depend on padding.

    Args:
        cell: "gru" or "lstm".
        input_size: width of the input.
        hidden_size: width H of the result, half of it from each direction.
        layers: number of layers, at least 1.
        dropout: dropout between layers.

    Raises:
        ValueError: `hidden_size` is odd.
    """

    def __init__(self, cell: str, input_size: int, hidden_size: int, layers: int, dropout: float):
        super().__init__()
        if hidden_size % 2:
            raise ValueError(f"a width of {hidden_size} is odd; each direction has half of it")
        self.rnn = CELLS[cell](
            input_size,
            hidden_size // 2,
            num_layers=layers,
            bidirectional=True,
            batch_first=True,
            dropout=dropout if layers > 1 else 0.0,
        )

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Read the source in both directions.

        Args:
            x: (B, S, input_size), padded on the right.
            lengths: (B,) number of real tokens, each at least 1.

        Returns:
            (B, S, H), zero at padding.
        """
        packed = pack_padded_sequence(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
        states, _ = self.rnn(packed)
        return pad_packed_sequence(states, batch_first=True, total_length=x.size(1))[0]
