"""The whole method on a small made-up corpus, with the commands that a user would type.

    python examples/quickstart/run.py

Every command is printed before it runs; type them yourself, from the repository's root, and the same
happens. A teacher learns from many sentence pairs, a student from the first of them and from the
teacher. The corpus is full of ambiguous nouns whose sense only the picture shows (make_corpus.py), so

- ``image``, a student with pictures, distilled from a teacher with pictures, can find the sense;
- ``wrong_image``, the same student given the pictures of other sentences, has to guess;
- ``text_only``, a student that has no pictures, distilled from a teacher that has none either, has to
  guess too. Its teacher must not see pictures: it would teach senses that this student cannot know.

Independent steps run at the same time. The second time, steps whose command has not changed are skipped.
"""

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

from report import table

ROOT = Path(__file__).resolve().parents[2]
HERE = "examples/quickstart"


class Size(NamedTuple):
    """How big the demo is."""

    train: int
    """sentence pairs of the teacher"""
    student: int
    """of them, the first ones are the student's"""
    test: int
    """sentences to translate"""
    cnn_steps: int
    """batches that the CNN learns from"""
    teacher_updates: int
    student_updates: int


FULL = Size(2400, student=1000, test=400, cnn_steps=140, teacher_updates=1000, student_updates=1200)
SMOKE = Size(240, student=120, test=48, cnn_steps=4, teacher_updates=8, student_updates=8)


class Step(NamedTuple):
    """A command line and the files or folders that it makes."""

    title: str
    command: str
    outputs: List[str]

    @property
    def name(self) -> str:
        """For file names."""
        return self.title.split(":")[0].replace(" ", "_")


TRAINING = """\
    --user-dir caf_dkd_plugin --task multimodal_translation --source-lang en --target-lang de \\
    --arch cross_modal_rnn_tiny --share-all-embeddings --dropout 0.1 --embed-dropout 0.1 \\
    --optimizer adam --adam-betas '(0.9, 0.98)' --clip-norm 1 --label-smoothing 0.1 \\
    --lr-scheduler polynomial_decay --lr 3e-3 --warmup-updates {warmup} \\
    --total-num-update {updates} --max-update {updates} \\
    --no-epoch-checkpoints --num-workers 0 --log-format simple --seed {seed}"""


def training(updates: int, seed: int) -> str:
    """What all trainings have in common."""
    return TRAINING.format(updates=updates, warmup=min(200, updates // 2), seed=seed)


def steps(demo: str, size: Size, seed: int) -> List[List[Step]]:
    """All steps, in groups that can run at the same time; `demo` is the folder, for the shell."""
    text, store = f"{demo}/corpus/text", f"{demo}/images.h5"
    many, few = f"{demo}/data/teacher", f"{demo}/data/student"
    images = f"--image-h5 {store} --fusion-normalize-image"

    preparation = [
        Step(
            "corpus: sentences with ambiguous nouns, and pictures",
            f"python {HERE}/make_corpus.py --output {demo}/corpus \\\n"
            f"    --train {size.train} --valid 200 --test {size.test} --seed {seed}",
            [f"{demo}/corpus"],
        ),
        Step(
            "subwords: sentencepiece, learned from the training text",
            f"python {HERE}/subwords.py --text {text} --output {demo}/pieces \\\n"
            f"    --vocab-size 500 --student {size.student}",
            [f"{demo}/pieces"],
        ),
        Step(
            "data of the teacher: all pairs, one dictionary for both languages",
            f"fairseq-preprocess --source-lang en --target-lang de --joined-dictionary \\\n"
            f"    --trainpref {demo}/pieces/train --validpref {demo}/pieces/valid \\\n"
            f"    --destdir {many}\n"
            f"cp {text}/train.images {text}/valid.images {many}",
            [many],
        ),
        Step(
            f"data of the student: {size.student} pairs, the teacher's dictionary, two test sets",
            f"fairseq-preprocess --source-lang en --target-lang de --joined-dictionary \\\n"
            f"    --srcdict {many}/dict.en.txt \\\n"
            f"    --trainpref {demo}/pieces/student --validpref {demo}/pieces/valid \\\n"
            f"    --testpref {demo}/pieces/test,{demo}/pieces/test --destdir {few}\n"
            f"head -n {size.student} {text}/train.images > {few}/train.images\n"
            f"cp {text}/valid.images {text}/test.images {few}\n"
            f"python {HERE}/wrong_images.py --text {text} --output {few}/test1.images",
            [few],
        ),
        Step(
            "cnn: pretraining on other drawings, as ImageNet is for photographs",
            f"python {HERE}/pretrain_cnn.py --output {demo}/cnn.pt \\\n"
            f"    --steps {size.cnn_steps} --seed {seed}",
            [f"{demo}/cnn.pt"],
        ),
        Step(
            "features: 4 x 4 regions of 512 numbers for every picture",
            f"python preprocess/extract_features.py --images {demo}/corpus/images \\\n"
            f"    --output {store} --backbone resnet18 --weights {demo}/cnn.pt \\\n"
            f"    --layer grid --image-size 128 --overwrite",
            [store],
        ),
        Step(
            "check: do texts, lists of images and features fit together?",
            f"python preprocess/check_data.py {many} --image-h5 {store}\n"
            f"python preprocess/check_data.py {few} --image-h5 {store}",
            [],
        ),
    ]
    arms = {"text_only": "", "image": f" \\\n    {images}"}
    teachers = [
        Step(
            f"teacher {arm}: {size.train} pairs",
            f"fairseq-train {many} --save-dir {demo}/models/teacher_{arm} \\\n"
            f"{training(size.teacher_updates, seed)} --batch-size 32 \\\n"
            f"    --criterion label_smoothed_cross_entropy{looks}",
            [f"{demo}/models/teacher_{arm}"],
        )
        for arm, looks in arms.items()
    ]
    students = [
        Step(
            f"student {arm}: {size.student} pairs and the teacher",
            f"fairseq-train {few} --save-dir {demo}/models/student_{arm} \\\n"
            f"{training(size.student_updates, seed)} --batch-size 16 \\\n"
            f"    --criterion kd_label_smoothed_cross_entropy --kd-lambda 0.3 --kd-temperature 2 \\\n"
            f"    --teacher-path {demo}/models/teacher_{arm}/checkpoint_best.pt{looks}",
            [f"{demo}/models/student_{arm}"],
        )
        for arm, looks in arms.items()
    ]
    translations = [
        Step(
            f"translation {arm}: beam search over the {size.test} test sentences",
            f"mkdir -p {demo}/translations\n"
            f"fairseq-generate {few} --user-dir caf_dkd_plugin --task multimodal_translation \\\n"
            f"    --source-lang en --target-lang de {options} \\\n"
            f"    --path {demo}/models/student_{student}/checkpoint_best.pt \\\n"
            f"    --beam 5 --batch-size 100 --max-len-b 40 --remove-bpe sentencepiece \\\n"
            f"    > {demo}/translations/{arm}.txt",
            [f"{demo}/translations/{arm}.txt"],
        )
        for arm, student, options in (
            ("text_only", "text_only", "--gen-subset test"),
            ("image", "image", f"--gen-subset test --image-h5 {store}"),
            ("wrong_image", "image", f"--gen-subset test1 --image-h5 {store}"),
        )
    ]
    report = Step(
        "report: sacreBLEU, right senses, attention",
        f"python {HERE}/report.py --text {text} --translations {demo}/translations \\\n"
        f"    --output {demo} --checkpoint {demo}/models/student_image/checkpoint_best.pt \\\n"
        f"    --data {few} --images {demo}/corpus/images --image-h5 {store}",
        [f"{demo}/report.json", f"{demo}/attention.png"],
    )
    return [*([step] for step in preparation), teachers, students, translations, [report]]


class StepFailed(Exception):
    """A command failed; the message shows the end of what it said."""


class Runner:
    """Runs steps in the repository's root, with this Python's commands first on the path.

    After a step the file DEMO/done/STEP holds its command. A step is skipped while that file says
    the same, its outputs are there, and no step before it had to run.

    Args:
        demo: the demo's folder.
    """

    def __init__(self, demo: Path):
        self._logs, self._done = demo / "logs", demo / "done"
        for folder in (self._logs, self._done):
            folder.mkdir(parents=True, exist_ok=True)
        self._changed = False

    def run(self, group: Sequence[Step]) -> None:
        """Run the steps of a group that are not done, at the same time.

        Raises:
            StepFailed: a command failed.
        """
        todo = [step for step in group if self._changed or not self._is_done(step)]
        start = time.monotonic()
        running = {}
        for step in group:
            print(f"\n=== {step.title}\n{step.command}", flush=True)
            if step in todo:
                running[step.name] = self._start(step, together=len(todo))
        failed = [name for name, process in running.items() if process.wait()]
        if failed:
            raise StepFailed("\n\n".join(self._explain(name) for name in failed))
        for step in todo:
            self._stamp(step).write_text(step.command, encoding="utf-8")
        self._changed = self._changed or bool(todo)
        print(f"--- {time.monotonic() - start:.0f} s" if todo else "--- already done", flush=True)

    def _stamp(self, step: Step) -> Path:
        return self._done / step.name

    def _is_done(self, step: Step) -> bool:
        stamp = self._stamp(step)
        same = stamp.exists() and stamp.read_text(encoding="utf-8") == step.command
        return same and all(path.exists() for path in _paths(step))

    def _start(self, step: Step, together: int) -> subprocess.Popen:
        self._stamp(step).unlink(missing_ok=True)
        for path in _paths(step):
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        threads = max(1, (os.cpu_count() or 1) // together)
        environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with open(self._logs / f"{step.name}.log", "w") as log:
            return subprocess.Popen(
                ["sh", "-e", "-c", step.command],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def _explain(self, name: str) -> str:
        log = self._logs / f"{name}.log"
        end = log.read_text(encoding="utf-8", errors="replace").splitlines()[-20:]
        return "\n".join([*end, f"\nThe step {name} failed. All it said is in {log}"])


def _paths(step: Step) -> List[Path]:
    return [ROOT / shlex.split(path)[0] for path in step.outputs]


def main(argv: Optional[Sequence[str]] = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("demo"), help="folder to write into")
    parser.add_argument("--fresh", action="store_true", help="do every step again")
    parser.add_argument("--seed", type=int, default=1, help="of corpus, CNN and models")
    parser.add_argument(
        "--smoke", action="store_true", help="hardly any training: only shows that all commands run"
    )
    args = parser.parse_args(argv)
    demo = args.output.resolve()
    shown = demo.relative_to(ROOT) if ROOT in demo.parents else demo
    if args.fresh:
        shutil.rmtree(demo / "done", ignore_errors=True)
    start = time.monotonic()
    runner = Runner(demo)
    try:
        for group in steps(shlex.quote(str(shown)), SMOKE if args.smoke else FULL, args.seed):
            runner.run(group)
    except StepFailed as error:
        print(error, file=sys.stderr)
        return 1
    report = json.loads((demo / "report.json").read_text(encoding="utf-8"))
    print(f"\n{table(report)}\n")
    print(f"{shown}/report.json has these figures, {shown}/attention.png shows where it looked.")
    print(f"{time.monotonic() - start:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
