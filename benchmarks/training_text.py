"""Training on text: target words a second, beside fairseq's lstm through fairseq's own trainer.

    python benchmarks/training_text.py [--quick] [--json FILE]

Each side runs in a process of its own, one at a time. The limit is the speed at which the matrix
products alone would run, with freed memory kept, as our training keeps it.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    import start  # noqa: F401

from fairseq_training import (
    ON_CPU,
    PLAIN,
    Training,
    common_options,
    cross_modal_rnn,
    fairseq_lstm,
    write_data,
)
from matrix_products import of_each_round, text_products
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
    for width, steps in zip(sizes.widths, sizes.steps, strict=True):
        ours, theirs = cross_modal_rnn(width), fairseq_lstm(width)
        models = {"ours": ours, "same cell": [*ours, "--rnn-cell", "lstm"], "theirs": theirs}
        trained = {name: OwnProcess([*options, *model], steps) for name, model in models.items()}
        products = of_each_round(
            lambda shape, width=width: text_products(shape, width, sizes.symbols),
            Training([*options, *theirs]),
            steps,
            sizes.rounds,
        )
        limit = speed(products, cpu_clock)
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


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
