"""What fairseq-generate and fairseq-interactive print of each sentence, and whether it can be used.

They print, in an order of their own, for sentence N of their input, counted from zero::

    S-N <TAB> the sentence that was read, in pieces or not
    H-N <TAB> score <TAB> a hypothesis, as the model said it
    D-N <TAB> score <TAB> the same, decoded by --bpe and --tokenizer

with H- and D- for each of the --nbest hypotheses.
"""

import html
import re
import unicodedata
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Sequence, Tuple

from caf_dkd_plugin.data.image_ids import in_short

UNKNOWN = "<unk>"
"""a token that is not in the dictionary"""

_SOURCE = re.compile(r"S-(?P<number>\d+)\t(?P<text>.*)")
_HYPOTHESIS = re.compile(r"(?P<kind>[HD])-(?P<number>\d+)\t(?P<score>-?\d\S*|-inf)\t(?P<text>.*)")


class Hypothesis(NamedTuple):
    """One translation of a sentence."""

    score: float
    """the higher the better"""
    tokens: str
    """of H-"""
    text: str
    """of D-"""


class Translated(NamedTuple):
    """What was printed of one sentence."""

    source: str
    hypotheses: List[Hypothesis]


Translations = Dict[int, Translated]
"""by the number of the sentence"""


def parse(lines: Iterable[str]) -> Tuple[Translations, List[int]]:
    """All sentences among printed lines; and the numbers of those that are there twice."""
    found: Translations = {}
    tokens: Dict[int, str] = {}
    twice = []
    for line in lines:
        source, hypothesis = _SOURCE.fullmatch(line), _HYPOTHESIS.fullmatch(line)
        if source:
            number = int(source["number"])
            if number in found:
                twice.append(number)
            found[number] = Translated(source["text"], [])
        elif hypothesis:
            number, text = int(hypothesis["number"]), hypothesis["text"]
            if hypothesis["kind"] == "H":
                tokens[number] = text
            elif number in found and number in tokens:
                score = float(hypothesis["score"])
                found[number].hypotheses.append(Hypothesis(score, tokens[number], text))
    return found, twice


def completeness_problems(translations: Translations, sentences: int, path: Path) -> List[str]:
    """Has every sentence of a file a translation, and is there none besides?"""
    lacking = [
        number
        for number in range(sentences)
        if number not in translations or not translations[number].hypotheses
    ]
    extra = sorted(number for number in translations if number >= sentences)
    problems = []
    if lacking:
        problems.append(
            f"{len(lacking)} of the {sentences} sentences of {path} have no translation (S-, H- and "
            f"D-): {in_lines(lacking)}. Was the command stopped, did it leave out long sentences, or "
            "is this only a part of what it printed?"
        )
    if extra:
        problems.append(
            f"{path} has {sentences} sentences, but {len(extra)} more were translated: "
            f"{in_lines(extra)}. Give the file that was translated."
        )
    return problems


def source_problems(translations: Translations, sentences: List[str], path: Path) -> List[str]:
    """Are these the sentences that were translated?"""
    other = [
        number
        for number, sentence in enumerate(sentences)
        if number in translations and not is_source(translations[number].source, sentence)
    ]
    if not other:
        return []
    first = other[0]
    return [
        f"{len(other)} of the {len(sentences)} sentences of {path} are not those that were "
        f"translated: {in_lines(other)}. Line {first + 1} is {sentences[first]!r}, but S-{first} is "
        f"{translations[first].source!r}. Give the file that was translated."
    ]


def is_source(printed: str, sentence: str) -> bool:
    """Whether S- shows this sentence, by its letters and digits; an unknown token may be anything."""
    pattern = ".*".join(re.escape(_letters(part)) for part in printed.split(UNKNOWN))
    return re.fullmatch(pattern, _letters(sentence)) is not None


def _letters(text: str) -> str:
    """What all normalisation, tokenisation and splitting into pieces leave of a text."""
    whole = html.unescape(re.sub(r"\s|▁|@@", "", text))  # a piece may end within &amp;
    plain = unicodedata.normalize("NFKD", whole).casefold()
    return "".join(character for character in plain if character.isalnum())


def text_problems(hypotheses: Sequence[Hypothesis]) -> List[str]:
    """Are these, one of each sentence, text with its spaces and without unknown words?"""
    problems = []
    pieces = [n for n, one in enumerate(hypotheses) if "▁" in one.text or "@@ " in one.text]
    if pieces:
        problems.append(
            f"{len(pieces)} translations are still in pieces: {in_lines(pieces)}. Translate with "
            "--bpe or --remove-bpe."
        )
    if (
        any(" " in one.tokens for one in hypotheses)
        and not any("▁" in one.tokens for one in hypotheses)
        and all(one.text == one.tokens.replace(" ", "") for one in hypotheses)
    ):
        problems.append(
            "the translations have lost their spaces, as they do when both --bpe and --remove-bpe are "
            "given. Translate with one of them."
        )
    unknown = [number for number, one in enumerate(hypotheses) if UNKNOWN in one.text]
    if unknown:
        problems.append(
            f"{len(unknown)} translations hold {UNKNOWN}: {in_lines(unknown)}. Translate with "
            "--unkpen 100, which keeps the teacher from saying it."
        )
    return problems


def in_lines(numbers: Sequence[int]) -> str:
    """Where some sentences are, for a message: the first of their lines, counted from one."""
    word = "line" if len(numbers) == 1 else "lines"
    return f"{word} {in_short([str(number + 1) for number in numbers])}"
