"""Does a student learn where its teacher looks? In the quickstart's pictures the right place is known.

    python examples/quickstart/aligned_attention.py

A teacher, a Transformer, learns from many sentence pairs. Students have the first few of them: with each
seed one learns from the teacher's probabilities, and one also from its attention to the pictures
(--a2d-families fusion), all else equal. attention_mass.py then measures how much of the attention of the
ambiguous noun lies on the object that decides its sense.

Every command is printed before it runs, one after the other: ten minutes on one core. The second time,
steps whose command has not changed are skipped.
"""

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import List, Optional, Sequence

from attention_mass import table
from run import ROOT, Runner, StepFailed
from steps import (
    FULL,
    HERE,
    SMOKE,
    Size,
    Step,
    distillation,
    looking,
    preparation,
    training,
    translation,
)

ALIGNED_FULL = FULL._replace(student=300, student_updates=600)
TEACHER = "teacher_transformer"
SEED = 1
"""of corpus, CNN and teacher"""
ARMS = {"distilled": "", "aligned": " --a2d-families fusion"}
"""of the students, and what the training of each has besides"""


def aligned_steps(demo: str, size: Size, seeds: Sequence[int]) -> List[Step]:
    """All steps, one after the other; `demo` is the folder, for the shell, `seeds` the students'."""
    images = looking(demo)
    common = training(size.teacher_updates, SEED, "1e-3", "cross_modal_transformer_tiny")
    teacher = Step(
        f"teacher transformer: {size.train} pairs",
        f"fairseq-train {demo}/data/teacher --save-dir {demo}/models/{TEACHER} \\\n"
        f"{common} --batch-size 32 \\\n"
        f"    --criterion label_smoothed_cross_entropy{images}",
        [f"{demo}/models/{TEACHER}"],
    )
    students = [
        distillation(demo, size, f"{arm}_{seed}", TEACHER, f"{images}{aligned}", seed)
        for seed in seeds
        for arm, aligned in ARMS.items()
    ]
    models = {arm: [f"student_{arm}_{seed}" for seed in seeds] for arm in ARMS}
    looks = f"--gen-subset test --image-h5 {demo}/images.h5"
    translations = [
        translation(demo, f"{demo}/data/student", size.test, model, model, looks)
        for model in (TEACHER, *models["distilled"], *models["aligned"])
    ]
    report = Step(
        "report: how much attention lies on the deciding object",
        f"python {HERE}/attention_mass.py --demo {demo} --teacher {TEACHER} \\\n"
        f"    --distilled {' '.join(models['distilled'])} \\\n"
        f"    --aligned {' '.join(models['aligned'])}",
        [f"{demo}/report.json"],
    )
    return [*preparation(demo, size, SEED), teacher, *students, *translations, report]


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line; `size` is among what it gives."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add(
        "--output",
        type=Path,
        default=Path("demo/aligned"),
        help="folder to write into (default: %(default)s)",
    )
    add(
        "--pairs",
        type=int,
        help=f"sentence pairs of the students (default: {ALIGNED_FULL.student}); the teacher has "
        f"{ALIGNED_FULL.train}",
    )
    add(
        "--seeds",
        type=int,
        nargs="+",
        default=[1, 2, 3],
        help="of the students (default: 1 2 3)",
    )
    add(
        "--smoke", action="store_true", help="hardly any training: only shows that all commands run"
    )
    args = parser.parse_args(argv)
    size = SMOKE if args.smoke else ALIGNED_FULL
    args.size = size if args.pairs is None else size._replace(student=args.pairs)
    problems = []
    if not 1 <= args.size.student <= size.train:
        problems.append(f"--pairs {args.pairs}: there are 1 to {size.train}, those of the teacher")
    if len(set(args.seeds)) < len(args.seeds):
        problems.append(f"--seeds {' '.join(map(str, args.seeds))} has a seed twice")
    if args.output.exists() and not args.output.is_dir():
        problems.append(f"--output {args.output} is no folder")
    if problems:
        parser.error("\n".join(problems))
    return args


def main(argv: Optional[Sequence[str]] = None) -> int:
    args = parse_args(argv)
    demo = args.output.resolve()
    shown = demo.relative_to(ROOT) if ROOT in demo.parents else demo
    start = time.monotonic()
    try:
        runner = Runner(demo)
        for step in aligned_steps(shlex.quote(str(shown)), args.size, args.seeds):
            runner.run([step])
    except (StepFailed, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    report = json.loads((demo / "report.json").read_text(encoding="utf-8"))
    print(f"\n{table(report)}\n")
    print(f"{shown}/report.json has these figures and those of every model.")
    print(f"{time.monotonic() - start:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
