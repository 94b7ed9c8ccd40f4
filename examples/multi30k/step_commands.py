"""What the experiment does, step by step, as command lines.

They are for a shell with the variables MULTI30K_ROOT, IMAGE_H5 and WORK. No path of a machine is in
them, so that they can stand in a committed result, and a work folder can be moved.
"""

import re
import shlex
from dataclasses import dataclass, field
from typing import Dict, List

SOURCE, TARGET = "en", "de"
BEAM = 5
ALL_LINES = "data/full"
"""in WORK: the binarised training set, whose subwords and dictionaries every other one has"""


@dataclass(frozen=True)
class Step:
    """A command line, and what it needs and makes."""

    name: str
    """for file names"""
    command: str
    outputs: List[str]
    """paths in WORK"""
    needs: List[str] = field(default_factory=list)
    """names of the steps that come before it"""
    facts: Dict[str, str] = field(default_factory=dict)
    """what the outputs depend on besides the command and the steps before: name -> hash"""
    goes_on: bool = False
    """whether it goes on from what it left when it was stopped, as a training does"""


def shell(*words: str) -> str:
    """A command line with a flag a line; words with $VARIABLES are expanded by the shell."""
    quoted = [f'"{word}"' if "$" in word else shlex.quote(word) for word in words]
    return re.sub(r" (?=--\w)", " \\\\\n    ", " ".join(quoted))


def work(path: str) -> str:
    """A path in WORK, for the shell."""
    return f"$WORK/{path}"


def prepare(root: str, folder: str, *options: str) -> str:
    """Binarise a Multi30k.

    Args:
        root: for the shell.
        folder: to make, in WORK.
        options: of prepare_multi30k.py, besides.
    """
    return shell(
        *("python", "preprocess/prepare_multi30k.py", "--root", root),
        *("--source", SOURCE, "--target", TARGET, *options, "--output", work(folder)),
    )


def in_shared_subwords() -> List[str]:
    """Options of prepare_multi30k.py."""
    pieces = work(ALL_LINES)
    return [
        *("--sentencepiece", f"{pieces}/sentencepiece.model"),
        *("--source-dictionary", f"{pieces}/dict.{SOURCE}.txt"),
        *("--target-dictionary", f"{pieces}/dict.{TARGET}.txt"),
    ]
