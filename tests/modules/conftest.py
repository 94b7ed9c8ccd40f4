"""An independent reference of attention, and random masks."""

import math

import pytest
import torch


@pytest.fixture
def random_mask():
    """`random_mask(B, N)` -> (B, N) bool; every row has something, unless `allow_empty`."""

    def make(rows, columns, allow_empty=False):
        mask = torch.rand(rows, columns) < 0.6
        if not allow_empty:
            mask[torch.arange(rows), torch.randint(columns, (rows,))] = True
        return mask

    return make


@pytest.fixture
def attention_by_loops():
    """Scaled dot-product attention one number at a time, in Python's float64."""

    def attend(query, key, value, mask, heads):
        """(B, X, A), (B, K, A), (B, K, W), (B, K) -> (B, X, W) and (B, h, X, K), float64."""
        sentences, queries, width = query.shape
        keys, value_width = value.shape[1:]
        d_k, d_v = width // heads, value_width // heads
        context = torch.zeros(sentences, queries, value_width, dtype=torch.float64)
        weights = torch.zeros(sentences, heads, queries, keys, dtype=torch.float64)
        q, k, v, real = query.tolist(), key.tolist(), value.tolist(), mask.tolist()
        for b in range(sentences):
            for h in range(heads):
                for x in range(queries):
                    terms = {}
                    for j in range(keys):
                        if real[b][j]:
                            dot = sum(
                                q[b][x][h * d_k + i] * k[b][j][h * d_k + i] for i in range(d_k)
                            )
                            terms[j] = math.exp(dot / math.sqrt(d_k))
                    for j, term in terms.items():
                        weight = term / sum(terms.values())
                        weights[b, h, x, j] = weight
                        for i in range(h * d_v, (h + 1) * d_v):
                            context[b, x, i] += weight * v[b][j][i]
        return context, weights

    return attend
