"""How much longer `fairseq-train --help` takes with the plugin.

    python benchmarks/start_up.py [--quick] [--json FILE]

It is the time that a user waits before any command says something.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Callable

if __name__ == "__main__":
    import start  # noqa: F401

from places import PLUGIN
from program import options_of, run_program
from rounds import interleaved
from rows import Bound, Found, Required, Row
from sizes import Sizes

AT_MOST_MORE = Required(Bound.AT_MOST_MORE, 0.5)
ROUNDS = 3
"""at most: nothing here depends on the data"""


def measure(sizes: Sizes, scratch: Path) -> Found:
    """One row, of processor time."""
    plugin = ["--user-dir", str(PLUGIN)]
    rounds = interleaved({"ours": asking(*plugin), "theirs": asking()}, min(sizes.rounds, ROUNDS))
    return [
        Row(
            question="fairseq-train --help",
            ours_name="with the plugin",
            theirs_name="without",
            unit="s",
            ours=rounds["ours"],
            theirs=rounds["theirs"],
            required=AT_MOST_MORE,
        )
    ]


def asking(*words: str) -> Callable[[], float]:
    """A side that asks fairseq-train for help and says how many seconds it computed."""
    command = [sys.executable, "-m", "fairseq_cli.train", "--help", *words]

    def run() -> float:
        before = os.times()
        subprocess.run(command, check=True, capture_output=True)
        after = os.times()
        return sum(
            getattr(after, name) - getattr(before, name)
            for name in ("children_user", "children_system")
        )

    return run


if __name__ == "__main__":
    sys.exit(run_program(options_of(__doc__).parse_args(), measure))
