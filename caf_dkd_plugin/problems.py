"""Find everything that is wrong before anything is said."""

import contextlib
import sys
from typing import Iterator, List, Sequence


class ProblemsError(ValueError):
    """Something cannot be used as it is; `problems` has one line each, and so has the message."""

    def __init__(self, problems: Sequence[str]):
        super().__init__("\n".join(problems))
        self.problems = list(problems)


@contextlib.contextmanager
def noted(problems: List[str]) -> Iterator[None]:
    """Go on after the block when it fails, and add the lines of its error to `problems`.

    What the block would have assigned is then not there.
    """
    try:
        yield
    except (ValueError, OSError) as error:
        problems += str(error).splitlines()


def print_problems(error: Exception) -> None:
    """Tell people of an error whose message has one problem a line."""
    for problem in str(error).splitlines():
        print(f"error: {problem}", file=sys.stderr)
