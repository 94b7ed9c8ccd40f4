"""A model that looks, by construction: its sentences hide the colour, and the image shows it.

And systems of made-up translations.
"""

import itertools
import json
import random
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from caf_dkd_plugin.__main__ import main
from caf_dkd_plugin.data.image_store import Description
from caf_dkd_plugin.data.image_store_writer import ImageStoreWriter

COLOURS = {"red": "roter", "blue": "blauer", "green": "grüner", "white": "weißer"}
NOUNS = {"ball": "Ball", "hat": "Hut", "tree": "Baum", "car": "Wagen"}
SENTENCES = list(itertools.product(COLOURS, NOUNS))


class Looker(NamedTuple):
    """A trained model with all that it takes to ask it."""

    data: Path
    """its test split has all sentences once, and two more without an image"""
    checkpoint: Path
    store: Path
    masked: Path
    """the masked words of the test split"""

    @staticmethod
    def german(colour: str, noun: str) -> str:
        """The translation of "There is a NOUN ." where the image shows the colour."""
        return f"Da ist ein {COLOURS.get(colour, 'roter')} {NOUNS[noun]}."


@pytest.fixture(scope="session")
def looker(fairseq, train_looker, write_lines, write_colours, tmp_path_factory) -> Looker:
    folder = tmp_path_factory.mktemp("looker")
    data, text = folder / "bin", folder / "bin" / "text"
    text.mkdir(parents=True)
    extra = [("", "ball"), ("violet", "ball")]  # the images of neither are in the store
    for split, pairs in (
        ("train", 3 * SENTENCES),
        ("valid", SENTENCES),
        ("test", [*SENTENCES[:5], *extra, *SENTENCES[5:]]),
    ):
        write_lines(text / f"{split}.en", [f"There is a {noun} ." for _, noun in pairs])
        write_lines(text / f"{split}.de", [Looker.german(*pair) for pair in pairs])
        write_lines(data / f"{split}.images", [colour and f"{colour}.png" for colour, _ in pairs])
    prefixes = [f"--{split}pref={text / split}" for split in ("train", "valid", "test")]
    fairseq("preprocess", "-s", "en", "-t", "de", "--destdir", data, *prefixes)
    records = [
        {"line": number, "masked": [{"source": c, "target": [COLOURS[c]]}] if c in COLOURS else []}
        for number, (c, _) in enumerate(pairs)
    ]
    masked = folder / "masked.jsonl"
    write_lines(masked, map(json.dumps, records))
    store = write_colours(folder / "images.h5", [f"{colour}.png" for colour in COLOURS])
    trained = train_looker(folder / "model", data, store)
    return Looker(data, trained.last, store, masked)


@pytest.fixture(scope="session")
def train_looker(train):
    """A function that trains until the sentences are known: (folder, DATA, store) -> Trained."""

    def run(folder, data, store):
        options = "--fusion-residual --dropout 0 --clip-norm 1 --max-epoch 25"
        return train(folder, "--image-h5", store, *options.split(), data=data)

    return run


@pytest.fixture(scope="session")
def write_lines():
    """A function that writes a text: (path, lines)."""

    def write(path, lines):
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    return write


@pytest.fixture(scope="session")
def write_colours():
    """A function that writes a store in which a row is a unit vector: (path, ids) -> path."""

    def write(path, ids):
        description = Description("made-up", "global", "none", "0" * 64, "none")
        writer = ImageStoreWriter(path, ids, (1, len(ids)), "float32", description)
        writer.write(range(len(ids)), 3 * np.eye(len(ids), dtype="float32")[:, None])
        writer.finish()
        return path

    return write


@pytest.fixture
def command(tmp_path, capsys):
    """A function that runs a command: (*words) -> its figures, or its errors where it fails."""

    def run(*words):
        report = tmp_path / "report.json"
        report.unlink(missing_ok=True)
        capsys.readouterr()
        failed = main([*map(str, words), "--json", str(report), "--cpu"])
        out, err = capsys.readouterr()
        if failed:
            assert not out
            assert not report.exists()
            errors = [line for line in err.splitlines() if line.startswith("error: ")]
            assert errors
            return errors
        return {**json.loads(report.read_text()), "table": out}

    return run


# -- systems --------------------------------------------------------------------------------------

WORDS = "Der Mann hält einen großen Schläger, und die Frau sieht ihm vom Rand aus zu"


@pytest.fixture(scope="session")
def references():
    """40 lines of the same words in different orders."""
    generator = random.Random(0)
    return [" ".join(generator.sample(WORDS.split(), 9)) + "." for _ in range(40)]


@pytest.fixture(scope="session")
def system(references):
    """A function that gives translations with a share of wrong words: (share, seed) -> 40 lines."""

    def translate(share, seed):
        generator = random.Random(seed)
        return [
            " ".join("Wort" if generator.random() < share else word for word in line.split())
            for line in references
        ]

    return translate
