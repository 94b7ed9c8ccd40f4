"""Embeddings that a recurrent network hears.

Letters: B sentences, N tokens, d width, V vocabulary.
"""

import math

import torch
from torch import Tensor, nn


class ScaledEmbedding(nn.Embedding):
    """Embeddings times the root of their width (Vaswani et al. 2017, section 3.4).

    The matrix also serves as the output layer, which wants entries of a standard deviation of
    1 / sqrt(d); what the network reads has one of 1. Unscaled, a recurrent network hardly hears its
    input at first, and training at 1,000 pairs takes several times as many epochs.

    Args:
        symbols: number V of symbols.
        size: width d.
        padding: the symbol whose embedding is zero.
    """

    def __init__(self, symbols: int, size: int, padding: int):
        super().__init__(symbols, size, padding_idx=padding)
        self.scale = math.sqrt(size)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=self.embedding_dim**-0.5)
        with torch.no_grad():
            self.weight[self.padding_idx].fill_(0)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, N) -> (B, N, d)."""
        return super().forward(tokens) * self.scale
