"""Measuring several sides in turn, so that whatever disturbs the machine disturbs them alike."""

import gc
import time
from typing import Any, Callable, Dict, List

import torch

Side = Callable[[], float]
"""does the work of one round and says how it went: words a second, seconds, megabytes"""


def cpu_clock() -> float:
    """Seconds that this process has computed, whatever else runs on the machine."""
    return time.process_time()


def wall_clock() -> float:
    """Seconds on the clock on the wall, after what the GPU has been given to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def speed(work: Callable[[], float], clock: Callable[[], float]) -> Side:
    """A side that measures how much of something is done in a second.

    Args:
        work: does it, and says how much it was.
        clock: gives seconds.
    """

    def measured() -> float:
        started = clock()
        done = work()
        return done / (clock() - started)

    return measured


def interleaved(sides: Dict[Any, Side], rounds: int, warm_up: int = 1) -> Dict[Any, List[float]]:
    """What each side says of each round.

    In every other round the sides go in the opposite order, so that none is always the one that
    finds the caches as another has left them.

    Args:
        sides: by name.
        rounds: that count.
        warm_up: rounds before them that do not.
    """
    found: Dict[Any, List[float]] = {name: [] for name in sides}
    names = list(sides)
    for number in range(-warm_up, rounds):
        for name in names if number % 2 == 0 else reversed(names):
            gc.collect()
            said = sides[name]()
            if number >= 0:
                found[name].append(said)
    return found
