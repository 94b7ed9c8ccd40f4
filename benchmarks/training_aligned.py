"""Training with attention aligned to the teacher's, beside the same training with the teacher alone.

    python benchmarks/training_aligned.py [--quick] [--json FILE]

Teacher and student look at images; the teacher is a Transformer, with many more heads than its student.
"""

import shlex
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
from program import options_of, run_program
from rounds import cpu_clock, interleaved
from rows import Bound, Found, Required, Row
from sizes import Sizes
from teachers import distilled, write_teacher

AT_LEAST = Required(Bound.AT_LEAST, 0.8)
TEACHER = shlex.split("--task multimodal_translation --arch cross_modal_transformer_tiny")
TEMPERATURE = 2
FAMILIES = "cross,fusion"


def measure(sizes: Sizes, scratch: Path) -> Found:
    """A row for each width of the student."""
    store = write_store(scratch / "images.h5", sizes.images, sizes.regions, sizes.features)
    data = write_data(scratch / "data", sizes, sizes.images)
    options = [*common_options(data, sizes), *ON_CPU, "--image-h5", str(store)]
    words = [*options, *TEACHER, *PLAIN]
    teacher = write_teacher(scratch / "teacher.pt", words, updates=sizes.steps[0])
    found = []
    for width, steps in zip(sizes.widths, sizes.steps, strict=True):
        words = [*options, *cross_modal_rnn(width), *distilled(TEMPERATURE)]
        words += ["--teacher-path", str(teacher)]
        trainings = {
            "ours": Training([*words, "--a2d-families", FAMILIES]),
            "theirs": Training(words),
        }
        sides = training_sides(trainings, steps, cpu_clock)
        rounds = interleaved(sides, sizes.rounds)
        found.append(
            Row(
                question=f"training with aligned attention ({FAMILIES}), d = {width}",
                ours_name="live teacher, aligned",
                theirs_name="live teacher",
                unit="target words/s",
                ours=rounds["ours"],
                theirs=rounds["theirs"],
                required=AT_LEAST,
            )
        )
    return found


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
