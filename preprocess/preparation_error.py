"""The error of the scripts that prepare text, and what they do about one."""

import sys
from pathlib import Path
from typing import Callable

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from caf_dkd_plugin.problems import ProblemsError, print_problems


class PreparationError(ProblemsError):
    """Something is wrong with the input; `problems` has one line each."""


def exit_code(work: Callable[[], None], output: Path) -> int:
    """Do a script's work, which writes --output; its exit code, with errors told to people."""
    try:
        work()
    except PreparationError as error:
        print_problems(error)
        return 1
    except OSError as error:  # those of the inputs are PreparationErrors
        print(
            f"error: --output {output} cannot be written: {error}. Give another place.",
            file=sys.stderr,
        )
        return 1
    return 0
