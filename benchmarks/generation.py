"""Translating as fairseq-generate does, beam 5, beside fairseq's lstm.

    python benchmarks/generation.py [--quick] [--json FILE]

The models are new and would never end a sentence: all translations have the same length, that of a
sentence of the corpus.
"""

import shlex
import sys
from pathlib import Path
from typing import Callable, List

if __name__ == "__main__":
    import start  # noqa: F401

from fairseq import options
from fairseq.dataclass.utils import convert_namespace_to_omegaconf
from fairseq_training import (
    ON_CPU,
    PLAIN,
    Training,
    common_options,
    cross_modal_rnn,
    fairseq_lstm,
    write_data,
)
from program import options_of, run_program
from rounds import cpu_clock, interleaved, speed
from rows import Bound, Found, Required, Row
from sizes import Sizes

AT_LEAST = {256: Required(Bound.AT_LEAST, 1.25), 512: Required(Bound.AT_LEAST, 1.4)}
"""by width"""
BEAM = 5
BATCH = 64
"""sentences"""


def measure(sizes: Sizes, scratch: Path) -> Found:
    """A row for each width."""
    data = write_data(scratch / "data", sizes, 1)
    options = [*common_options(data, sizes), *PLAIN, *ON_CPU]
    length = int(sizes.words[0])
    found = []
    for width in sizes.widths:
        models = {"ours": cross_modal_rnn(width), "theirs": fairseq_lstm(width)}
        sides = {
            side: speed(translating(Training([*options, *model]), data, length), cpu_clock)
            for side, model in models.items()
        }
        rounds = interleaved(sides, sizes.rounds)
        found.append(
            Row(
                question=f"fairseq-generate, beam {BEAM}, d = {width}",
                ours_name="cross_modal_rnn",
                theirs_name="fairseq lstm",
                unit="sentences/s",
                ours=rounds["ours"],
                theirs=rounds["theirs"],
                required=AT_LEAST.get(width),
            )
        )
    return found


def translating(training: Training, data: Path, length: int) -> Callable[[], int]:
    """A function that translates the test set and says how many sentences that were.

    Args:
        training: whose task and model.
        data: DATA.
        length: words of every translation.
    """
    parser = options.get_generation_parser()
    args = options.parse_args_and_arch(parser, input_args=generation_options(data, length))
    cfg = convert_namespace_to_omegaconf(args)
    task, models = training.task, [training.model.eval()]
    training.model.prepare_for_inference_(cfg)
    task.load_dataset("test")
    batches = list(
        task.get_batch_iterator(
            task.dataset("test"), max_sentences=BATCH, seed=cfg.common.seed
        ).next_epoch_itr(shuffle=False)
    )
    generator = task.build_generator(models, cfg.generation)

    def run() -> int:
        return sum(len(task.inference_step(generator, models, batch)) for batch in batches)

    return run


def generation_options(data: Path, length: int) -> List[str]:
    """The command line of fairseq-generate, as far as the generator reads it."""
    lengths = f"--min-len {length} --max-len-a 0 --max-len-b {length}"
    return [str(data), *shlex.split(f"--task translation --path none --beam {BEAM} {lengths}")]


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
