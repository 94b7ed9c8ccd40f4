"""How far the grid is: one line for each step that runs, one for all, and when it will be done."""

import shutil
import sys
import time
from typing import Dict, List, NamedTuple, Optional, TextIO

from experiment_grid import Grid, Model
from option_files import value_of
from step_runner import StepRunner
from training_log import TrainingLog, read_training_log

INTERVAL = 1
"""seconds between two pictures on a terminal"""
QUIET_INTERVAL = 60
"""the same where the output is no terminal"""


class Work(NamedTuple):
    """A training, as the estimate sees it."""

    kind: str
    """trainings of one kind take as long for a sentence: SIZE_ARM"""
    sentences: float
    """pairs times epochs, of all of it"""
    done: float
    """the share that is done, 0 to 1"""
    seconds: float
    """that this took"""

    @property
    def rate(self) -> float:
        """Seconds for a sentence."""
        return self.seconds / (self.done * self.sentences)


def seconds_left(works: List[Work], jobs: int) -> Optional[float]:
    """Until all trainings are done, by the speed of what is done of them; None while none is known.

    A kind of which nothing is done yet is taken to be as fast as the mean of the others.
    """
    known = [work for work in works if work.done and work.seconds]
    if not known:
        return None
    left = 0.0
    for work in works:
        similar = [one for one in known if one.kind == work.kind] or known
        rate = sum(one.rate for one in similar) / len(similar)
        left += (1 - work.done) * work.sentences * rate
    return left / jobs


def duration(seconds: Optional[float]) -> str:
    """For people: 5:07, 1:05:07, or ? where it is not known."""
    if seconds is None:
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Progress:
    """Shows a grid while it runs.

    Args:
        grid: what is done.
        runner: what does it.
        pairs: size -> pairs of the training set.
        jobs: how many run at a time.
        out: a terminal, on which the lines stand still, or a file, which gets some each minute.
    """

    def __init__(
        self,
        grid: Grid,
        runner: StepRunner,
        pairs: Dict[str, int],
        jobs: int,
        out: Optional[TextIO] = None,
    ):
        self._models = {model.training: model for model in grid.models}
        self._runner, self._pairs, self._jobs = runner, pairs, jobs
        self._out = out or sys.stdout
        self._grid = grid
        self._drawn = 0
        self._next = 0.0

    def look(self) -> None:
        """Show how it stands, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        terminal = self._out.isatty()
        self._next = now + (INTERVAL if terminal else QUIET_INTERVAL)
        lines = self.lines()
        if terminal:
            self._erase()
            width = shutil.get_terminal_size().columns - 1
            lines = [line[:width] for line in lines]
            self._drawn = len(lines)
        self._write(lines)

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._erase()
        self._write([line])
        self._next = 0.0

    def lines(self) -> List[str]:
        """How it stands."""
        found = [self._line(name) for name in self._runner.running()]
        steps = self._runner.steps
        done = sum(self._runner.is_finished(name) for name in steps)
        left = seconds_left([self._work(model) for model in self._models.values()], self._jobs)
        trained = sum(self._runner.is_finished(name) for name in self._models)
        found.append(
            f"all: {trained} of {len(self._models)} trainings, {done} of {len(steps)} steps; "
            f"{duration(left)} of training left"
        )
        return found

    def _line(self, name: str) -> str:
        elapsed = self._runner.seconds(name)
        if name not in self._models:
            return f"{name}: {duration(elapsed)}"
        model = self._models[name]
        log, epochs = self._log(model), max_epoch(model)
        share = log.epochs / epochs
        left = elapsed * (1 - share) / share if share else None
        bleu = "-" if log.best_bleu is None else f"{log.best_bleu:.2f} (epoch {log.best_epoch})"
        return (
            f"{name}: epoch {log.epochs:.1f} of {epochs}, best BLEU on {first_subset(model)} {bleu}, "
            f"{duration(elapsed)}, {duration(left)} left"
        )

    def _log(self, model: Model) -> TrainingLog:
        return read_training_log(self._runner.log(model.training), first_subset(model))

    def _work(self, model: Model) -> Work:
        if self._runner.is_finished(model.training):
            done = 1.0  # also when --patience ended it early
        else:
            done = min(1.0, self._log(model).epochs / max_epoch(model))
        return Work(
            f"{model.size}_{model.arm}",
            self._pairs_of(model) * max_epoch(model),
            done,
            self._runner.seconds(model.training),
        )

    def _pairs_of(self, model: Model) -> int:
        """In an epoch. What is to be translated yet counts with all that it can become."""
        own, extra = self._pairs[model.size], model.extra
        if extra is None:
            return own
        made = extra.pairs_made(self._runner.folder)
        most = extra.most_pairs(own, self._grid.lines, self._grid.copies)
        return own + (most if made is None else made)

    def _erase(self) -> None:
        if self._drawn:
            self._out.write(f"\x1b[{self._drawn}F\x1b[J")
            self._drawn = 0

    def _write(self, lines: List[str]) -> None:
        self._out.write("".join(f"{line}\n" for line in lines))
        self._out.flush()


def max_epoch(model: Model) -> int:
    """At which its training ends."""
    return int(value_of(model.options, "--max-epoch"))


def first_subset(model: Model) -> str:
    """fairseq's name of the split by which checkpoints are chosen."""
    return (value_of(model.options, "--valid-subset") or "valid").split(",")[0]
