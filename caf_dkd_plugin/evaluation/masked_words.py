"""The words that were masked in the source text, and which of them a translation has right.

After Caglayan et al. 2019, *Probing the Need for Visual Context in Multimodal Machine Translation*.
`preprocess/mask_source.py` writes, for each split, one JSON object a line, in the order of the
sentences:

    {"line": 0, "masked": [{"source": "red", "target": ["rot", "rote", "roten"]}]}

`source` is the word as it stood in the sentence, `target` are the words that count as its
translation. A sentence without such a word has an empty list.
"""

import json
import re
import unicodedata
from collections import Counter
from pathlib import Path
from typing import List, NamedTuple, Sequence, Tuple

WORD = re.compile(r"[\w\u0300-\u036F]+")
"""letters, accents, digits and underscores; a hyphen or an apostrophe ends a word"""

SHOWN = 5
"""how many wrong lines an error shows"""


class MaskedWord(NamedTuple):
    """A word that the source text no longer says."""

    source: str
    """as it stood there"""
    target: Tuple[str, ...]
    """words of the target language, each of which translates it"""


class MaskedWordsError(ValueError):
    """The file is not a list of masked words; the message says which line is wrong."""


def folded(word: str) -> str:
    """A word of a text in small letters but for the first; ß as ss, accents composed."""
    small = unicodedata.normalize("NFC", word.casefold())
    return small[0].upper() + small[1:] if word[0].isupper() else small


def spellings(form: str) -> Tuple[str, str]:
    """The folded words that a form of a list stands for: itself, and itself with a capital.

    One in small letters is for words with and without a capital, one with a capital only for those
    with: German *Junge* is a boy, *junge* young.
    """
    word = folded(form)
    return word, word[0].upper() + word[1:]


def read_masked_words(path: Path, lines: int) -> List[List[MaskedWord]]:
    """The masked words of each sentence of a split.

    Args:
        path: a file of `preprocess/mask_source.py`.
        lines: how many sentences the split has.

    Raises:
        MaskedWordsError: the file cannot be read, has another number of lines, or lines of it are
            not what they should be.
    """
    try:
        content = Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise MaskedWordsError(f"{path} cannot be read: {error}") from error
    records = content.removesuffix("\n").split("\n") if content else []
    if len(records) != lines:
        raise MaskedWordsError(
            f"{path} has {len(records)} lines, but there are {lines} sentences. Give the file of the "
            "split that is translated."
        )
    found, problems = [], []
    for number, record in enumerate(records):
        try:
            found.append(_parse(record, number))
        except ValueError as error:
            problems.append(f"{path}, line {number + 1}: {error}")
    if problems:
        more = [f"and {len(problems) - SHOWN} more such lines"] if len(problems) > SHOWN else []
        raise MaskedWordsError("\n".join(problems[:SHOWN] + more))
    return found


def write_masked_words(path: Path, masked: Sequence[Sequence[MaskedWord]]) -> None:
    """Write a file that :func:`read_masked_words` reads back."""
    records = [
        {"line": number, "masked": [word._asdict() for word in words]}
        for number, words in enumerate(masked)
    ]
    content = "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    Path(path).write_bytes(content.encode("utf-8"))


def right_words(
    hypotheses: Sequence[str], masked: Sequence[Sequence[MaskedWord]]
) -> List[List[bool]]:
    """Which masked words a translation has.

    A masked word is right where one of its target words is in the hypothesis, as a whole word,
    wherever it stands (:func:`spellings` says what capitals matter). A word of the hypothesis counts
    once: where two reds were masked, one "rot" makes only the first of them right.

    Args:
        hypotheses: N lines, detokenised.
        masked: the masked words of each.

    Raises:
        ValueError: the numbers of lines differ; both are named.
    """
    if len(hypotheses) != len(masked):
        raise ValueError(
            f"{len(hypotheses)} hypotheses, but masked words of {len(masked)} sentences: they must be "
            "the same sentences"
        )
    return [_right_in(hypothesis, words) for hypothesis, words in zip(hypotheses, masked)]


def _right_in(hypothesis: str, words: Sequence[MaskedWord]) -> List[bool]:
    left = Counter(map(folded, WORD.findall(hypothesis)))
    right = []
    for word in words:
        accepted = (spelling for form in word.target for spelling in spellings(form))
        used = next((spelling for spelling in accepted if left[spelling]), None)
        right.append(used is not None)
        if used is not None:
            left[used] -= 1
    return right


def _parse(record: str, number: int) -> List[MaskedWord]:
    """The masked words of a line; a ValueError says what is wrong with it."""
    content = json.loads(record)
    if not isinstance(content, dict) or not isinstance(content.get("masked"), list):
        raise ValueError('not of the form {"line": 0, "masked": [...]}')
    if content.get("line") != number:
        raise ValueError(
            f'"line" is {content.get("line")!r}, not {number}: lines are missing or moved'
        )
    return [_parse_word(word) for word in content["masked"]]


def _parse_word(word: object) -> MaskedWord:
    source, target = (word.get("source"), word.get("target")) if isinstance(word, dict) else (0, 0)
    if not isinstance(source, str) or not isinstance(target, list) or not target:
        raise ValueError(f'{word} is not of the form {{"source": "red", "target": ["rot", ...]}}')
    wrong = [form for form in target if not (isinstance(form, str) and WORD.fullmatch(form))]
    if wrong:
        raise ValueError(f"{wrong[0]!r} is no single word, so no translation could have it")
    return MaskedWord(source, tuple(target))
