"""Training on text: target words a second, beside fairseq's lstm through fairseq's own trainer.

    python benchmarks/training_text.py [--quick] [--json FILE]

Each side runs in a process of its own, one at a time. The limit is the speed at which the matrix
products alone would run, with freed memory kept, as our training keeps it.
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
    write_data,
)
from matrix_products import MatrixProducts
from own_process import OwnProcess
from program import options_of, run_program
from rounds import cpu_clock, interleaved, speed
from rows import Bound, Found, Required, Row
from sizes import Sizes

from caf_dkd_plugin.freed_memory import keep_freed_memory

AT_LEAST = Required(Bound.AT_LEAST, 1.3)


def measure(sizes: Sizes, scratch: Path) -> Found:
    """A row for each width, and one with LSTM cells on both sides, which informs."""
    found = []
    keep_freed_memory()
    options = [*common_options(write_data(scratch / "data", sizes, 1), sizes), *PLAIN, *ON_CPU]
    for width in sizes.widths:
        ours, theirs = cross_modal_rnn(width), fairseq_lstm(width)
        models = {"ours": ours, "same cell": [*ours, "--rnn-cell", "lstm"], "theirs": theirs}
        trained = {
            name: OwnProcess([*options, *model], sizes.steps) for name, model in models.items()
        }
        products = MatrixProducts(width, sizes.symbols)
        batches = Training([*options, *theirs])
        limit = speed(limit_of(products, batches, sizes), cpu_clock)
        rounds = interleaved({**trained, "products": limit}, sizes.rounds)
        for side in trained.values():
            side.close()
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
