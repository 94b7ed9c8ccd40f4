"""Training on text: target words a second, beside fairseq's lstm through fairseq's own trainer.

    python benchmarks/training_text.py [--quick] [--json FILE]

The limit is the speed at which the matrix products alone would run.
"""

import sys
from pathlib import Path
from typing import Callable, List

if __name__ == "__main__":
    import start  # noqa: F401

from fairseq_training import (
    ON_CPU,
    PLAIN,
    Shape,
    Training,
    common_options,
    cross_modal_rnn,
    fairseq_lstm,
    training_sides,
    write_data,
)
from matrix_products import MatrixProducts
from program import options_of, run_program
from rounds import cpu_clock, interleaved, speed
from rows import Bound, Found, Required, Row
from sizes import Sizes

AT_LEAST = Required(Bound.AT_LEAST, 1.3)


def measure(sizes: Sizes, scratch: Path) -> Found:
    """A row for each width, and one with LSTM cells on both sides, which informs."""
    found = []
    options = [*common_options(write_data(scratch / "data", sizes, 1), sizes), *PLAIN, *ON_CPU]
    for width in sizes.widths:
        ours = Training([*options, *cross_modal_rnn(width)])
        same_cell = Training([*options, *cross_modal_rnn(width), "--rnn-cell", "lstm"])
        theirs = Training([*options, *fairseq_lstm(width)])
        trainings = {"ours": ours, "same cell": same_cell, "theirs": theirs}
        sides = training_sides(trainings, sizes.steps, cpu_clock)
        products = MatrixProducts(width, sizes.symbols)
        sides["products"] = speed(limit_of(products, theirs, sizes), cpu_clock)
        rounds = interleaved(sides, sizes.rounds)
        question = f"training, text only, d = {width}"
        unit = "target words/s"
        found += [
            Row(
                *(question, "cross_modal_rnn", "fairseq lstm", unit),
                *(rounds["ours"], rounds["theirs"], AT_LEAST, rounds["products"]),
            ),
            Row(
                *(question, "with LSTM cells", "fairseq lstm", unit),
                *(rounds["same cell"], rounds["theirs"]),
            ),
        ]
    return found


def limit_of(products: MatrixProducts, training: Training, sizes: Sizes) -> Callable[[], int]:
    """The products of the same mini-batches that the trainings see, round by round.

    Args:
        products: of a model.
        training: whose mini-batches; it has not begun.
        sizes: how many there are in a round; there is one round to warm up.

    Returns:
        a function that runs those of the next round and gives the target words in them.
    """
    batches = training.shapes(sizes.steps * (sizes.rounds + 1))
    coming = iter(batches)

    def run() -> int:
        shapes: List[Shape] = [next(coming) for _ in range(sizes.steps)]
        for shape in shapes:
            products.run(shape)
        return sum(shape.words for shape in shapes)

    return run


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
