"""split_into_pieces.py: text into the pieces of a sentencepiece model, learned from it or given."""

import gzip

import pytest
import sentencepiece

WORDS = {
    "en": "a man holds his small red bat and runs to the old crane",
    "de": "ein Mann hält seinen kleinen roten Schläger und läuft zum Kran",
}


def sentences(lang, count):
    words = 2 * WORDS[lang].split()
    return [" ".join(words[line % 11 : line % 11 + 3 + line % 5]) for line in range(count)]


@pytest.fixture
def text(tmp_path):
    for lang in WORDS:
        for split, count in (("train", 60), ("valid", 7)):
            path = tmp_path / f"{split}.{lang}"
            path.write_text("".join(f"{line}\n" for line in sentences(lang, count)), "utf-8")
    return tmp_path


@pytest.fixture
def split(split_into_pieces, text):
    """Run it on files of the text, with the model beside them: (names, *options) -> exit code."""

    def run(names, *options):
        files = [str(text / name) for name in names]
        model = ("--sentencepiece", str(text / "spm.model"))
        return split_into_pieces.main([*files, *model, *map(str, options)])

    return run


def learning(text):
    return ("--learn-from", text / "train.en", text / "train.de", "--vocab-size", 80)


def test_what_it_writes_is_what_the_model_says(split, text):
    names = [f"{part}.{lang}" for part in ("train", "valid") for lang in WORDS]
    assert split(names, *learning(text)) == 0
    model = sentencepiece.SentencePieceProcessor(model_file=str(text / "spm.model"))
    assert model.get_piece_size() <= 80
    for name in names:
        lines = (text / name).read_text("utf-8").splitlines()
        pieces = (text / f"sp.{name}").read_text("utf-8").splitlines()
        assert [line.split(" ") for line in pieces] == [
            model.encode(x, out_type=str) for x in lines
        ]
        assert [model.decode(line.split(" ")) for line in pieces] == lines


def test_it_can_be_run_again_and_on_other_text_by_the_same_model(split, text):
    split(["train.en"], *learning(text))
    learned, pieces = ((text / name).read_bytes() for name in ("spm.model", "sp.train.en"))
    assert split(["train.en"], *learning(text)) == 0
    (text / "few.en").write_text("a red bat\n", "utf-8")
    assert split(["few.en"]) == 0
    assert (text / "spm.model").read_bytes() == learned
    assert (text / "sp.train.en").read_bytes() == pieces
    assert (text / "sp.few.en").read_text("utf-8").replace(" ", "") == "▁a▁red▁bat\n"


def test_a_model_that_text_was_split_by_is_not_replaced(split, text, capsys):
    split(["train.en"], *learning(text))
    learned = (text / "spm.model").read_bytes()
    assert split(["valid.en"], "--learn-from", text / "train.en", "--vocab-size", 80) == 1
    assert (
        "has been learned from other text or with another --vocab-size" in capsys.readouterr().err
    )
    assert (text / "spm.model").read_bytes() == learned
    assert not (text / "sp.valid.en").exists()


def test_lines_stay_lines(split, text):
    """Images and translations belong to lines by their number."""
    odd = "\ufeffa man\r\n\na\u2028bat\tand\u00a0 red \nthe river"
    (text / "odd.en").write_bytes(odd.encode("utf-8"))
    split(["odd.en"], *learning(text))
    lines = (text / "sp.odd.en").read_text("utf-8").split("\n")
    model = sentencepiece.SentencePieceProcessor(model_file=str(text / "spm.model"))
    decoded = [model.decode(line.split(" ")) if line else "" for line in lines]
    assert decoded == ["a man", "", "a bat and red", "the river", ""]


def test_compressed_text_is_read(split, text):
    split(["train.en"], *learning(text))
    (text / "valid.en.gz").write_bytes(gzip.compress((text / "valid.en").read_bytes()))
    split(["valid.en"])
    expected = (text / "sp.valid.en").read_bytes()
    (text / "sp.valid.en").unlink()
    assert split(["valid.en.gz"]) == 0
    assert (text / "sp.valid.en").read_bytes() == expected


def test_all_problems_are_told_at_once(split, text, capsys):
    (text / "latin.de").write_bytes("hält\n".encode("latin-1"))
    (text / "blank.en").write_text("\n \n")
    names = ["absent.en", "latin.de", "blank.en", "sp.train.en"]
    (text / "sp.train.en").write_text("▁a\n")
    assert split(names, "--vocab-size", 80) == 1
    errors = capsys.readouterr().err.splitlines()
    assert len(errors) == 6
    for part in (
        "absent.en cannot be read",
        "latin.de cannot be read",
        "blank.en has no text",
        "sp.train.en is called like the output of this program",
        "spm.model is not there; to learn it, say of which files: --learn-from",
        "--vocab-size is for learning a model",
    ):
        assert sum(part in line for line in errors) == 1, part
    assert not (text / "sp.latin.de").exists()


def test_what_is_no_model_is_told(split, text, capsys):
    (text / "spm.model").write_text("no model")
    assert split(["train.en"]) == 1
    assert "spm.model is not a sentencepiece model" in capsys.readouterr().err


def test_a_text_that_cannot_be_learned_from_leaves_nothing(split, text, capsys):
    assert split(["train.en"], *learning(text)[:-1], 5) == 1
    assert "sentencepiece cannot make 5 pieces" in capsys.readouterr().err
    assert not (text / "spm.model").exists()
    assert not (text / "sp.train.en").exists()
