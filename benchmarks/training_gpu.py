"""Training on text on a GPU, beside fairseq's lstm: in float32, and in float16.

    python benchmarks/training_gpu.py [--quick] [--json FILE]

Time is that on the wall, after all the GPU was given to do is done.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    import start  # noqa: F401

import torch
from fairseq_training import (
    PLAIN,
    Training,
    common_options,
    cross_modal_rnn,
    fairseq_lstm,
    training_sides,
    write_data,
)
from program import options_of, run_program
from rounds import interleaved, wall_clock
from rows import Bound, Found, Required, Row, Skipped
from sizes import Sizes

AT_LEAST = Required(Bound.AT_LEAST, 6.0)
PRECISIONS = {"float32": [], "--fp16": ["--fp16"]}
MORE_STEPS = 10
"""times as many as on a CPU, for a step takes milliseconds"""


def measure(sizes: Sizes, scratch: Path) -> Found:
    """A row for each width and precision, the same for both sides."""
    if not torch.cuda.is_available():
        return [Skipped("training on a GPU", "there is no CUDA device")]
    found = []
    options = [*common_options(write_data(scratch / "data", sizes, 1), sizes), *PLAIN]
    for width, steps in zip(sizes.widths, sizes.steps, strict=True):
        for name, precision in PRECISIONS.items():
            trainings = {
                "ours": Training([*options, *precision, *cross_modal_rnn(width)]),
                "theirs": Training([*options, *precision, *fairseq_lstm(width)]),
            }
            sides = training_sides(trainings, MORE_STEPS * steps, wall_clock)
            rounds = interleaved(sides, sizes.rounds)
            found.append(
                Row(
                    question=f"training on a GPU, text only, {name}, d = {width}",
                    ours_name="cross_modal_rnn",
                    theirs_name="fairseq lstm",
                    unit="target words/s",
                    ours=rounds["ours"],
                    theirs=rounds["theirs"],
                    required=AT_LEAST,
                )
            )
    return found


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
