"""The error of the scripts that prepare text."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from caf_dkd_plugin.problems import ProblemsError


class PreparationError(ProblemsError):
    """Something is wrong with the input; `problems` has one line each."""
