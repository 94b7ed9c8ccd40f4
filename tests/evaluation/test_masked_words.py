import json
import unicodedata

import pytest

from caf_dkd_plugin.evaluation.masked_words import (
    MaskedWord,
    MaskedWordsError,
    read_masked_words,
    right_words,
    write_masked_words,
)

RED = MaskedWord("red", ("rot", "rote", "roten"))
WHITE = MaskedWord("White", ("weiß", "weiße"))
BOY = MaskedWord("boy", ("Junge", "Jungen"))


class TestFile:
    def test_what_is_written_is_read_back(self, tmp_path):
        masked = [[RED, WHITE], [], [BOY]]
        write_masked_words(tmp_path / "masked.jsonl", masked)
        assert read_masked_words(tmp_path / "masked.jsonl", 3) == masked

    def test_one_object_a_line_as_documented(self, tmp_path):
        write_masked_words(tmp_path / "masked.jsonl", [[], [WHITE]])
        lines = (tmp_path / "masked.jsonl").read_text("utf-8").splitlines()
        assert json.loads(lines[0]) == {"line": 0, "masked": []}
        assert json.loads(lines[1]) == {
            "line": 1,
            "masked": [{"source": "White", "target": ["weiß", "weiße"]}],
        }

    def test_a_split_without_sentences(self, tmp_path):
        write_masked_words(tmp_path / "masked.jsonl", [])
        assert read_masked_words(tmp_path / "masked.jsonl", 0) == []

    def test_a_file_of_another_split_is_refused(self, tmp_path):
        path = tmp_path / "masked.jsonl"
        write_masked_words(path, [[], []])
        with pytest.raises(MaskedWordsError, match=r"jsonl has 2 lines, but there are 3 sentences"):
            read_masked_words(path, 3)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(MaskedWordsError, match=r"none.jsonl cannot be read: .*No such file"):
            read_masked_words(tmp_path / "none.jsonl", 1)

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("nonsense", "line 2: Expecting value"),
            ("[]", r'line 2: not of the form {"line": 0, "masked": \[...\]}'),
            ('{"line": 1}', "line 2: not of the form"),
            ('{"line": 7, "masked": []}', 'line 2: "line" is 7, not 1: lines are missing or moved'),
            ('{"line": 1, "masked": ["red"]}', "line 2: red is not of the form"),
            ('{"line": 1, "masked": [{"source": "red"}]}', "line 2: .*'red'.* is not of the form"),
            ('{"line": 1, "masked": [{"source": "a", "target": []}]}', "line 2: .*not of the form"),
            (
                '{"line": 1, "masked": [{"source": "a", "target": ["hell-rot"]}]}',
                "line 2: 'hell-rot' is no single word",
            ),
        ],
    )
    def test_a_wrong_line_is_named(self, tmp_path, line, message):
        path = tmp_path / "masked.jsonl"
        path.write_text(f'{{"line": 0, "masked": []}}\n{line}\n')
        with pytest.raises(MaskedWordsError, match=message):
            read_masked_words(path, 2)

    def test_all_wrong_lines_are_counted(self, tmp_path):
        path = tmp_path / "masked.jsonl"
        path.write_text("x\n" * 9)
        with pytest.raises(MaskedWordsError) as caught:
            read_masked_words(path, 9)
        *named, last = str(caught.value).splitlines()
        assert [f"line {number}: " in line for number, line in enumerate(named, 1)] == [True] * 5
        assert last == "and 4 more such lines"


class TestRightWords:
    @pytest.mark.parametrize(
        ("hypothesis", "right"),
        [
            ("Ein Mann in roten Hosen.", True),
            ("ROT!", True),
            ("ein rot-blaues Hemd", True),
            ("„rot“", True),
            ("ein Rotwein und Brot", False),
            ("ein blaues Hemd", False),
            ("", False),
        ],
    )
    def test_whole_words_with_and_without_capitals(self, hypothesis, right):
        assert right_words([hypothesis], [[RED]]) == [[right]]

    def test_a_form_with_a_capital_is_for_words_with_one(self):
        hypotheses = ["ein Junge", "eine junge Frau", "DER JUNGE"]
        assert right_words(hypotheses, [[BOY]] * 3) == [[True], [False], [True]]

    def test_spellings_of_the_same_letters(self):
        decomposed = unicodedata.normalize("NFD", "ein grünes Tor")
        green = MaskedWord("green", ("grünes",))
        assert right_words([decomposed, "weisse Haare"], [[green], [WHITE]]) == [[True], [True]]

    def test_a_word_of_the_hypothesis_counts_once(self):
        twice = [RED, RED]
        assert right_words(["rot"], [twice]) == [[True, False]]
        assert right_words(["rote und roten"], [twice]) == [[True, True]]
        assert right_words(["rot und rot"], [twice]) == [[True, True]]

    def test_lines_are_scored_by_themselves(self):
        masked = [[RED], [], [WHITE, RED]]
        assert right_words(["weiß", "rot", "rot"], masked) == [[False], [], [False, True]]

    def test_unequal_numbers_of_lines(self):
        with pytest.raises(ValueError, match="1 hypotheses, but masked words of 2 sentences"):
            right_words(["rot"], [[], []])
