"""Run the benchmarks, one after the other, and print one table.

    python benchmarks/run.py [--quick] [--json FILE] [PROGRAM ...]

All of them together also write results.json beside this file. Rows that are not what is required are
marked; the exit code says only whether all programs ran.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Optional, Sequence, Tuple

if __name__ == "__main__":
    import start  # noqa: F401

from places import BENCHMARKS
from program import options_of, report
from rows import Found, Row, Skipped

RESULTS = BENCHMARKS / "results.json"
PROGRAMS = (
    "training_text",
    "training_bf16",
    "training_gpu",
    "training_images",
    "training_cached_teacher",
    "training_live_teacher",
    "training_aligned",
    "generation",
    "image_reading",
    "resident_memory",
    "feature_extraction",
    "start_up",
    "scaling",
)
SHOWN = 2000
"""characters of what a program that failed has said"""


def run_all(programs: Sequence[str], quick: bool) -> Tuple[Found, bool]:
    """The rows of all programs that did not fail, each in a process of its own; whether all ran."""
    found: Found = []
    failed = False
    with tempfile.TemporaryDirectory(prefix="caf-dkd-bench-") as scratch:
        for name in programs:
            started = time.monotonic()
            path = Path(scratch) / f"{name}.json"
            command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--json", str(path)]
            command += ["--quick"] if quick else []
            done = subprocess.run(command, capture_output=True, text=True)
            print(f"==> {name}: {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
            if done.returncode != 0:
                print(f"{name} failed:\n{done.stderr[-SHOWN:]}", file=sys.stderr)
                failed = True
                continue
            entries = json.loads(path.read_text(encoding="utf-8"))
            found += map(Row.from_json, entries["rows"])
            found += [Skipped(**entry) for entry in entries["skipped"]]
    return found, not failed


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code. A row below what is required is marked, and is no failure."""
    parser = options_of(__doc__)
    parser.add_argument(
        "programs", nargs="*", metavar="PROGRAM", help=f"only these of {', '.join(PROGRAMS)}"
    )
    args = parser.parse_args(argv)
    unknown = sorted(set(args.programs) - set(PROGRAMS))
    if unknown:
        parser.error(f"there is no {', '.join(unknown)}; choose from {', '.join(PROGRAMS)}")
    found, all_ran = run_all(args.programs or PROGRAMS, args.quick)
    everything = all_ran and not args.programs and not args.quick
    report(found, args.json or (RESULTS if everything else None))
    return 0 if all_ran else 1


if __name__ == "__main__":
    sys.exit(main())
