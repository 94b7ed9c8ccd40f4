"""The whole method on a small made-up corpus, with the commands that a user would type.

    python examples/quickstart/run.py

Every command is printed before it runs; type them yourself, from the repository's root, and the same
happens. A teacher learns from many sentence pairs, a student from the first of them and from the
teacher. The corpus is full of ambiguous nouns whose sense only the picture shows (make_corpus.py), so

- ``image``, a student with pictures, distilled from a teacher with pictures, can find the sense;
- ``wrong_image``, the same student given the pictures of other sentences, has to guess;
- ``text_only``, a student that has no pictures, distilled from a teacher that has none either, has to
  guess too. Its teacher must not see pictures: it would teach senses that this student cannot know.

With ``--pixels`` it shows something else, in DEMO/pixels: a CNN inside the translator, from random
weights, that has only the translations to learn from (pixel_steps.py). ``pixels`` is that model, and
``wrong_image`` the same with the pictures of other sentences. It takes a quarter of an hour.

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
from typing import List, Optional, Sequence

from pixel_steps import PIXEL_FULL, PIXEL_SMOKE, pixel_steps
from report import table
from steps import FULL, SMOKE, Step, steps

ROOT = Path(__file__).resolve().parents[2]
PIXELS = "pixels"
OTHERS = {PIXELS, "aligned", "walk"}
"""folders in DEMO of other demos: --pixels, aligned_attention.py and docs/walkthrough.md"""


class StepFailed(Exception):
    """A command failed; the message shows the end of what it said."""


class Runner:
    """Runs steps in the repository's root, with this Python's commands first on the path.

    After a step the file DEMO/done/STEP holds its command. A step is skipped while that file says
    the same, its outputs are there, and no step before it had to run.

    Args:
        demo: the demo's folder.

    Raises:
        ValueError: there are files in it that no demo has made; some could be overwritten.
    """

    def __init__(self, demo: Path):
        self._logs, self._done = demo / "logs", demo / "done"
        there = {path.name for path in demo.iterdir()} - OTHERS if demo.exists() else set()
        if there and "done" not in there:
            raise ValueError(
                f"{demo} has files that are not of a demo, such as {min(there)}: give an empty folder, or "
                "a new one"
            )
        for folder in (self._logs, self._done):
            folder.mkdir(parents=True, exist_ok=True)
        self._changed = False

    def forget(self) -> None:
        """Do every step again."""
        for stamp in self._done.iterdir():
            stamp.unlink()

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
    parser.add_argument(
        "--pixels",
        action="store_true",
        help="the CNN learns inside the translator, from random weights; in the subfolder pixels",
    )
    args = parser.parse_args(argv)
    demo = args.output.resolve() / PIXELS if args.pixels else args.output.resolve()
    shown = demo.relative_to(ROOT) if ROOT in demo.parents else demo
    make_steps, full, smoke = (
        (pixel_steps, PIXEL_FULL, PIXEL_SMOKE) if args.pixels else (steps, FULL, SMOKE)
    )
    start = time.monotonic()
    try:
        runner = Runner(demo)
        if args.fresh:
            runner.forget()
        for group in make_steps(shlex.quote(str(shown)), smoke if args.smoke else full, args.seed):
            runner.run(group)
    except (StepFailed, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    report = json.loads((demo / "report.json").read_text(encoding="utf-8"))
    print(f"\n{table(report)}\n")
    print(f"{shown}/report.json has these figures, {shown}/attention.png shows where it looked.")
    print(f"{time.monotonic() - start:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
