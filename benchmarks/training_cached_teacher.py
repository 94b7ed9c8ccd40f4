"""Training with a teacher's cache, at temperatures 1 and 2, beside the same without a teacher.

    python benchmarks/training_cached_teacher.py [--quick] [--json FILE]

Reading the cache is in the figures; making it is not.
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
from rows import Bound, Found, Required, Row
from sizes import Sizes
from teachers import distilled, write_cache, write_teacher

AT_LEAST = {1: Required(Bound.AT_LEAST, 0.90), 2: Required(Bound.AT_LEAST, 0.85)}
"""by temperature: at another than 1 both sides' probabilities are softened"""
K = 8


def measure(sizes: Sizes, scratch: Path) -> Found:
    """A row for each width and temperature. The teacher has the first width: the cache hides it."""
    data = write_data(scratch / "data", sizes, 1)
    options = [*common_options(data, sizes), *ON_CPU]
    width, *_ = sizes.widths
    words = [*options, *PLAIN, *cross_modal_rnn(width)]
    teacher = write_teacher(scratch / "teacher.pt", words, updates=sizes.steps[0])
    cache = ["--teacher-cache", str(write_cache(scratch / "teacher.h5", data, teacher, K))]
    found = []
    for width, steps in zip(sizes.widths, sizes.steps, strict=True):
        model = cross_modal_rnn(width)
        trainings = {"none": Training([*options, *model, *PLAIN])}
        for temperature in AT_LEAST:
            words = [*options, *model, *distilled(temperature), *cache]
            trainings[temperature] = Training(words)
        sides = training_sides(trainings, steps, cpu_clock)
        rounds = interleaved(sides, sizes.rounds)
        found += [
            Row(
                question=f"training with a cached teacher, d = {width}",
                ours_name=f"k = {K}, T = {temperature}",
                theirs_name="no teacher",
                unit="target words/s",
                ours=rounds[temperature],
                theirs=rounds["none"],
                required=required,
            )
            for temperature, required in AT_LEAST.items()
        ]
    return found


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
