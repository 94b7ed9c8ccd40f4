"""Multi-head scaled dot-product attention over keys of which some are masked.

Letters: B sentences, X queries, K keys, h heads, A attention width, d_k = A / h.
"""

from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor


def masked_softmax(scores: Tensor, mask: Tensor) -> Tensor:
    """Softmax over the last dimension in which masked entries get exactly zero.

    A row in which everything is masked yields zeros, never NaN.

    Args:
        scores: (..., K).
        mask: bool, broadcastable to `scores`; True where the entry counts.

    Returns:
        (..., K), float32 at least.
    """
    wide = scores.to(torch.promote_types(scores.dtype, torch.float32))
    weights = F.softmax(wide.masked_fill(~mask, torch.finfo(wide.dtype).min), dim=-1)
    return weights * mask


def masked_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    key_mask: Tensor,
    heads: int,
    dropout: float,
    scale: Optional[float] = None,
) -> Tuple[Tensor, Tensor]:
    """softmax(Q K^T / sqrt(d_k)) V per head (Vaswani et al. 2017, Eq. 1), with masked keys.

    Args:
        query: (B, X, A).
        key: (B, K, A).
        value: (B, K, A), or any width that `heads` divides.
        key_mask: (B, K) bool, True where the key is real.
        heads: number of heads; each reads its own d_k columns.
        dropout: probability with which a weight is dropped; 0 outside training.
        scale: what the scores are multiplied with (default: 1 / sqrt(d_k)).

    Returns:
        the context (B, X, width of `value`), heads side by side, and the weights (B, h, X, K)
        before dropout. Where a sentence has no real key both are zero. The weights are float32 at least:
        a divergence from them has gradients of the order of 1 / weight, beyond what float16 holds.
    """
    query, key, value = (_split_heads(x, heads) for x in (query, key, value))  # (B, h, ., d_k)
    query = query * (
        query.size(-1) ** -0.5 if scale is None else scale
    )  # first, or the product may overflow in float16
    scores = torch.matmul(query, key.transpose(2, 3))  # (B, h, X, K)
    weights = masked_softmax(scores, key_mask[:, None, None, :])
    context = torch.matmul(F.dropout(weights, p=dropout).type_as(value), value)  # (B, h, X, d_k)
    return context.transpose(1, 2).flatten(2), weights


def _split_heads(x: Tensor, heads: int) -> Tensor:
    """(B, N, A) -> (B, h, N, A / h)."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)
