"""Training with a live teacher, beside its two parts, each timed alone.

    python benchmarks/training_live_teacher.py [--quick] [--json FILE]

The parts are the teacher's forward pass and the student's step with log-probabilities that are ready.
"""

import sys
from pathlib import Path
from typing import Callable

if __name__ == "__main__":
    import start  # noqa: F401

import torch
from fairseq_training import ON_CPU, PLAIN, Training, common_options, cross_modal_rnn, write_data
from program import options_of, run_program
from rounds import cpu_clock, interleaved, speed
from rows import Bound, Found, Required, Row
from sizes import Sizes
from teachers import distilled, write_teacher

from caf_dkd_plugin.distillation.teacher import Answer, asked

AT_LEAST = Required(Bound.AT_LEAST, 0.95)
TEMPERATURE = 2


class ReadyTeacher:
    """Takes a frozen teacher's place in the task, and has its answer ready.

    Args:
        said: about the mini-batch of the next step.
    """

    def __init__(self, said: Answer):
        self.said = said

    def answer(self, net_input, dtype: torch.dtype, need_maps: bool) -> Answer:
        return self.said


def measure(sizes: Sizes, scratch: Path) -> Found:
    """A row for each width; the teacher is as wide as its student."""
    options = [*common_options(write_data(scratch / "data", sizes, 1), sizes), *ON_CPU]
    found = []
    for width, steps in zip(sizes.widths, sizes.steps, strict=True):
        model = cross_modal_rnn(width)
        checkpoint = scratch / f"teacher{width}.pt"
        teacher = write_teacher(checkpoint, [*options, *model, *PLAIN], updates=steps)
        words = [*options, *model, *distilled(TEMPERATURE), "--teacher-path", str(teacher)]
        ours, parts = Training(words), Training(words)
        sides = {
            "ours": speed(lambda t=ours, steps=steps: t.steps(steps), cpu_clock),
            "parts": speed_of_parts(parts, steps, cpu_clock),
        }
        rounds = interleaved(sides, sizes.rounds)
        found.append(
            Row(
                question=f"training with a live teacher, d = {width}",
                ours_name="together",
                theirs_name="teacher's pass, student's step",
                unit="target words/s",
                ours=rounds["ours"],
                theirs=rounds["parts"],
                required=AT_LEAST,
            )
        )
    return found


def speed_of_parts(
    training: Training, steps: int, clock: Callable[[], float]
) -> Callable[[], float]:
    """A side that reads a mini-batch, asks the teacher about it, and does the student's step."""
    teacher = training.task.teaching.teacher
    dtype = next(training.model.parameters()).dtype

    def measured() -> float:
        seconds, words = 0.0, 0
        for _ in range(steps):
            started = clock()
            batch = training.next_batch()
            said = teacher.answer(asked(batch), dtype)
            answered = clock()
            training.task.teaching.teacher = ReadyTeacher(said)
            ready = clock()
            words += training.step(batch)
            seconds += (answered - started) + (clock() - ready)
        return words / seconds

    return measured


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
