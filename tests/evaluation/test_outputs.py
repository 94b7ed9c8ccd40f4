import random

import pytest

from caf_dkd_plugin.evaluation.outputs import (
    OutputError,
    read_generate_output,
    read_text,
    read_translations,
)

TRANSLATIONS = ["Ein Hund.", "", "Zwei\u2028Hunde, 3 Katzen", "D-1 ist ein Ort", "Ende"]
LOG = "2026-01-01 00:00:00 | INFO | fairseq_cli.generate | loading model(s) from x.pt"


def references(count):
    """One list of as many lines; they are those of `block`."""
    return [[f"Target, {number}." for number in range(count)]]


def block(number, *hypotheses):
    """What fairseq-generate prints of a sentence, with one or several hypotheses."""
    lines = [f"S-{number}\tsource", f"T-{number}\t▁target ▁ , ▁{number} ."]
    for rank, text in enumerate(hypotheses):
        lines += [f"H-{number}\t-0.{rank}\t▁pieces", f"D-{number}\t-0.{rank}\t{text}"]
        lines += [f"P-{number}\t-0.1 -0.2"]
    return lines


def printed(seed=0):
    """All of TRANSLATIONS, in an order of its own."""
    blocks = [block(number, text) for number, text in enumerate(TRANSLATIONS)]
    random.Random(seed).shuffle(blocks)
    lines = [line for lines in blocks for line in lines]
    return [LOG, *lines, "Generate test with beam=5: BLEU4 = 26.97, 56.5/35.9/23.2/14.8"]


@pytest.fixture
def write(tmp_path):
    """A function that writes lines, or bytes, to a file: (lines) -> path."""

    def write(lines):
        path = tmp_path / "test.generate"
        text = lines if isinstance(lines, bytes) else "".join(f"{x}\n" for x in lines).encode()
        path.write_bytes(text)
        return path

    return write


@pytest.fixture
def refused(write):
    """`refused(lines, *messages, count=)`: there is one problem for each message, in this order."""

    def check(lines, *messages, count=5):
        path = write(lines)
        with pytest.raises(OutputError) as error:
            read_translations(path, references(count) if count else [])
        problems = str(error.value).split("\n")
        assert len(problems) == len(messages)
        for problem, message in zip(problems, messages):
            assert problem.startswith(str(path))
            assert message in problem

    return check


# -- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_translations_are_in_the_order_of_the_sentences(seed, write):
    assert read_translations(write(printed(seed)), references(5)) == TRANSLATIONS
    assert read_translations(write(printed(seed)), []) == TRANSLATIONS


def test_of_several_hypotheses_the_first_is_taken(write):
    lines = [*block(1, "zwei", "deux", "due"), *block(0, "eins", "uno")]
    assert read_translations(write(lines), references(2)) == ["eins", "zwei"]
    only = [line for line in lines if line.startswith("D-")]
    assert read_translations(write(only), references(2)) == ["eins", "zwei"]


def test_plain_text_is_taken_line_by_line(write):
    assert read_translations(write(TRANSLATIONS), references(5)) == TRANSLATIONS
    assert read_text(write(TRANSLATIONS)) == TRANSLATIONS


@pytest.mark.parametrize("content", [b"a\nb", b"a\nb\n", b"a\r\nb\r\n", b"\xef\xbb\xbfa\nb\n"])
def test_ends_of_lines_and_byte_order_marks(content, write):
    assert read_text(write(content)) == ["a", "b"]


def test_the_output_of_the_real_command(teacher, generate, corpus, store, write, tmp_path):
    lines = [read_text(corpus / "text" / "test.de")]
    run = generate(teacher.best, "--image-h5", store)
    expected = [run.hypotheses()[number] for number in range(22)]
    assert read_translations(write((run.out + run.log).encode()), lines) == expected
    nbest = generate(teacher.best, "--image-h5", store, "--nbest", "2")
    assert nbest.out.count("\nD-") == 44
    assert read_translations(write(nbest.out.encode()), lines) == expected
    generate(teacher.best, "--image-h5", store, "--results-path", tmp_path / "results")
    assert read_translations(tmp_path / "results" / "generate-test.txt", lines) == expected


# -- what is refused ------------------------------------------------------------------------------


def test_missing_sentences(refused):
    lines = [line for line in printed() if "-1\t" not in line and "-3\t" not in line]
    missing = "has translations of 3 of the 5 sentences; 2 are missing: 1, 3."
    refused(lines, missing)
    refused(lines, missing, count=None)
    refused(printed(), "of 5 of the 7 sentences; 2 are missing: 5, 6.", count=7)
    cut = [line for line in printed() if not line.startswith("D-2\t")] + ["D-2\t-0.1"]
    refused(cut, "1 are missing: 2.")


def test_more_sentences_than_references(refused):
    refused(printed(), "of 5 sentences, the references have 3 lines: 3, 4 are too many", count=3)


@pytest.mark.parametrize(
    "lines",
    [
        printed() + block(3, "D-1 ist ein Ort"),
        [f"D-{number}\t-0.1\ttext" for number in (0, 3, 1, 2, 4, 3)],
    ],
    ids=["everything", "only D-"],
)
def test_a_sentence_of_several_runs(lines, refused):
    refused(lines, "has 1 sentences more than once: 3.")


def test_one_sentence_of_two_runs(refused):
    refused([*block(0, "eins"), *block(0, "uno")], "more than once: 0.", count=1)


def test_all_problems_at_once(refused):
    lines = [*block(0, "▁ein ▁Hund"), *block(0, "x"), *block(7, "x")]
    refused(lines, "3 are missing", "7 are too many", "more than once", "subwords", count=4)


def test_the_references_of_another_split(write):
    """As many as there are sentences, which no number gives away."""
    path = write(printed())
    other = [[f"another {number}" for number in range(5)]]
    message = r"T-0 is '▁target ▁ , ▁0 \.', line 1 of the references is 'another 0'"
    with pytest.raises(OutputError, match=message):
        read_translations(path, other)
    assert read_translations(path, [*other, *references(5)]) == TRANSLATIONS
    some = [references(5)[0][:3] + other[0][3:]]  # 3 of 5, the other 2 may be normalised
    assert read_translations(path, some) == TRANSLATIONS
    unknown = [line.replace("▁target", "<<unk>>") for line in printed()]
    assert read_translations(write(unknown), other) == TRANSLATIONS


def test_output_is_read_without_references_if_the_number_of_sentences_is_known(write):
    path = write(printed())
    assert read_generate_output(path, 5) == TRANSLATIONS
    for count, message in ((6, "1 are missing: 5"), (4, "4 are too many")):
        with pytest.raises(OutputError, match=message):
            read_generate_output(path, count)
    assert read_generate_output(write(block(0, "in ▁pieces .")), 1) == ["in ▁pieces ."]


def test_references_are_known_in_another_form(write):
    """Moses escapes apostrophes, and an accent may be a character of its own."""
    lines = ["T-0\tl &apos; é@@ té d &apos; un", "H-0\t-0.1\tx", "D-0\t-0.1\tL'été d'un"]
    assert read_translations(write(lines), [["L'e\u0301te\u0301 d'un"]]) == ["L'été d'un"]


def test_output_without_translations(refused):
    refused([line for line in printed() if line[0] != "D"], "without its D- lines")


def test_plain_text_of_another_length(refused):
    refused(["a"] * 9, "has 9 lines, the references have 10", count=10)


@pytest.mark.parametrize("content", [b"", b"\n", b"\n \n\n"])
def test_empty_files(content, refused):
    refused(content, "is empty", count=1)


def test_other_encodings(write):
    path = write(b"ein Hund\nein Schl\xe4ger\n")
    for read in (read_text, lambda path: read_translations(path, [])):
        with pytest.raises(
            OutputError, match=r"test\.generate, line 2: not UTF-8 .*Save it as UTF-8"
        ):
            read(path)


def test_files_that_are_not_there(tmp_path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(OutputError, match=f"{path} cannot be read: "):
            read_text(path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("▁ein ▁Schlä ger", "subwords ('▁') left in 1 of 10 lines, first in '▁ein ▁Schlä ger'. "),
        ("▁ein ▁Schlä ger", "with --remove-bpe sentencepiece."),
    ],
)
def test_one_piece_of_sentencepiece_is_enough(line, message, refused, write):
    refused(["ein Hund"] * 9 + [line], message, count=10)
    with pytest.raises(
        OutputError, match=r"left in 1 of 1 lines.* as it was before tokens and subwords"
    ):
        read_text(write([line]))


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("ein Schlä@@ ger", "--remove-bpe."),
        ("ein Schlä@@", "--remove-bpe."),
        ("ein Hund .", "--tokenizer moses --source-lang SRC --target-lang TGT."),
        ("wie geht &apos;s", "--tokenizer moses --source-lang SRC --target-lang TGT."),
        ("&quot; ja &quot;", "--tokenizer moses --source-lang SRC --target-lang TGT."),
        ("drei &#91; vier &#93;", "--tokenizer moses --source-lang SRC --target-lang TGT."),
    ],
)
def test_other_subwords_and_tokens_are_refused_where_they_are_usual(line, remedy, refused, write):
    refused(["ein Hund."] * 8 + [line] * 2, f"fairseq-generate's with {remedy}", count=10)
    rare = ["ein Hund."] * 9 + [line]
    assert read_translations(write(rare), references(10)) == rare


def test_an_address_is_no_subword(write):
    lines = ["a@@b.de", "@@@"] * 5
    assert read_text(write(["x@y.de @ home", *lines[::2]])) == ["x@y.de @ home", *lines[::2]]
