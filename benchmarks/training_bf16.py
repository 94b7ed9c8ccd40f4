"""Training in bfloat16 on a CPU that computes in it, beside float32.

    python benchmarks/training_bf16.py [--quick] [--json FILE]

``fairseq-hydra-train ... common.bf16=true`` keeps a float32 copy of the weights; with
``common.memory_efficient_bf16=true`` as well it keeps none.
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
from program import options_of, run_program
from rounds import cpu_clock, interleaved
from rows import Bound, Found, Required, Row, Skipped
from sizes import Sizes
from table import cpu_facts

BF16_FLAGS = {"amx_bf16", "avx512_bf16"}
"""what Linux calls the instructions"""
SETTINGS = {
    "float32": {},
    "bf16": {"common.bf16": True},
    "memory-efficient bf16": {"common.bf16": True, "common.memory_efficient_bf16": True},
}
AIM = Required(Bound.AT_LEAST, 2.0)


def measure(sizes: Sizes, scratch: Path) -> Found:
    """Two rows for each width; all three have trained on the same mini-batches when it is over."""
    flags = {flag for name, value in cpu_facts() if name == "flags" for flag in value.split()}
    if not flags & BF16_FLAGS:
        return [
            Skipped(
                "training with bf16 on a CPU",
                f"the processor has none of {', '.join(sorted(BF16_FLAGS))}",
            )
        ]
    found = []
    options = [*common_options(write_data(scratch / "data", sizes, 1), sizes), *PLAIN, *ON_CPU]
    for width, steps in zip(sizes.widths, sizes.steps, strict=True):
        trainings = {
            name: Training([*options, *cross_modal_rnn(width)], settings)
            for name, settings in SETTINGS.items()
        }
        sides = training_sides(trainings, steps, cpu_clock)
        rounds = interleaved(sides, sizes.rounds)
        losses = {name: training.validation_loss() for name, training in trainings.items()}
        for name in ("bf16", "memory-efficient bf16"):
            found.append(
                Row(
                    question=f"training, text only, {name}, d = {width}",
                    ours_name=name,
                    theirs_name="float32",
                    unit="target words/s",
                    ours=rounds[name],
                    theirs=rounds["float32"],
                    required=AIM,
                    note=f"validation nll {losses[name]:.3f} and {losses['float32']:.3f}",
                )
            )
    return found


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
