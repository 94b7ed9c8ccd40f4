"""The real script on small texts: what changes, what stays, how often, every error message."""

import random
import re
from collections import Counter

import pytest
from text_lines import read_lines, write_lines

TEXT = [
    "A small-town dog runs.",
    "Two dogs don't run in the rain!",
    "A dog; two cats, 3 bikes.",
    "",
]
LIST = [
    "A dog and a dog and a cat and the Eiffel tower.",
    "A dog, the dog's tower and the Eiffel bridge.",
    "Bikes and bikes; a dog's rain.",
]
MADE = [
    "Two dogs don't a in the rain!",
    "Dog and don't run and the a!",
    "A bikes; tower cats, 3 dog.",
    "A small-town Eiffel runs.",
    "Two dogs don't run in and rain!",
    "A the; two cats, 3 bikes.",
]
"""of three copies; what Python 3.11 wrote"""
EVERY_SCRIPT = [
    "naïve", "cafe\u0301s", "Fahrräder", "собака", "हिन्दी", "l'homme", "it\u2019s", "T-shirt",
]  # fmt: skip


@pytest.fixture
def text(tmp_path):
    return write_lines(tmp_path / "text.en", TEXT)


@pytest.fixture
def listed(tmp_path):
    return write_lines(tmp_path / "list.en", LIST)


@pytest.fixture
def output(tmp_path):
    return tmp_path / "new.en"


@pytest.fixture
def run(substitute_words, text, listed, output, capsys):
    """Run the script; its exit code, output and errors."""

    def run(*options):
        given = ["--text", text, "--words-from", listed, "--output", output, "--keep", 2]
        code = substitute_words.main([str(word) for word in [*given, *options]])
        said = capsys.readouterr()
        return code, said.out, re.sub(r".*copy/s\]", "", said.err)  # the progress bar

    return run


@pytest.mark.parametrize("given", ["text.en", "list.en"])
def test_what_is_read_is_not_written_over(substitute_words, text, listed, tmp_path, capsys, given):
    before = (tmp_path / given).read_bytes()
    options = ["--text", text, "--words-from", listed, "--output", tmp_path / given, "--overwrite"]
    assert substitute_words.main(list(map(str, options))) == 1
    assert f"{given} is the text that is read; give another file" in capsys.readouterr().err
    assert (tmp_path / given).read_bytes() == before


class TestWords:
    def test_a_word_is_whole_in_every_script(self, substitute_words):
        sentence = "; ".join(EVERY_SCRIPT) + " 3rd -a- 'b' _c_"
        assert substitute_words.WORD.findall(sentence) == [*EVERY_SCRIPT, "rd", "a", "b", "c"]

    def test_the_list_has_words_as_they_are_written_within_a_sentence(self, substitute_words):
        words = substitute_words.list_words(LIST, keep=3, min_count=2)
        assert words.kept == {"and", "a", "dog"}
        assert words.words == [
            *("a", "and", "dog", "the"),  # 5 times, 5, 3, 3
            *("bikes", "dog's", "Eiffel", "tower"),  # twice
        ]
        assert {"rain", "bridge", "cat"}.isdisjoint(words.words)

    def test_words_are_drawn_by_the_root_of_their_count(self, substitute_words):
        lines = ["often " * 90 + "seldom " * 10]
        words = substitute_words.list_words(lines, keep=0, min_count=1)
        generator = random.Random(1)
        drawn = Counter(words.draw(generator) for _ in range(8000))
        assert drawn["often"] / drawn["seldom"] == pytest.approx(3, rel=0.1)


class TestSentence:
    @pytest.fixture
    def words(self, substitute_words):
        return substitute_words.list_words(LIST, keep=2, min_count=1)

    def test_all_that_may_give_way_and_nothing_else(self, substitute_words, words):
        pattern = substitute_words.WORD
        for sentence in TEXT:
            new = substitute_words.substitute(sentence, 1.0, words, random.Random(1))
            assert pattern.split(new) == pattern.split(sentence)  # what stands between words
            for before, after in zip(pattern.findall(sentence), pattern.findall(new)):
                assert after.lower() in {word.lower() for word in words.words}
                assert before.lower() not in words.kept or after == before
                assert after[0].isupper() or before[0].islower()

    def test_by_a_share(self, substitute_words, words):
        generator = random.Random(1)
        sentence = "zebra " * 4000
        new = substitute_words.substitute(sentence, 0.3, words, generator).split()
        assert new.count("zebra") / 4000 == pytest.approx(0.7, abs=0.03)
        assert substitute_words.substitute(sentence, 0.0, words, generator) == sentence


class TestFile:
    def test_sentences_are_new_and_those_left_out_are_counted(self, run, output):
        code, said, _ = run("--copies", 40)
        lines = read_lines(output)
        assert code == 0
        assert len(set(lines)) == len(lines)
        assert set(lines).isdisjoint(TEXT)
        left_out = 40 * len(TEXT) - len(lines)
        assert left_out >= 40  # the empty sentence
        assert (
            f"{len(lines)} sentences, of 4 with a list of 8 words; {left_out} of 160 were" in said
        )

    def test_the_same_bytes_again_and_on_every_python(self, run, output):
        run("--copies", 3)
        assert read_lines(output) == MADE
        assert run("--copies", 3)[0] == 0
        assert read_lines(output) == MADE

    def test_a_seed_of_its_own(self, run, output):
        run("--copies", 3)
        first = read_lines(output)
        assert run("--copies", 3, "--seed", 2, "--overwrite")[0] == 0
        assert read_lines(output) != first

    def test_more_copies_go_on_where_fewer_end(self, run, output):
        run("--copies", 2)
        fewer = read_lines(output)
        run("--copies", 4, "--overwrite")
        assert read_lines(output)[: len(fewer)] == fewer

    def test_another_output_is_not_replaced_unasked(self, run, output):
        output.write_text("mine\n")
        code, _, errors = run()
        assert (code, output.read_text()) == (1, "mine\n")
        assert "is there with other content" in errors
        assert run("--overwrite")[0] == 0


class TestProblems:
    def test_all_at_once(self, run, text, listed, tmp_path):
        text.write_text("")
        code, _, errors = run(
            *("--max-share", 1.5, "--output", tmp_path, "--min-count", 99, "--words-from", listed)
        )
        assert code == 1
        assert errors.splitlines() == [
            f"error: --output {tmp_path} is a folder; name the file to write",
            "error: --max-share 1.5 is not above 0 and at most 1",
            f"error: --text {text} has no words in its 0 lines",
            f"error: --words-from {listed} has no word --min-count 99 times",
        ]

    def test_no_word_may_give_way(self, run, text):
        text.write_text("And a\n")
        code, _, errors = run()
        assert code == 1
        assert f"--text {text} has no word that may give way: all 2 are among" in errors

    @pytest.mark.parametrize("share", [0, -1, "nan"])
    def test_a_share_that_is_none(self, run, output, share):
        assert f"--max-share {float(share)} is not" in run("--max-share", share)[2]
        assert not output.exists()

    def test_files_that_cannot_be_read(self, run, text, tmp_path):
        text.write_bytes(b"\xff\n")
        _, _, errors = run("--words-from", tmp_path / "none")
        assert f"--text {text} cannot be read" in errors
        assert f"--words-from {tmp_path}/none cannot be read" in errors
