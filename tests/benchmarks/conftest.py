"""benchmarks/ is no package: its modules find each other where a program is run."""

import importlib
import sys
from pathlib import Path
from unittest import mock

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def benchmark():
    """A function that imports a module of benchmarks/, other than run.py, whose name is not its own."""
    folders = [str(ROOT / name) for name in ("benchmarks", "preprocess")]
    with mock.patch.object(sys, "path", [*folders, *sys.path]):
        yield importlib.import_module
