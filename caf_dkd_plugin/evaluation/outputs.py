"""A system's translations in a file: what fairseq-generate printed, or plain text.

fairseq-generate prints, in an order of its own, of sentence N of the split, counted from zero::

    S-N <TAB> the sentence that was read
    T-N <TAB> its translation in the split
    H-N <TAB> score <TAB> a hypothesis, as the model said it
    D-N <TAB> score <TAB> the same, detokenised

with H- and D- for each of the --nbest hypotheses, the best first. Its log may stand in between.
"""

import codecs
import html
import re
import unicodedata
from pathlib import Path
from typing import Dict, List, Mapping, NamedTuple, Optional, Sequence

from ..data.image_ids import in_short

PIECE = "▁"
"""with which SentencePiece begins a word"""
CONTINUED = re.compile(r"@@( |$)")
"""what subword-nmt leaves between the pieces of a word"""
ESCAPED = re.compile(r"&(amp|apos|quot|lt|gt|#91|#93|#124);")
"""what the Moses tokeniser writes in place of some characters"""
MOSES = "--tokenizer moses --source-lang SRC --target-lang TGT"
"""what fairseq-generate needs to put Moses' tokens together; without the languages hydra stops it"""
TOLERATED = 0.1
"""share of the lines that may look like this without being subwords, tokens or escapes"""
UNKNOWN = "<unk>"
FOREIGN = 0.5
"""share of a split's translations that may have other letters than the references"""
SHOWN = 60
"""characters of a line in a message"""

_PRINTED = re.compile(r"(?P<kind>[STHD])-(?P<number>\d+)\t(?P<text>.*)")
_TRANSLATION = re.compile(r"D-(?P<number>\d+)\t[^\t]*\t(?P<text>.*)")


class OutputError(ValueError):
    """Text cannot be scored; the message has what is wrong, one line each."""


class Leftover(NamedTuple):
    """A sign that lines are not text as it is written, but what a model reads or says."""

    what: str
    """what is left, in how many lines, and the first of them"""
    remedy: str
    """fairseq-generate's option that takes it out"""


def read_lines(path: Path) -> List[str]:
    """The lines of a text file. They end at a line feed, with or without a carriage return, and nowhere
    else.

    Raises:
        OutputError: it cannot be read, is empty, or is not UTF-8.
    """
    try:
        content = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise OutputError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise OutputError(f"{path}, line {line}: not UTF-8 ({error}). Save it as UTF-8.") from error
    if not text.strip():
        raise OutputError(f"{path} is empty")
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_text(path: Path) -> List[str]:
    """The lines of a plain text file, such as references.

    Raises:
        OutputError: it cannot be read, is empty, is not UTF-8, or its text is not detokenised.
    """
    lines = read_lines(path)
    problems = [
        f"{path} has {left.what}. Give text as it was before tokens and subwords were made of it."
        for left in leftovers(lines)
    ]
    if problems:
        raise OutputError("\n".join(problems))
    return lines


def read_translations(path: Path, references: Sequence[Sequence[str]]) -> List[str]:
    """The translations of the N sentences of a test set, in its order; the best of each.

    Args:
        path: output of fairseq-generate, saved or of --results-path, or one translation a line;
            which of them is seen by its content.
        references: lists of N lines each, such as :func:`read_text` gives; none where they cannot be
            read.

    Raises:
        OutputError: as :func:`read_text` does, or there is not one translation for each sentence, or
            fairseq-generate had other sentences.
    """
    lines = read_lines(path)
    count = len(references[0]) if references else None
    if any(_PRINTED.match(line) for line in lines):
        printed = _parse(lines)
        problems = _completeness_problems(printed, path, count)
        problems += _foreign_problems(printed, path, references)
        translations = [printed.best[number] for number in sorted(printed.best)]
    else:
        problems = []
        translations = lines
        if count not in (None, len(lines)):
            problems = [
                f"{path} has {len(lines)} lines, the references have {count}: they must be the same "
                "sentences, in the same order"
            ]
    problems += _text_problems(translations, path)
    if problems:
        raise OutputError("\n".join(problems))
    return translations


def read_generate_output(path: Path, count: int) -> List[str]:
    """What fairseq-generate has printed as the translations of a split, in its order; the best of each.

    Args:
        path: its saved output.
        count: N, the sentences of the split.

    Raises:
        OutputError: as :func:`read_lines` does, or there is not one translation for each sentence.
    """
    printed = _parse(read_lines(path))
    problems = _completeness_problems(printed, path, count)
    if problems:
        raise OutputError("\n".join(problems))
    return [printed.best[number] for number in range(count)]


def foreign_sentences(targets: Mapping[int, str], references: Sequence[Sequence[str]]) -> List[int]:
    """Which sentences have other letters than the references, where that is no exception.

    Args:
        targets: by its number, the translation that a split has of a sentence, in any form.
        references: lists of N lines each.

    Returns:
        their numbers; none where most sentences are those of the references.
    """
    comparable, foreign = 0, []
    for number, target in sorted(targets.items()):
        known = [_letters(lines[number]) for lines in references if number < len(lines)]
        if known and UNKNOWN not in target:
            comparable += 1
            if _letters(target) not in known:
                foreign.append(number)
    return foreign if len(foreign) > FOREIGN * comparable else []


def leftovers(lines: Sequence[str]) -> List[Leftover]:
    """What must not be left in text that is scored; nothing of what only few lines have."""
    left = []
    for signs, what, remedy, tolerated in (
        (
            [PIECE in line for line in lines],
            f"subwords ({PIECE!r})",
            "--remove-bpe sentencepiece",
            0,
        ),
        ([CONTINUED.search(line) for line in lines], "subwords ('@@ ')", "--remove-bpe", TOLERATED),
        ([line.endswith(" .") for line in lines], "tokens (' .')", MOSES, TOLERATED),
        (
            [ESCAPED.search(line) for line in lines],
            "escapes ('&apos;')",
            MOSES,
            TOLERATED,
        ),
    ):
        found = [line for line, sign in zip(lines, signs) if sign]
        if len(found) > tolerated * len(lines):
            number = f"{len(found)} of {len(lines)} lines"
            left.append(Leftover(f"{what} left in {number}, first in {found[0][:SHOWN]!r}", remedy))
    return left


class _Printed(NamedTuple):
    """What fairseq-generate printed."""

    best: Dict[int, str]
    """the first D- of each sentence"""
    targets: Dict[int, str]
    """T- of each sentence, where the split has its translation"""
    repeated: List[int]
    """the sentences that were translated more than once"""


def _parse(lines: Sequence[str]) -> _Printed:
    best: Dict[int, str] = {}
    targets: Dict[int, str] = {}
    sources, repeated = set(), set()
    last = None
    for line in lines:
        printed, translation = _PRINTED.fullmatch(line), _TRANSLATION.fullmatch(line)
        number = int(printed["number"]) if printed else None
        if printed and printed["kind"] == "S":
            if number in sources:
                repeated.add(number)
            sources.add(number)
        elif printed and printed["kind"] == "T":
            targets[number] = printed["text"]
        elif translation:
            if number not in best:
                best[number] = translation["text"]
            elif number != last:  # those of --nbest follow each other
                repeated.add(number)
            last = number
    return _Printed(best, targets, sorted(repeated))


def _completeness_problems(printed: _Printed, path: Path, count: Optional[int]) -> List[str]:
    best, repeated = printed.best, printed.repeated
    if not best:
        return [
            f"{path} is fairseq-generate's output without its D- lines, which have the detokenised "
            "translations. Give all that it printed."
        ]
    problems = []
    expected = max(best) + 1 if count is None else count
    lacking = [number for number in range(expected) if number not in best]
    surplus = sorted(number for number in best if number >= expected)
    if lacking:
        problems.append(
            f"{path} has translations of {len(best) - len(surplus)} of the {expected} sentences; "
            f"{len(lacking)} are missing: {_numbers(lacking)}. Was fairseq-generate stopped, or did it "
            "leave out long sentences (--skip-invalid-size-inputs-valid-test)?"
        )
    if surplus:
        problems.append(
            f"{path} has translations of {len(best)} sentences, the references have {expected} lines: "
            f"{_numbers(surplus)} are too many. Give the references of the split that was translated."
        )
    if repeated:
        problems.append(
            f"{path} has {len(repeated)} sentences more than once: {_numbers(repeated)}. It may hold "
            "the output of several runs; give each run's own file."
        )
    return problems


def _foreign_problems(
    printed: _Printed, path: Path, references: Sequence[Sequence[str]]
) -> List[str]:
    """Does fairseq-generate's split have other translations than the references?"""
    foreign = foreign_sentences(printed.targets, references)
    if not foreign:
        return []
    first = foreign[0]
    return [
        f"{path} has translations of other sentences than the references: T-{first} is "
        f"{printed.targets[first][:SHOWN]!r}, line {first + 1} of the references is "
        f"{references[0][first][:SHOWN]!r}. Give the references of the split that was translated."
    ]


def _letters(text: str) -> str:
    """What tokens, subwords, Moses' escapes and lower case leave of a text."""
    whole = html.unescape(re.sub(r"\s|▁|@@", "", text))  # a subword may end within &apos;
    plain = unicodedata.normalize("NFKD", whole).casefold()
    return "".join(letter for letter in plain if letter.isalnum())


def _text_problems(lines: Sequence[str], path: Path) -> List[str]:
    return [
        f"{path} has {left.what}. Give text as it is written: fairseq-generate's with {left.remedy}."
        for left in leftovers(lines)
    ]


def _numbers(numbers: Sequence[int]) -> str:
    """Sentences by fairseq's numbers, the first of them."""
    return in_short([str(number) for number in numbers])
