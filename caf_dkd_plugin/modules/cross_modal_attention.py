"""Multi-head attention from one modality to another.

Letters: B sentences, X queries, K keys, h heads.
"""

from typing import Tuple

from torch import Tensor, nn

from .masked_attention import masked_attention
from .retained_dropout import RetainedDropout


class CrossModalAttention(nn.Module):
    """Queries from one modality attend to the items of another (CAF-DKD, cross-modal encoder).

    The attention has a width of its own. The paper's listing divides the scores by the root of
    that width, its formula by the root of d_k; this is the formula, and with one head they agree.
    The output projection has no bias, so that a sentence without any item gets a context of zero.

    Args:
        query_size: width of the queries, and of the result.
        key_size: width of the items attended to.
        attention_size: width of the attention, over all heads.
        heads: number of heads, a divisor of `attention_size`.
        dropout: dropout on the attention weights.

    Raises:
        ValueError: `heads` does not divide `attention_size`.
    """

    def __init__(
        self, query_size: int, key_size: int, attention_size: int, heads: int, dropout: float
    ):
        super().__init__()
        if attention_size % heads:
            raise ValueError(
                f"{heads} attention heads cannot share a width of {attention_size}: "
                "the number of heads must divide it"
            )
        self.heads = heads
        self.dropout = RetainedDropout(dropout, "CrossModalAttention")
        self.query = nn.Linear(query_size, attention_size)
        self.key = nn.Linear(key_size, attention_size)
        self.value = nn.Linear(key_size, attention_size)
        self.output = nn.Linear(attention_size, query_size, bias=False)

    def forward(self, queries: Tensor, items: Tensor, item_mask: Tensor) -> Tuple[Tensor, Tensor]:
        """Attend.

        Args:
            queries: (B, X, query_size).
            items: (B, K, key_size).
            item_mask: (B, K) bool, True where the item is real.

        Returns:
            the context (B, X, query_size) and the weights (B, h, X, K) before dropout.
        """
        context, weights = masked_attention(
            self.query(queries),
            self.key(items),
            self.value(items),
            item_mask,
            self.heads,
            self.dropout.rate_now,
        )
        return self.output(context), weights
