"""Training with image features, beside the same model without images.

    python benchmarks/training_images.py [--quick] [--json FILE]

Both read their mini-batches in this process, so that reading the store is in the figures. The limit is
the speed that the training with images would have if images cost nothing but the fusion's matrix
products.
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
    training_sides,
    write_data,
)
from made_up_images import write_store
from matrix_products import fusion_products, of_each_round
from program import options_of, run_program
from rounds import cpu_clock, interleaved, speed
from rows import Bound, Found, Required, Row
from sizes import Sizes

AT_LEAST = {256: Required(Bound.AT_LEAST, 0.75), 512: Required(Bound.AT_LEAST, 0.80)}
"""by width: what the images cost does not grow as fast as the rest"""


def measure(sizes: Sizes, scratch: Path) -> Found:
    """A row for each width."""
    found = []
    store = write_store(scratch / "images.h5", sizes.images, sizes.regions, sizes.features)
    data = write_data(scratch / "data", sizes, sizes.images)
    options = [*common_options(data, sizes), *PLAIN, *ON_CPU]
    for width, steps in zip(sizes.widths, sizes.steps, strict=True):
        model = cross_modal_rnn(width)
        trainings = {
            "ours": Training([*options, *model, "--image-h5", str(store)]),
            "theirs": Training([*options, *model]),
        }
        products = of_each_round(
            lambda shape, width=width: fusion_products(shape, width, sizes.regions, sizes.features),
            Training([*options, *model]),
            steps,
            sizes.rounds,
        )
        sides = training_sides(trainings, steps, cpu_clock)
        rounds = interleaved({**sides, "products": speed(products, cpu_clock)}, sizes.rounds)
        found.append(
            Row(
                question=f"training with images, d = {width}",
                ours_name=f"{sizes.regions} x {sizes.features} features",
                theirs_name="text only",
                unit="target words/s",
                ours=rounds["ours"],
                theirs=rounds["theirs"],
                required=AT_LEAST.get(width),
                limit=[
                    1 / (1 / text + 1 / fusion)
                    for text, fusion in zip(rounds["theirs"], rounds["products"])
                ],
            )
        )
    return found


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
