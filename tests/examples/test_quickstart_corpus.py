"""The quickstart's corpus: what it promises to the demo and to the other tests."""

import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

QUICKSTART = Path(__file__).resolve().parents[2] / "examples" / "quickstart"
COUNTS = {"train": 72, "valid": 24, "test": 26}


@pytest.fixture(scope="module")
def maker():
    """The module make_corpus; a script, so it is not importable from elsewhere."""
    sys.path.insert(0, str(QUICKSTART))
    try:
        import make_corpus

        return make_corpus
    finally:
        sys.path.remove(str(QUICKSTART))


def make(maker, folder, seed=7, **counts):
    options = [f"--{split}={count}" for split, count in {**COUNTS, **counts}.items()]
    maker.main(["--output", str(folder), "--seed", str(seed), *options])
    return folder


@pytest.fixture(scope="module")
def corpus(maker, tmp_path_factory):
    return make(maker, tmp_path_factory.mktemp("corpus"))


def lines(folder, name):
    return (folder / "text" / name).read_text(encoding="utf-8").splitlines()


def senses(folder, split):
    return [line.split("\t") for line in lines(folder, f"{split}.senses")]


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder): path.read_bytes() for path in files}


def words(sentence):
    return re.findall(r"\w+", sentence)


def test_same_arguments_same_bytes(maker, corpus, tmp_path):
    assert contents(make(maker, tmp_path)) == contents(corpus)


def test_another_seed_makes_another_corpus(maker, corpus, tmp_path):
    other = make(maker, tmp_path, seed=8)
    for suffix in ("en", "de", "senses"):
        assert lines(other, f"train.{suffix}") != lines(corpus, f"train.{suffix}")
    name = Path("images/train_00000.png")
    assert contents(other)[name] != contents(corpus)[name]


def test_a_longer_split_begins_with_a_shorter_one(maker, corpus, tmp_path):
    shorter = make(maker, tmp_path, train=31)
    for suffix in ("en", "de", "senses", "images"):
        assert lines(shorter, f"train.{suffix}") == lines(corpus, f"train.{suffix}")[:31]
    for name in lines(shorter, "train.images"):
        path = Path("images") / name
        assert (shorter / path).read_bytes() == (corpus / path).read_bytes()


@pytest.mark.parametrize(("split", "count"), COUNTS.items())
def test_every_file_has_one_line_a_sentence(corpus, split, count):
    for suffix in ("en", "de", "senses", "images"):
        assert len(lines(corpus, f"{split}.{suffix}")) == count


def test_every_line_has_a_picture_of_its_own_and_there_are_no_others(corpus):
    ids = [name for split in COUNTS for name in lines(corpus, f"{split}.images")]
    assert len(set(ids)) == len(ids) == sum(COUNTS.values())
    assert set(ids) == {path.name for path in (corpus / "images").iterdir()}
    for name in ids:
        with Image.open(corpus / "images" / name) as picture:
            picture.load()
            assert (picture.format, picture.mode) == ("PNG", "RGB")
            assert picture.size == (224, 224)


@pytest.mark.parametrize("split", COUNTS)
def test_twins_share_the_english_and_have_either_sense(corpus, split):
    english, meant = lines(corpus, f"{split}.en"), senses(corpus, split)
    for first in range(0, len(english), 2):
        assert english[first] == english[first + 1]
        assert meant[first][0] == meant[first + 1][0]
        assert meant[first][1:3] == meant[first + 1][2:0:-1]


def test_the_order_of_twins_tells_nothing(maker, corpus):
    """Whether a line comes first must not tell the sense either."""
    firsts = Counter(
        maker.NOUNS[noun][0].form == right for noun, right, *_ in senses(corpus, "train")[::2]
    )
    assert min(firsts.values()) >= 9  # of 36; fewer has a probability below 1 in 500


@pytest.mark.parametrize("split", COUNTS)
def test_every_noun_has_both_senses(maker, corpus, split):
    expected = {
        (noun, sense.form) for noun, both_senses in maker.NOUNS.items() for sense in both_senses
    }
    assert {(noun, right) for noun, right, *_ in senses(corpus, split)} == expected


@pytest.mark.parametrize("split", COUNTS)
def test_sentences_hold_the_noun_and_the_right_german_form(corpus, split):
    for english, german, (noun, right, wrong, *_) in zip(
        lines(corpus, f"{split}.en"), lines(corpus, f"{split}.de"), senses(corpus, split)
    ):
        assert words(english).count(noun) == 1
        assert words(german).count(right) == 1
        assert wrong not in words(german)
        for sentence in (english, german):
            assert re.fullmatch(r"[A-ZÄÖÜ][^.{}]*\.", sentence)


@pytest.mark.parametrize("split", COUNTS)
def test_the_box_of_the_deciding_object_is_inside_and_is_drawn_on(corpus, split):
    for name, (*_, x0, y0, x1, y1) in zip(lines(corpus, f"{split}.images"), senses(corpus, split)):
        left, top, right, bottom = map(float, (x0, y0, x1, y1))
        assert 0 <= left < right <= 1
        assert 0 <= top < bottom <= 1
        assert right - left == pytest.approx(bottom - top, abs=2e-4)
        with Image.open(corpus / "images" / name) as picture:
            box = [round(edge * 224) for edge in (left, top, right, bottom)]
            assert len(picture.crop(box).getcolors(50_176)) >= 2


def test_the_box_holds_the_right_object(maker, corpus, monkeypatch, tmp_path):
    """Without the deciding object's strokes only what lies in its box changes."""
    noun, right, _, *box = senses(corpus, "valid")[0]
    monkeypatch.setitem(sys.modules["drawings"].DRAWINGS, right, ())
    blank = make(maker, tmp_path, train=0, valid=1, test=0)
    from PIL import ImageChops

    name = "valid_00000.png"
    with Image.open(corpus / "images" / name) as one, Image.open(blank / "images" / name) as other:
        changed = ImageChops.difference(one, other).getbbox()
    assert changed, f"no {right} was drawn for {noun}"
    edges = [224 * float(edge) for edge in box]
    assert all(low <= edge + 1 for low, edge in zip(edges[:2], changed[:2]))
    assert all(edge <= high + 2 for high, edge in zip(edges[2:], changed[2:]))


def test_no_distractor_belongs_to_the_noun(maker):
    import random

    own = {sense.form for sense in maker.NOUNS["bat"]}
    for seed in range(50):
        deciding, *others = maker.compose("bat", "Schläger", random.Random(seed))
        assert deciding.name == "Schläger"
        assert 2 <= len(others) <= 3
        assert not own & {one.name for one in others}
        names = [one.name for one in others]
        boxes = [one.box for one in (deciding, *others)]
        assert len(set(names)) == len(names)
        for number, one in enumerate(boxes):
            for other in boxes[:number]:
                apart = (
                    one[2] <= other[0],
                    other[2] <= one[0],
                    one[3] <= other[1],
                    other[3] <= one[1],
                )
                assert any(apart)


@pytest.mark.parametrize(
    ("article", "adjective", "noun", "expected"),
    [
        ("the", "", "bow", ["die Schleife", "den Bogen"]),
        ("a", "", "seal", ["eine Robbe", "ein Siegel"]),
        ("the", "small", "seal", ["die kleine Robbe", "das kleine Siegel"]),
        ("a", "big", "match", ["ein großes Streichholz", "ein großes Fußballspiel"]),
        ("a", "famous", "key", ["einen berühmten Schlüssel", "eine berühmte Taste"]),
        ("the", "beautiful", "glasses", ["die schöne Brille", "die schönen Gläser"]),
    ],
)
def test_german_accusatives(maker, article, adjective, noun, expected):
    found = [maker.translate_object(article, adjective, sense) for sense in maker.NOUNS[noun]]
    assert found == expected


def test_every_german_noun_has_a_drawing_and_every_drawing_a_noun(maker):
    from_nouns = {sense.form for both_senses in maker.NOUNS.values() for sense in both_senses}
    assert from_nouns == set(sys.modules["drawings"].DRAWINGS)
    assert len(from_nouns) == 2 * len(maker.NOUNS)
