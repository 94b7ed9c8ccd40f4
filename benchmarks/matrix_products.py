"""The least that a training of ``cross_modal_rnn`` costs: its matrix products, and nothing else.

No dropout, no softmax, no loss, no gates, no optimiser: what the products alone take, each forward
and both ways back, in the shapes of the model, is a limit that no implementation in the same
precision passes.

Letters: B sentences, S source tokens, T target tokens, d width, V target vocabulary, R image regions,
D feature size, h heads.
"""

from typing import Callable, List, NamedTuple

import torch
from fairseq_training import FFN_WIDTHS, Shape, Training
from torch import Tensor

from caf_dkd_plugin.models.cross_modal_rnn.config import CrossModalRNNConfig

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
    to_rows: bool = True
    """whether the gradient also goes to the rows; not to image features, which are given"""


def text_products(shape: Shape, width: int, symbols: int) -> List[Product]:
    """Those of a mini-batch's forward pass without images."""
    B, S, T, _ = shape
    d, half = width, width // 2
    direction = [Product(1, B * S, d, GATES * half), Product(1, B, half, GATES * half, S)]
    return [
        *(direction * 2),  # encoder: its input, its recurrence
        Product(1, B, d, d),  # the decoder's first state
        Product(1, B * T, d, GATES * d),
        Product(1, B, d, GATES * d, T),
        Product(1, B * S, d, d),  # keys
        Product(1, B * S, d, d),  # values
        Product(B, T, d, S),  # scores
        Product(B, T, S, d),  # contexts
        Product(1, B * T, d, d),  # what the result takes of the states
        Product(1, B * T, d, symbols),  # output layer
    ]


def fusion_products(shape: Shape, width: int, regions: int, features: int) -> List[Product]:
    """What images add to them."""
    B, S, _, _ = shape
    d, heads = width, CrossModalRNNConfig.fusion_heads
    each = d // heads
    return [
        Product(1, B * S, d, d),  # queries
        *([Product(1, B * regions, features, d, to_rows=False)] * 2),  # keys, values
        Product(B * heads, S, each, regions),  # scores
        Product(B * heads, S, regions, each),  # contexts
        Product(1, B * S, d, d),
        Product(1, B * S, 2 * d, FFN_WIDTHS * d),
        Product(1, B * S, FFN_WIDTHS * d, d),
    ]


def of_each_round(
    products: Callable[[Shape], List[Product]], training: Training, steps: int, rounds: int
) -> Callable[[], int]:
    """The products of the same mini-batches that the trainings see, round by round.

    Args:
        products: of a mini-batch.
        training: whose mini-batches; it has not begun.
        steps: in a round.
        rounds: without the one that warms up.

    Returns:
        a function that runs those of the next round and gives the target words in them.
    """
    coming = iter(training.shapes(steps * (rounds + 1)))

    def run() -> int:
        shapes = [next(coming) for _ in range(steps)]
        for shape in shapes:
            run_products(products(shape))
        return sum(shape.words for shape in shapes)

    return run


@torch.no_grad()
def run_products(products: List[Product]) -> None:
    """Forward, and backward to both factors."""
    for product in products:
        if product.batch > 1:
            _run_batched(product)
        else:
            _run_layer(product)


def _run_batched(product: Product) -> None:
    left = _filled(product.batch, product.rows, product.inner)
    right = _filled(product.batch, product.inner, product.columns)
    result = torch.bmm(left, right)
    torch.bmm(result, right.transpose(1, 2))
    torch.bmm(left.transpose(1, 2), result)


def _run_layer(product: Product) -> None:
    every_step = _filled(product.rows * product.repeats, product.inner)
    weights = _filled(product.inner, product.columns)
    results = torch.empty(len(every_step), product.columns)
    for x, result in zip(every_step.split(product.rows), results.split(product.rows)):
        torch.mm(x, weights, out=result)
    if product.to_rows:
        for result, x in zip(results.split(product.rows), every_step.split(product.rows)):
            torch.mm(result, weights.T, out=x)
    torch.mm(every_step.T, results)  # of the weights, over all steps at once


def _filled(*size: int) -> Tensor:
    return torch.full(size, 1e-3)  # a product of zeros may be faster
