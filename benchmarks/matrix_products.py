"""The least that a training of ``cross_modal_rnn`` on text costs: its matrix products, and nothing else.

No dropout, no softmax, no loss, no gates, no optimiser: what the products alone take, each forward
and both ways back, in the shapes of the model, is a limit that no implementation in the same
precision passes.

Letters: B sentences, S source tokens, T target tokens, d width, V target vocabulary.
"""

from typing import List, NamedTuple

import torch
from fairseq_training import Shape
from torch import Tensor

GATES = 3
"""of a GRU"""


class Product(NamedTuple):
    """(rows, inner) x (inner, columns), again and again."""

    batch: int
    """of independent products in one call, such as an attention's; 1 for a layer"""
    rows: int
    inner: int
    columns: int
    repeats: int = 1
    """steps, one after the other, that share their weights"""


def products(shape: Shape, width: int, symbols: int) -> List[Product]:
    """Those of a mini-batch's forward pass."""
    B, S, T, _ = shape
    d, half = width, width // 2
    direction = [Product(1, B * S, d, GATES * half), Product(1, B, half, GATES * half, S)]
    return [
        *(direction * 2),  # encoder: its input, its recurrence
        Product(1, B, d, d),  # the decoder's first state
        Product(1, B * T, d, GATES * d),
        Product(1, B, d, GATES * d, T),
        Product(1, B * T, d, d),  # queries
        Product(B, T, d, S),  # scores
        Product(B, T, S, d),  # contexts
        Product(1, B * T, 2 * d, d),
        Product(1, B * T, d, symbols),  # output layer
    ]


class MatrixProducts:
    """Runs the products of mini-batches: forward, and backward to both factors.

    Args:
        width: d.
        symbols: V.
    """

    def __init__(self, width: int, symbols: int):
        self.width = width
        self.symbols = symbols

    @torch.no_grad()
    def run(self, shape: Shape) -> None:
        """All of one mini-batch."""
        for product in products(shape, self.width, self.symbols):
            if product.batch > 1:
                self._run_batched(product)
            else:
                self._run_layer(product)

    def _run_batched(self, product: Product) -> None:
        left = _filled(product.batch, product.rows, product.inner)
        right = _filled(product.batch, product.inner, product.columns)
        result = torch.bmm(left, right)
        torch.bmm(result, right.transpose(1, 2))
        torch.bmm(left.transpose(1, 2), result)

    def _run_layer(self, product: Product) -> None:
        every_step = _filled(product.rows * product.repeats, product.inner)
        weights = _filled(product.inner, product.columns)
        results = torch.empty(len(every_step), product.columns)
        for x, result in zip(every_step.split(product.rows), results.split(product.rows)):
            torch.mm(x, weights, out=result)
        for result, x in zip(results.split(product.rows), every_step.split(product.rows)):
            torch.mm(result, weights.T, out=x)
        torch.mm(every_step.T, results)  # of the weights, over all steps at once


def _filled(*size: int) -> Tensor:
    return torch.full(size, 1e-3)  # a product of zeros may be faster
