"""Runs steps, several at a time, and goes on where it was stopped.

WORK/steps/STEP.json says from what a step was begun, and whether it is finished: its command, the
hashes of what it reads, and the same of all steps before it. A step that was begun from something else
is never gone on with. Of a training it also says with which versions and on which device it was begun,
as half of it done with others would be a training of neither.
"""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Callable, Dict, List, Mapping, NamedTuple, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from step_commands import Step
from training_machine import machine_differences

from caf_dkd_plugin.whole_file import write_json

ROOT = Path(__file__).resolve().parents[2]
POLL = 0.2
"""seconds between two looks at what runs"""
NOTE = 30
"""seconds after which the time that a step has taken is written down again"""
SECONDS_TO_END = 10
"""for a command that was asked to end, before it is killed"""


class _Running(NamedTuple):
    process: subprocess.Popen
    started: float
    """time.monotonic()"""
    before: float
    """seconds that the step had taken in earlier calls"""
    machine: Optional[Mapping]
    """that it was begun on, if it goes on and this is known"""


class StepRunner:
    """The steps of a work folder.

    Args:
        folder: WORK.
        steps: all that are wanted, each after those that it needs.
        variables: of the commands; they run in the repository's root, with this Python's commands
            first on the path.
        jobs: how many commands run at a time.
        machine: the versions and the device that they run with, as in a model's JSON.
    """

    def __init__(
        self,
        folder: Path,
        steps: Sequence[Step],
        variables: Mapping[str, str],
        jobs: int,
        machine: Mapping[str, object],
    ):
        self.folder = folder
        self.machine = machine
        self.steps = {step.name: step for step in steps}
        self._jobs = jobs
        self._variables = {**variables, "PYTHONUNBUFFERED": "1"}
        self._running: Dict[str, _Running] = {}
        self.failed: List[str] = []
        """names of the steps that failed"""

    def log(self, name: str) -> Path:
        """What a step's command says."""
        return self.folder / "logs" / f"{name}.log"

    def identity(self, name: str) -> str:
        """Hash of all that a step's outputs depend on."""
        return hashlib.sha256(json.dumps(self._origin(name)).encode()).hexdigest()

    def is_finished(self, name: str) -> bool:
        """Whether its outputs are there, from the present settings."""
        record = self._record(name)
        if not record.get("finished") or _origin_of(record) != self._origin(name):
            return False
        return all((self.folder / output).exists() for output in self.steps[name].outputs)

    def seconds(self, name: str) -> float:
        """That a step has taken so far, over all calls."""
        running = self._running.get(name)
        if running:
            return running.before + time.monotonic() - running.started
        return self._record(name).get("seconds", 0.0)

    def begun_on(self, name: str) -> Mapping[str, object]:
        """The machine that a training was begun on; the present one where that was not written down."""
        return self._record(name).get("machine") or self.machine

    def running(self) -> List[str]:
        """Names of the steps that run now."""
        return list(self._running)

    def changed(self) -> Dict[str, str]:
        """Steps that were begun from something else, or half done on another machine -> what is
        otherwise."""
        found = {}
        for name in self.steps:
            record = self._record(name)
            if record and _origin_of(record) != self._origin(name):
                found[name] = _difference(_origin_of(record), self._origin(name))
            elif self._is_half_done(name):
                differences = machine_differences(self.begun_on(name), self.machine)
                if differences:
                    found[name] = ", ".join(differences)
        return found

    def forget(self, name: str) -> None:
        """Remove what an earlier call made in a step, to do it from the beginning."""
        for path in [*map(self.folder.joinpath, self.steps[name].outputs), self.log(name)]:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        self._record_path(name).unlink(missing_ok=True)

    def run(self, look: Callable[[], None], finished: Callable[[str], None]) -> None:
        """Run all that is not finished, and what was made from it. A step that fails takes those that
        need it along.

        Args:
            look: called several times a second.
            finished: called with the name of each step when it is finished.
        """
        waiting: List[str] = []
        for name, step in self.steps.items():
            if any(need in waiting for need in step.needs):
                self.forget(name)  # half of it may be done
                waiting.append(name)
            elif not self.is_finished(name):
                waiting.append(name)
        noted = time.monotonic()
        try:
            while waiting or self._running:
                for name in [name for name in waiting if self._is_ready(name, waiting)]:
                    if len(self._running) < self._jobs:
                        waiting.remove(name)
                        self._start(name)
                if not self._running:
                    break  # what still waits needs a step that failed
                time.sleep(POLL)
                for name in self._ended():
                    finished(name)
                if time.monotonic() - noted > NOTE:
                    noted = time.monotonic()
                    for name in self._running:
                        self._write_record(name, finished=False)
                look()
        finally:
            self._stop()

    def end_of_log(self, name: str) -> str:
        """Why a step failed, for people."""
        lines = self.log(name).read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join([*lines[-20:], f"\n{name} failed. All it said is in {self.log(name)}"])

    def _is_ready(self, name: str, waiting: Sequence[str]) -> bool:
        needs = self.steps[name].needs
        return not any(
            need in waiting or need in self._running or need in self.failed for need in needs
        )

    def _start(self, name: str) -> None:
        for output in self.steps[name].outputs:
            (self.folder / output).parent.mkdir(parents=True, exist_ok=True)
            mend_checkpoints(self.folder / output)
        before = self.seconds(name)
        machine = self.machine if self.steps[name].goes_on else None
        if self._is_half_done(name):
            machine = self._record(name).get("machine")
        for path in (self.log(name), self._record_path(name)):
            path.parent.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self._variables}
        environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        with open(self.log(name), "a", encoding="utf-8") as log:
            log.write(f"=== {datetime.now():%Y-%m-%d %H:%M:%S} {name}\n")
            log.flush()
            process = subprocess.Popen(
                ["sh", "-e", "-c", _replacing_the_shell(self.steps[name].command)],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent if sys.platform == "linux" else None,
            )
        self._running[name] = _Running(process, time.monotonic(), before, machine)
        self._write_record(name, finished=False)

    def _ended(self) -> List[str]:
        """Take note of the commands that have ended: the steps that are finished."""
        found = []
        for name, running in list(self._running.items()):
            code = running.process.poll()
            if code is None:
                continue
            self._write_record(name, finished=code == 0)
            del self._running[name]
            (found if code == 0 else self.failed).append(name)
        return found

    def _stop(self) -> None:
        """End what runs, and everything that it has started."""
        for running in self._running.values():
            os.killpg(running.process.pid, signal.SIGTERM)
        for name, running in list(self._running.items()):
            try:
                running.process.wait(SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                os.killpg(running.process.pid, signal.SIGKILL)
                running.process.wait()
            self._write_record(name, finished=False)
            del self._running[name]

    def _is_half_done(self, name: str) -> bool:
        """Whether a step goes on from what an earlier call has left."""
        step, record = self.steps[name], self._record(name)
        if not step.goes_on or not record or record.get("finished"):
            return False
        return any(
            path.is_file() for out in step.outputs for path in (self.folder / out).rglob("*")
        )

    def _origin(self, name: str) -> Dict[str, object]:
        step = self.steps[name]
        needs = {need: self.identity(need) for need in step.needs}
        return {"command": step.command, "facts": step.facts, "needs": needs}

    def _record_path(self, name: str) -> Path:
        return self.folder / "steps" / f"{name}.json"

    def _record(self, name: str) -> Dict[str, object]:
        try:
            return json.loads(self._record_path(name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}

    def _write_record(self, name: str, finished: bool) -> None:
        seconds = round(self.seconds(name), 1)
        record = {**self._origin(name), "finished": finished, "seconds": seconds}
        machine = self._running[name].machine
        if machine:
            record["machine"] = machine
        write_json(self._record_path(name), record)


def mend_checkpoints(folder: Path) -> None:
    """Replace a checkpoint_last.pt that fairseq was killed at copying by the newest whole checkpoint.

    fairseq writes one file and copies it: the copies are not whole until they are done. Without any
    whole checkpoint the training begins anew.

    Args:
        folder: with checkpoints; nothing is done where there are none.
    """
    broken = [path for path in folder.glob("checkpoint*.pt") if not zipfile.is_zipfile(path)]
    for path in broken:
        path.unlink()
    last = folder / "checkpoint_last.pt"
    whole = sorted(folder.glob("checkpoint*.pt"), key=lambda path: path.stat().st_mtime)
    if last in broken and whole:
        partial = Path(f"{last}.partial")
        shutil.copyfile(whole[-1], partial)
        os.replace(partial, last)


def command_difference(before: str, now: str) -> str:
    """In words; nothing where they are alike but for spaces."""
    old, new = ([" ".join(line.split()) for line in _lines(one)] for one in (before, now))
    gone = [line for line in old if line not in new]
    come = [line for line in new if line not in old]
    if gone or come:
        return f"{', '.join(gone) or 'nothing'} became {', '.join(come) or 'nothing'}"
    return "its options come in another order" if old != new else ""


def _origin_of(record: Mapping[str, object]) -> Dict[str, object]:
    return {key: record.get(key) for key in ("command", "facts", "needs")}


def _difference(before: Mapping, now: Mapping) -> str:
    """In words."""
    parts = [part for part in [command_difference(before["command"], now["command"])] if part]
    for what, kind in (("facts", "other"), ("needs", "made after another")):
        both = {**before[what], **now[what]}
        unequal = [name for name in both if before[what].get(name) != now[what].get(name)]
        if unequal:
            parts.append(f"{kind} {', '.join(unequal)}")
    return "; ".join(parts)


def _lines(command: str) -> List[str]:
    return [line.rstrip("\\ ") for line in command.splitlines()]


def _replacing_the_shell(command: str) -> str:
    """So that a signal to the process reaches the program."""
    return command if "\n" in command.replace("\\\n", "") else f"exec {command}"


if sys.platform == "linux":
    _LIBC = ctypes.CDLL(None)
    _PR_SET_PDEATHSIG = 1


def _end_with_parent() -> None:
    """Let Linux end the command when this program is killed: it would go on beside the next one."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
