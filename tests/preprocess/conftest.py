"""The scripts of preprocess/, which is no package, and made-up pictures for them."""

import importlib.util
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "preprocess"


def load_script(name):
    """The script as a module; loaded once."""
    known = f"preprocess_{name}"
    if known not in sys.modules:
        spec = importlib.util.spec_from_file_location(known, SCRIPTS / f"{name}.py")
        sys.modules[known] = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(SCRIPTS))  # as Python does where a script is run
        try:
            spec.loader.exec_module(sys.modules[known])
        finally:
            sys.path.remove(str(SCRIPTS))
    return sys.modules[known]


@pytest.fixture(scope="session")
def extract_features():
    return load_script("extract_features")


@pytest.fixture(scope="session")
def prepare_multi30k():
    return load_script("prepare_multi30k")


@pytest.fixture(scope="session")
def binarised_text(prepare_multi30k):
    """The module that the script has imported from beside it."""
    return sys.modules["binarised_text"]


@pytest.fixture(scope="session")
def check_data():
    return load_script("check_data")


@pytest.fixture(scope="session")
def convert_features():
    return load_script("convert_features")


@pytest.fixture(scope="session")
def cache_teacher():
    return load_script("cache_teacher")
