"""What all programs have in common: their options, the table they print and the JSON they write."""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Callable, Optional

import torch
from rows import Found, Row
from sizes import FULL, QUICK, Sizes
from table import in_words, markdown, versions


def options_of(purpose: str) -> argparse.ArgumentParser:
    """The options that every program has; `purpose` is for --help, its first paragraph."""
    parser = argparse.ArgumentParser(description=purpose.partition("\n\n")[0])
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: does it run? Its figures mean nothing"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write all rounds here, too")
    return parser


def run_program(args: argparse.Namespace, measure: Callable[[Sizes, Path], Found]) -> int:
    """Measure, print and write what the command line asks for; the exit code.

    Args:
        args: of :func:`options_of`.
        measure: gives the rows; called with the sizes and a folder that is removed afterwards.
    """
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(prefix="caf-dkd-bench-") as scratch:
        found = measure(QUICK if args.quick else FULL, Path(scratch))
    report(found, args.json)
    return 0


def report(found: Found, path: Optional[Path]) -> None:
    """Print the table and write the JSON."""
    facts = versions()
    print(markdown(found))
    print(f"\n{in_words(facts)}", flush=True)
    if path is not None:
        write_json(found, facts, path)
        print(f"wrote {path}", file=sys.stderr)


def write_json(found: Found, facts: dict, path: Path) -> None:
    """Rows, skipped questions and versions."""
    entries = {
        "versions": facts,
        "rows": [row.as_json() for row in found if isinstance(row, Row)],
        "skipped": [skipped._asdict() for skipped in found if not isinstance(skipped, Row)],
    }
    path.write_text(json.dumps(entries, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
