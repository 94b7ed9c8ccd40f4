"""The error of prepare_multi30k.py and of the modules beside it."""

from typing import Sequence


class PreparationError(ValueError):
    """Something is wrong with the input; `problems` has one line each."""

    def __init__(self, problems: Sequence[str]):
        super().__init__("\n".join(problems))
        self.problems = list(problems)
