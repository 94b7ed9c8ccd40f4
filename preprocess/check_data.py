"""Check that a binarised fairseq folder, its lists of images and an image store fit together.

    python preprocess/check_data.py DATA [--image-h5 FILE.h5]

Prints a table of the splits and all that is wrong; the exit code is 1 when anything is. An image
that the store lacks is an error unless --image-missing mask says, as in training, that it is meant.
Sentences in a third language, which a teacher reads, must go with those of the pair.
"""

import argparse
import os
import re
import runpy
import sys
from collections import Counter
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Set

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "caf_dkd_plugin" / "quiet_start.py"))

import torch
from fairseq.data import Dictionary, data_utils

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from caf_dkd_plugin.data.dictionaries import first_difference, symbols
from caf_dkd_plugin.data.image_ids import ImageIdsError, in_short, read_image_ids
from caf_dkd_plugin.data.image_store import FEATURES, ImageStoreError
from caf_dkd_plugin.data.joined_stores import Images, open_stores
from caf_dkd_plugin.data.split_images import image_rows

_FILE = re.compile(
    r"(?P<split>.+)\.(?P<source>[^.-]+)-(?P<target>[^.-]+)\.(?P<lang>[^.-]+)\.(?:bin|idx)"
)
EOS = Dictionary().eos()


class Pair(NamedTuple):
    """A split in two languages, as fairseq-preprocess writes it."""

    split: str
    source: str
    target: str

    def prefix(self, data: Path, lang: str) -> str:
        """The binarised files of one side, without their suffixes."""
        return str(data / f"{self.split}.{self.source}-{self.target}.{lang}")


class Report:
    """The table and the problems, as they are found."""

    HEADER = ("split", "pair", "sentences", "lines", "in the store", "missing", "without")

    def __init__(self):
        self.rows: List[Sequence[object]] = [self.HEADER]
        self.problems: List[str] = []
        self.notes: List[str] = []

    def table(self) -> str:
        """The table for people: names to the left, numbers to the right."""
        widths = [max(len(str(cell)) for cell in column) for column in zip(*self.rows)]
        return "\n".join(
            "  ".join(
                str(cell).ljust(width) if place < 2 else str(cell).rjust(width)
                for place, (cell, width) in enumerate(zip(row, widths))
            )
            for row in self.rows
        )


def find_pairs(data: Path) -> List[Pair]:
    """The splits of a folder, train first."""
    found = set()
    for path in data.glob("*.idx"):
        match = _FILE.fullmatch(path.name)
        if match and match["lang"] in (match["source"], match["target"]):
            found.add(Pair(match["split"], match["source"], match["target"]))
    kinds = ("train", "valid", "test")
    return sorted(found, key=lambda pair: ([not pair.split.startswith(k) for k in kinds], pair))


def find_sides(data: Path, pair: Pair) -> List[str]:
    """The other languages in which a split of the folder has sentences."""
    matches = filter(None, (_FILE.fullmatch(path.name) for path in data.iterdir()))
    found = {match["lang"] for match in matches if pair == match.groups()[:3]}
    return sorted(found - {pair.source, pair.target})


def open_sentences(prefix: str, report: Report):
    """fairseq's data set of a binarised file, None when there is none or it is damaged."""
    try:
        dataset = data_utils.load_indexed_dataset(prefix)
    except Exception as error:  # whatever a damaged index leads to
        report.problems.append(f"{prefix}.idx or .bin cannot be read: {error}")
        return None
    if dataset is None:
        report.problems.append(f"{prefix}.idx and .bin are not both there; binarise it again")
    return dataset


def count_sentences(
    data: Path, pair: Pair, dictionaries: Dict[str, Dictionary], report: Report
) -> Optional[int]:
    """The number of sentences of a split, None when its two sides disagree or one is missing."""
    counts = {}
    for lang in (pair.source, pair.target):
        prefix = pair.prefix(data, lang)
        dataset = open_sentences(prefix, report)
        if dataset is None:
            return None
        counts[lang] = len(dataset)
        read_tokens(prefix, lang, dataset, dictionaries.get(lang), report)
    if len(set(counts.values())) > 1:
        numbers = " and ".join(f"{count} of {lang}" for lang, count in counts.items())
        report.problems.append(f"{pair.split} in {data} has {numbers}; binarise it again")
        return None
    return counts[pair.source]


def read_tokens(
    prefix: str, lang: str, dataset, dictionary: Optional[Dictionary], report: Report
) -> List[torch.Tensor]:
    """The tokens of all sentences of a binarised file; none when it is damaged.

    Symbols beyond the dictionary are reported.
    """
    try:
        tokens = [dataset[number] for number in range(len(dataset))]
    except ValueError as error:  # the file ends before its last sentence
        report.problems.append(f"{prefix}.bin cannot be read: {error}")
        return []
    size = len(dictionary) if dictionary else None
    beyond = [line for line, sentence in enumerate(tokens, 1) if size and (sentence >= size).any()]
    if beyond:
        report.problems.append(
            f"{prefix}.bin has symbols beyond the {size} of dict.{lang}.txt in {len(beyond)} sentences "
            f"of {len(tokens)}, the first in line {beyond[0]}; binarise it again, with this dictionary"
        )
    return tokens


def check_images(
    data: Path,
    pair: Pair,
    sentences: Optional[int],
    store: Images,
    missing_is_error: bool,
    report: Report,
) -> Set[str]:
    """Check one split and add its row to the table.

    Returns:
        the ids that its sentences use.
    """
    path = data / f"{pair.split}.images"
    row = [pair.split, f"{pair.source}-{pair.target}", "?" if sentences is None else sentences]
    try:
        ids = read_image_ids(path)
    except ImageIdsError as error:
        report.problems.append(
            f"{error}. It has one image id for each sentence of {pair.split}, on a line, or an empty "
            "line; without it the split can only be used without --image-h5"
        )
        report.rows.append([*row, "-", "-", "-", "-"])
        return set()
    if sentences is not None and len(ids) != sentences:
        report.problems.append(
            f"{path} has {len(ids)} lines, but {pair.split} in {data} has {sentences} sentences"
        )
    _, lacking = image_rows(store, ids, pair.split)
    (report.problems if missing_is_error else report.notes).extend(lacking)
    kinds = Counter("without" if not name else name in store for name in ids)
    report.rows.append([*row, len(ids), kinds[True], kinds[False], kinds["without"]])
    return set(ids)


def check_side(
    data: Path,
    pair: Pair,
    lang: str,
    sentences: Optional[int],
    dictionary: Optional[Dictionary],
    report: Report,
) -> None:
    """Check the sentences of a split that a teacher reads in another language than the student."""
    prefix = pair.prefix(data, lang)
    side = open_sentences(prefix, report)
    if side is None:
        return
    if sentences is not None and len(side) != sentences:
        report.problems.append(
            f"{prefix}.bin has {len(side)} sentences, but {pair.split} in {data} has {sentences}; "
            "binarise it again, from the same lines"
        )
    tokens = read_tokens(prefix, lang, side, dictionary, report)
    empty = [line for line, sentence in enumerate(tokens, 1) if not (sentence != EOS).any()]
    if empty:
        report.problems.append(
            f"{prefix}.bin has {len(empty)} empty sentences of {len(side)}, the first in line "
            f"{empty[0]}, where a teacher has nothing to read; take these lines out of all languages"
        )


def check_dictionaries(
    data: Path, languages: Sequence[str], report: Report
) -> Dict[str, Dictionary]:
    """Note the sizes of the dictionaries, and whether they are the same.

    Returns:
        language: dictionary, of those that can be read.
    """
    found = {}
    for lang in languages:
        path = data / f"dict.{lang}.txt"
        try:
            found[lang] = Dictionary.load(str(path))
        except Exception as error:  # fairseq wraps what int() raises, or lets it through
            report.problems.append(f"{path} is no readable fairseq dictionary: {error!r}")
    sizes = ", ".join(f"{lang} {len(dictionary)} symbols" for lang, dictionary in found.items())
    report.notes.append(f"dictionaries: {sizes or 'none'}")
    if len(found) > 1:
        first, *others = found
        differences = [
            f"{first} and {lang} differ: {difference}"
            for lang in others
            if (difference := first_difference(symbols(found[first]), symbols(found[lang])))
        ]
        report.notes += differences or ["they are the same (one joint dictionary)"]
    return found


def describe_store(store: Images) -> str:
    """What the store holds, in a line."""
    shape = " x ".join(map(str, store.shape[1:]))
    about = store.description
    return f"{store.path}: {len(store)} rows of {store.kind}, {shape} {store.dtype}, " + (
        f"{about.backbone} {about.layer}, weights {about.weights} "
        f"(SHA-256 {about.weights_sha256[:12] or 'unknown'})"
        if store.kind == FEATURES
        else about.preprocessing
    )


def check_all_images(
    args: argparse.Namespace,
    counts: Dict[Pair, Optional[int]],
    store: Images,
    report: Report,
) -> None:
    """Check the images of every split, and what lists and images are for none."""
    used: Set[str] = set()
    for pair, sentences in counts.items():
        used |= check_images(
            args.data, pair, sentences, store, args.image_missing == "error", report
        )
    known = {f"{pair.split}.images" for pair in counts}
    stray = sorted(path.name for path in args.data.glob("*.images") if path.name not in known)
    if stray:
        report.notes.append(f"no split of the folder goes with {', '.join(stray)}")
    unused = [name for name in store.ids if name not in used]
    named = used - {""}
    if named and len(unused) == len(store):
        report.problems.append(
            f"{store.path} has none of the {len(named)} images that the splits name, such as "
            f"{min(named)}; its own are called {in_short(store.ids)}. Is it another store, or one "
            "of pictures in other folders?"
        )
    elif unused:
        report.notes.append(
            f"{len(unused)} of the store's {len(store)} images are unused: {in_short(unused)}"
        )


def check(args: argparse.Namespace) -> Report:
    """Check everything; nothing is written.

    Raises:
        ImageStoreError: the store, or one of several, cannot be opened at all.
    """
    report = Report()
    store = open_stores(args.image_h5.split(os.pathsep)) if args.image_h5 else None
    report.notes.append(describe_store(store) if store else "no --image-h5: images are not checked")
    pairs = find_pairs(args.data)
    if not pairs:
        report.problems.append(f"{args.data} has no binarised split (SPLIT.SRC-TGT.LANG.idx)")
    sides = {pair: find_sides(args.data, pair) for pair in pairs}
    languages = {lang for pair in pairs for lang in (pair.source, pair.target, *sides[pair])}
    dictionaries = check_dictionaries(args.data, sorted(languages), report)
    counts = {pair: count_sentences(args.data, pair, dictionaries, report) for pair in pairs}
    if store:
        check_all_images(args, counts, store, report)
    else:
        report.rows += [
            (pair.split, f"{pair.source}-{pair.target}", count, *"----")
            for pair, count in counts.items()
        ]
    for pair, sentences in counts.items():
        for lang in sides[pair]:
            check_side(args.data, pair, lang, sentences, dictionaries.get(lang), report)
    if store and not args.no_hashes:
        report.problems += store.problems()
    return report


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add = parser.add_argument
    add("data", metavar="DATA", type=Path, help="folder made by fairseq-preprocess")
    add(
        "--image-h5",
        metavar="FILE[:FILE...]",
        help="the image store, or several that are read as one; without it only the text is checked",
    )
    add(
        "--image-missing",
        choices=("error", "mask"),
        default="error",
        help="what an image is that the store lacks, as in training (default: %(default)s)",
    )
    add(
        "--no-hashes",
        action="store_true",
        help="do not read the store's rows, which is what finds NaN and changed bytes",
    )
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    try:
        report = check(parse_args(argv))
    except ImageStoreError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(report.table())
    for note in report.notes:
        print(f"- {note}")
    for problem in report.problems:
        print(f"error: {problem}", file=sys.stderr)
    print("no problems" if not report.problems else f"{len(report.problems)} problems")
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
