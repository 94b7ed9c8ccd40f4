"""Make new source sentences of given ones: words of a list in the place of their own.

    python preprocess/substitute_words.py --text text/train.en --words-from all/train.en --output new.en

For each sentence, as often as --copies says, a share is drawn, evenly between 0 and --max-share; each
word gives way with this probability to one of the list, drawn in proportion to the square root of its
count. The most frequent words (--keep) stay, and with them most of the grammar. What comes out makes
little sense, but a teacher's translations of it show how every word of the list is translated.

Sentences that are there already, among the given or the new ones, are left out. The same input and
--seed give the same bytes.
"""

import argparse
import bisect
import itertools
import math
import os
import random
import re
import runpy
import sys
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "caf_dkd_plugin" / "quiet_start.py"))

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from multi30k_release import read_lines
from preparation_error import PreparationError, exit_code

from caf_dkd_plugin.command_line import destination_problems, not_negative, positive
from caf_dkd_plugin.whole_file import whole_file

COPIES = 60
MARKS = "".join(
    sign for sign in map(chr, range(0x300, 0x20000)) if unicodedata.category(sign)[0] == "M"
)
"""accents and vowel signs, which are parts of words"""
LETTERS = rf"[^\W\d_](?:[^\W\d_]|[{MARKS}])*"
WORD = re.compile(rf"{LETTERS}(?:['\u2019-]{LETTERS})*")
"""letters of any script; an apostrophe or a hyphen within belongs to a word: "T-shirt" is one"""


class WordList(NamedTuple):
    """The words that come in, and those that stay."""

    words: List[str]
    """as they are written within a sentence"""
    cumulative: List[float]
    """of each word, the weights of all words up to it"""
    kept: Set[str]
    """in small letters"""

    def draw(self, generator: random.Random) -> str:
        """A word, by its weight."""
        point = generator.random() * self.cumulative[-1]
        return self.words[bisect.bisect(self.cumulative, point, 0, len(self.words) - 1)]


def list_words(lines: Sequence[str], keep: int, min_count: int) -> WordList:
    """The words of a text, in upper and lower case taken together.

    Args:
        lines: the text.
        keep: how many of the most frequent words stay where they are.
        min_count: how often a word must be there to be one of the list.
    """
    counts: Counter = Counter()
    spellings: Dict[str, Counter] = defaultdict(Counter)
    for line in lines:
        for place, word in enumerate(WORD.findall(line)):
            counts[word.lower()] += 1
            if place:  # a first word has its capital from its place
                spellings[word.lower()][word] += 1
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    chosen = [word for word in ordered if counts[word] >= min_count]
    written = [
        min(spellings[word] or [word], key=lambda one: (-spellings[word][one], one))
        for word in chosen
    ]
    weights = (math.sqrt(counts[word]) for word in chosen)
    return WordList(written, list(itertools.accumulate(weights)), set(ordered[:keep]))


def substitute(sentence: str, share: float, words: WordList, generator: random.Random) -> str:
    """A sentence in which each word that may give way does so with the probability `share`.

    Where a capital stood there is one again.
    """

    def replace(match):
        word = match[0]
        if word.lower() in words.kept or generator.random() >= share:
            return word
        drawn = words.draw(generator)
        return drawn[0].upper() + drawn[1:] if word[0].isupper() else drawn

    return WORD.sub(replace, sentence)


def new_sentences(
    sentences: Sequence[str], words: WordList, copies: int, max_share: float, seed: int
) -> List[str]:
    """All that are new, copy by copy, in the order of the given ones."""
    generator = random.Random(seed)
    known = dict.fromkeys(sentences)
    given = len(known)
    for _ in tqdm(range(copies), desc="substituting", unit="copy"):
        for sentence in sentences:
            share = generator.random() * max_share
            known.setdefault(substitute(sentence, share, words, generator))
    return list(known)[given:]


class Inputs(NamedTuple):
    """What was read and found good."""

    sentences: List[str]
    words: WordList


def read_inputs(args: argparse.Namespace) -> Inputs:
    """Read and check everything that the command line names.

    Raises:
        PreparationError: all that is wrong.
    """
    problems = destination_problems("--output", args.output)
    if os.path.realpath(args.output) in map(os.path.realpath, (args.text, args.words_from)):
        problems.append(f"--output {args.output} is the text that is read; give another file")
    if not 0 < args.max_share <= 1:
        problems.append(f"--max-share {args.max_share} is not above 0 and at most 1")

    def read(option: str, path: Path) -> List[str]:
        try:
            lines = read_lines(path)
        except PreparationError as error:
            problems.extend(f"{option} {problem}" for problem in error.problems)
            return []
        if not any(map(WORD.search, lines)):
            problems.append(f"{option} {path} has no words in its {len(lines)} lines")
            return []
        return lines

    sentences, listed = read("--text", args.text), read("--words-from", args.words_from)
    words = list_words(listed, args.keep, args.min_count)
    if listed and not words.words:
        problems.append(
            f"--words-from {args.words_from} has no word --min-count {args.min_count} times"
        )
    if listed and sentences:
        found = {word.lower() for line in sentences for word in WORD.findall(line)}
        if found <= words.kept:
            problems.append(
                f"--text {args.text} has no word that may give way: all {len(found)} are among the "
                f"--keep {args.keep} most frequent ones of {args.words_from}"
            )
    if problems:
        raise PreparationError(problems)
    return Inputs(sentences, words)


def write_sentences(args: argparse.Namespace) -> None:
    """Do what the command line says and print what was done.

    Raises:
        PreparationError: all that is wrong with the input; or the output is there, and other.
    """
    sentences, words = read_inputs(args)
    found = new_sentences(sentences, words, args.copies, args.max_share, args.seed)
    content = "".join(f"{sentence}\n" for sentence in found).encode("utf-8")
    if args.output.exists() and not args.overwrite and args.output.read_bytes() != content:
        raise PreparationError(
            [
                f"--output {args.output} is there with other content. Give another file, or replace "
                "this one with --overwrite."
            ]
        )
    with whole_file(args.output) as partial:
        partial.write_bytes(content)
    made = args.copies * len(sentences)
    print(
        f"wrote {args.output}: {len(found)} sentences, of {len(sentences)} with a list of "
        f"{len(words.words)} words; {made - len(found)} of {made} were there already and are left out"
    )


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )

    def file(option, **settings):
        parser.add_argument(option, metavar="FILE", type=Path, required=True, **settings)

    file("--text", help="raw sentences, one a line")
    file("--words-from", help="raw text whose words come in, by their counts in it")
    file("--output", help="the file to write")
    add = parser.add_argument
    add("--copies", metavar="N", type=positive, default=COPIES, help="how often each is varied")
    add("--max-share", metavar="P", type=float, default=0.8, help="of the words that give way")
    add(
        "--keep",
        metavar="N",
        type=not_negative,
        default=60,
        help="the so many most frequent words of --words-from stay",
    )
    add(
        "--min-count",
        metavar="N",
        type=positive,
        default=2,
        help="words that are rarer in --words-from do not come in",
    )
    add("--seed", metavar="N", type=int, default=1, help="of what is drawn")
    add("--overwrite", action="store_true", help="replace an output of other input")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    args = parse_args(argv)
    return exit_code(lambda: write_sentences(args), args.output)


if __name__ == "__main__":
    sys.exit(main())
