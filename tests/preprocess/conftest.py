"""The scripts of preprocess/, which is no package, and made-up pictures for them."""

import sys

import pytest


@pytest.fixture(scope="session")
def extract_features(load_script):
    return load_script("extract_features")


@pytest.fixture(scope="session")
def picture_batches(extract_features):
    """The module that the script has imported from beside it."""
    return sys.modules["picture_batches"]


@pytest.fixture(scope="session")
def prepare_multi30k(load_script):
    return load_script("prepare_multi30k")


@pytest.fixture(scope="session")
def binarised_text(prepare_multi30k):
    """The module that the script has imported from beside it."""
    return sys.modules["binarised_text"]


@pytest.fixture(scope="session")
def check_data(load_script):
    return load_script("check_data")


@pytest.fixture(scope="session")
def convert_features(load_script):
    return load_script("convert_features")


@pytest.fixture(scope="session")
def mask_source(load_script):
    return load_script("mask_source")


@pytest.fixture(scope="session")
def finished_folder(mask_source):
    """The module that the script has imported from beside it."""
    return sys.modules["finished_folder"]


@pytest.fixture(scope="session")
def split_into_pieces(load_script):
    return load_script("split_into_pieces")


@pytest.fixture(scope="session")
def substitute_words(load_script):
    return load_script("substitute_words")


@pytest.fixture(scope="session")
def word_lists(mask_source):
    """The module that the script has imported from beside it."""
    return sys.modules["word_lists"]
