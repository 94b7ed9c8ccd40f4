"""The paper's experiment on Multi30k: sizes x arms x seeds, trained, scored and compared.

    python examples/multi30k/experiment.py --root $MULTI30K_ROOT --image-h5 images.h5

Every size of the training set is translated by students of four arms: ``text``, ``image`` (looks at
images), ``kd`` (distilled from a teacher), ``caf-dkd`` (both); where all pairs are the student's, of the
first two. All see the same lines in the same subwords. Those with images go on from the student of the
same seed without (--init-from), which is trained for them.

Four more arms, trained if --arms names them, have extra source text, which the teachers translate:
``kd-substituted`` and ``kd-untranslated`` are distilled also on these synthetic pairs,
``text-substituted`` and ``text-untranslated`` learn from the same pairs without a teacher's
probabilities. ``substituted`` is text made of the size's own sources with words of the whole training
set's sources in the place of their own (preprocess/substitute_words.py); ``untranslated`` are the
sources of all training lines that the size does not have. No student sees the translations of these;
the teachers may have learned from them.

``lstm``, also only if --arms names it, is fairseq's own architecture beside the arm ``text``.

So are the arms of Align-to-Distill: ``a2d`` learns where its teachers look, and nothing else of them;
``kd-a2d`` also what they would translate, and ``caf-dkd-a2d`` looks at images besides. These ask the
live teachers. ``transformer``, ``transformer-kd``, ``transformer-a2d`` and ``transformer-kd-a2d`` are
text, kd, a2d and kd-a2d with a Transformer for a student, for which ``--teachers transformer-teacher``
has all kinds of attention.

The settings are in configs/: SIZE.options for distilled students, SIZE-undistilled.options for the
others; image.options and going-on.options, substituted.options and untranslated.options for what
students with these have besides, aligned.options for those with alignment, and aligned-alone.options
for those that nothing else teaches; transformer-*.options the same for Transformers;
lstm-SIZE.options; teacher.options. Of a flag that is there twice the last holds. A teacher looks at
images if and only if its option file has --image-missing.

Stopped at any moment and started again, it goes on where it was. Into WORK go data, checkpoints and logs;
into --results one JSON a model, and what is significant between the arms (comparisons.json);
tabulate_results.py makes the table and the plots of them. Several experiments, each with a WORK of its
own, may share a folder of results, as long as they have no model of the same name with other settings.
"""

import argparse
import os
import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Optional, Sequence

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[2] / "caf_dkd_plugin" / "quiet_start.py"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "preprocess"))

from experiment_grid import ARMS, SIZES, VOCABULARY
from experiment_inputs import ExperimentError, Inputs, PreparationError, read_inputs
from experiment_progress import Progress, duration
from option_files import CONFIGS
from run_results import Results, present_machine
from smoke_root import write_smoke_root
from step_commands import SOURCE, TARGET
from step_runner import StepRunner
from substitute_words import COPIES

from caf_dkd_plugin.command_line import positive
from caf_dkd_plugin.data.one_writer import OneWriter, OtherWriterError
from caf_dkd_plugin.problems import print_problems

WORK = Path("multi30k/experiment")
SMOKE_WORK = Path("multi30k/smoke")
SMOKE_COPIES = 2


def run(args: argparse.Namespace) -> int:
    """Do what the command line says; the exit code.

    Raises:
        ExperimentError, PreparationError, OtherWriterError: why it cannot start.
    """
    if args.smoke:
        write_smoke_root(args.root, args.work / "root", SOURCE, TARGET)
        args.root = args.work / "root"
    inputs = read_inputs(args)
    for note in inputs.notes:
        print(f"note: {note}")
    threads = os.environ.get("OMP_NUM_THREADS")
    if args.jobs > 1:
        threads = threads or str(max(1, (os.cpu_count() or 1) // args.jobs))
    variables = _variables(args)
    runner = StepRunner(
        args.work,
        inputs.grid.steps(),
        {**variables, **({"OMP_NUM_THREADS": threads} if threads else {})},
        args.jobs,
        present_machine(threads),
    )
    if args.dry_run:
        _show(inputs, runner, variables)
        return 0
    args.work.mkdir(parents=True, exist_ok=True)
    lock = OneWriter(args.work / "experiment")
    try:
        results = Results(args.results, inputs, runner)
        _check_same(runner, results, args.redo)
        return _run(args, inputs, runner, results)
    finally:
        lock.release()


def _run(args: argparse.Namespace, inputs: Inputs, runner: StepRunner, results: Results) -> int:
    start = time.monotonic()
    progress = Progress(inputs.grid, runner, inputs.pairs, args.jobs)
    models = {name: m for m in inputs.grid.models for name in m.steps(list(inputs.grid.test_sets))}

    def finished(name: str) -> None:
        progress.say(f"{name}: finished after {duration(runner.seconds(name))}")
        model = models.get(name)
        if model and results.is_complete(model) and not results.is_written(model):
            scores = results.write(model)["scores"]
            bleu = ", ".join(f"{test} {s['bleu']['value']:.2f}" for test, s in scores.items())
            progress.say(f"{model.name}: BLEU {bleu}; {results.path(model)}")

    progress.say(progress.lines()[-1])
    runner.run(progress.look, finished)
    for model in inputs.grid.models:  # whose JSON is gone, or was not written before it was stopped
        if results.is_complete(model) and not results.is_written(model):
            results.write(model)
    results.compare()
    progress.say(f"results are in {args.results}; {duration(time.monotonic() - start)} in all")
    for name in runner.failed:
        print(f"\n{runner.end_of_log(name)}", file=sys.stderr)
    return 1 if runner.failed else 0


def _variables(args: argparse.Namespace) -> dict:
    """What the commands call the paths of this machine."""
    stores = [str(Path(path).resolve()) for path in (args.image_h5 or "").split(":") if path]
    return {
        "MULTI30K_ROOT": str(args.root.resolve()),
        "IMAGE_H5": ":".join(stores),
        "WORK": str(args.work.resolve()),
    }


def _show(inputs: Inputs, runner: StepRunner, variables: dict) -> None:
    """Print every command, to be typed in the repository's root."""
    for name, value in variables.items():
        print(f'export {name}="{value}"')
    outputs = [Path(output) for step in runner.steps.values() for output in step.outputs]
    folders = dict.fromkeys(f'"$WORK/{output.parent}"' for output in outputs)
    print(f"mkdir -p {' '.join(folders)}")
    for name, step in runner.steps.items():
        state = " (finished)" if runner.is_finished(name) else ""
        print(f"\n# {name}{state}\n{step.command}")


def _check_same(runner: StepRunner, results: Results, redo: bool) -> None:
    """Refuse or remove what was begun with other settings; refuse to write over such results."""
    changed, problems = runner.changed(), []
    if changed:
        own = [
            f"{name} was begun from something else: {difference}"
            for name, difference in changed.items()
            if not difference.startswith("made after another")
        ]
        follow = len(changed) - len(own)
        problems += [*own, *([f"{follow} steps follow from these"] if follow else [])]
        problems.append(
            "Give another folder as --work, or --redo to do these again from the beginning."
        )
    other = results.other_settings()
    if other:
        problems += [*other, "Give another folder as --results, or --redo to replace these."]
    if problems and not redo:
        raise ExperimentError(problems)
    for name in changed:
        runner.forget(name)


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add = parser.add_argument
    add(
        "--root", metavar="DIR", type=Path, required=True, help="Multi30k, with its subsets/ if any"
    )
    add("--image-h5", metavar="FILE[:FILE...]", help="image store; only text arms go without")
    add(
        "--work",
        metavar="DIR",
        type=Path,
        help=f"what is made (default: {WORK}; with --smoke {SMOKE_WORK})",
    )
    add(
        "--results",
        metavar="DIR",
        type=Path,
        help="the JSONs (default: WORK/results)",
    )
    add("--sizes", nargs="+", choices=SIZES, help="of the training set (default: all)")
    add(
        "--arms",
        nargs="+",
        choices=ARMS,
        help="default: text, image, kd and caf-dkd; at the full size text and image",
    )
    add("--seeds", nargs="+", type=int, help="default: 1 2 3 at 1k and 5k, 1 at 10k and full")
    add(
        "--teachers",
        metavar="NAME[:SEED]",
        nargs="+",
        default=["teacher"],
        help="option files NAME.options; several are averaged in probability (default: teacher:1)",
    )
    add(
        "--teacher-subset",
        choices=("all", "rest", *(f"without-{size}" for size in SIZES if size != "full")),
        default="all",
        help="lines that teachers learn from: all, those that the biggest student they teach does not "
        "have, or those that are not in a size",
    )
    add(
        "--copies",
        type=positive,
        help="of each sentence, with other words, for arms with substituted sources (default: "
        f"{COPIES}; with --smoke {SMOKE_COPIES})",
    )
    add("--vocab-size", type=positive, default=VOCABULARY, help=f"pieces (default: {VOCABULARY})")
    add(
        "--bf16",
        action="store_true",
        help="train in bfloat16, which pays on a GPU or a CPU that computes in it; not the arm lstm",
    )
    add("--configs", metavar="DIR", type=Path, default=CONFIGS, help="folder of the option files")
    add(
        "--jobs",
        type=positive,
        default=1,
        help="trainings at a time, which share the cores (OMP_NUM_THREADS, if it is not set)",
    )
    add(
        "--redo",
        action="store_true",
        help="do again what was begun with other settings, and replace its results",
    )
    add("--dry-run", action="store_true", help="only print the commands")
    add(
        "--smoke",
        action="store_true",
        help="200 pairs, hardly any training: only shows that everything runs",
    )
    args = parser.parse_args(argv)
    if args.smoke:
        args.sizes = args.sizes or ["1k"]
        args.seeds = args.seeds or [1]
    args.work = args.work or (SMOKE_WORK if args.smoke else WORK)
    args.sizes = args.sizes or list(SIZES)
    args.copies = args.copies or (SMOKE_COPIES if args.smoke else COPIES)
    args.results = args.results or args.work / "results"
    return args


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    args = parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return run(args)
    except (ExperimentError, PreparationError) as error:
        print_problems(error)
        return 1
    except OtherWriterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
