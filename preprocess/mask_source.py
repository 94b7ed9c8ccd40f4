"""Mask words in the source text, so that only the picture says them (Caglayan et al. 2019).

    python preprocess/mask_source.py --root MULTI30K --source en --target de --mask colours --output DIR
    python preprocess/mask_source.py --text text/train text/valid text/test --source en --target de \\
        --mask colours people --output DIR

Each word of the lists word_lists/NAME.tsv (--mask) or of your own (--words FILE) becomes the
placeholder, the same for all; everything else stays as it was. Words are matched whole, in upper and
lower case; of "dark-blue" only "blue" is masked. Written are

    text/SPLIT.en               the source text, masked
    text/SPLIT.de ...           the other languages, as they were
    text/SPLIT.images           the image ids, where there are any
    text/SPLIT.masked.jsonl     the masked words that can be scored: those that the target text has
    images                      of --root: a link to the photographs
    splits.tsv, concepts.tsv    how many words were masked, and how many of them can be scored
    settings.json               what it was made from; written last

Where the splits are called as in Multi30k (train, val, test_2016_flickr ...), DIR can be given to
prepare_multi30k.py as its --root. The placeholder is a plain word: sentencepiece makes it one piece of
a model that is trained on the masked text, and a few pieces of another model.
"""

import argparse
import hashlib
import json
import runpy
import sys
from collections import Counter
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "caf_dkd_plugin" / "quiet_start.py"))

from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from finished_folder import TEXT, in_the_making, is_finished, own_input_problems
from multi30k_release import Split, find_layout, languages_of, read_lines, read_splits
from preparation_error import PreparationError, exit_code
from word_lists import Concept, read_word_lists, shipped_lists

from caf_dkd_plugin.data.image_ids import ImageIdsError, read_image_ids, write_image_ids
from caf_dkd_plugin.evaluation.masked_words import (
    WORD,
    MaskedWord,
    folded,
    right_words,
    spellings,
    write_masked_words,
)

PLACEHOLDER = "vvv"
LINK = "images"
"""to the photographs, where find_layout looks for them"""


class MaskedSplit(NamedTuple):
    """A split whose source text is masked; all lists have one entry for each sentence."""

    split: Split
    masked: List[List[MaskedWord]]
    """the words that were masked"""
    scorable: List[List[MaskedWord]]
    """those of them that the target text has"""


def translations(concepts: Sequence[Concept], source: str, target: str) -> Dict[str, Tuple]:
    """The target words of each source word, by all its spellings."""
    return {
        spelling: concept[target]
        for concept in concepts
        for form in concept[source]
        for spelling in spellings(form)
    }


def mask_sentence(
    sentence: str, target_words: Dict[str, Tuple], placeholder: str
) -> Tuple[str, List[MaskedWord]]:
    """A sentence with placeholders, and the words that stood in their place, in this order."""
    masked = []

    def replace(match):
        target = target_words.get(folded(match[0]))
        if target is None:
            return match[0]
        masked.append(MaskedWord(match[0], target))
        return placeholder

    return WORD.sub(replace, sentence), masked


def mask_split(
    split: Split, source: str, target: str, target_words: Dict[str, Tuple], placeholder: str
) -> MaskedSplit:
    """A split with its source text masked."""
    pairs = [mask_sentence(line, target_words, placeholder) for line in split.text[source]]
    masked = [words for _, words in pairs]
    in_target = right_words(split.text[target], masked)
    scorable = [
        [word for word, there in zip(words, right) if there]
        for words, right in zip(masked, in_target)
    ]
    text = {**split.text, source: [line for line, _ in pairs]}
    return MaskedSplit(Split(split.name, text, split.image_ids), masked, scorable)


def read_root(root: Path, pair: Sequence[str]) -> Tuple[List[Split], List[str]]:
    """The splits of a Multi30k in all languages, and in words what is left out."""
    others = [lang for lang in languages_of(root) if lang not in pair]
    return read_splits(root, pair, others, train_only=[])


def read_texts(prefixes: Sequence[Path], pair: Sequence[str]) -> Tuple[List[Split], List[str]]:
    """The splits PREFIX.LANG with their PREFIX.images, where there are any; nothing is left out.

    Raises:
        PreparationError: all that is wrong with the files.
    """
    splits, problems = [], []
    for prefix in prefixes:
        images = Path(f"{prefix}.images")
        try:
            text = {lang: read_lines(Path(f"{prefix}.{lang}")) for lang in pair}
            ids = read_image_ids(images) if images.is_file() else None
        except (PreparationError, ImageIdsError) as error:
            problems.append(str(error))
            continue
        counts = {f"{prefix}.{lang}": len(lines) for lang, lines in text.items()}
        if ids is not None:
            counts[str(images)] = len(ids)
        if len(set(counts.values())) > 1:
            numbers = ", ".join(f"{path} has {count}" for path, count in counts.items())
            problems.append(f"the lines of {prefix} do not belong together: {numbers}")
        splits.append(Split(prefix.name, text, ids))
    twice = [
        name for name, count in Counter(prefix.name for prefix in prefixes).items() if count > 1
    ]
    if twice:
        problems.append(
            f"--text names two files {' and two files '.join(twice)}; rename one of them"
        )
    if problems:
        raise PreparationError(problems)
    return splits, []


def read_inputs(args: argparse.Namespace) -> Tuple[List[Split], List[Concept], List[str]]:
    """The splits, the lists, and in words what is left out.

    Raises:
        PreparationError: all that is wrong with the command line and the files.
    """
    problems = []
    pair = [args.source, args.target]

    def attempt(function, *arguments):
        try:
            return function(*arguments)
        except PreparationError as error:
            problems.extend(error.problems)
            return None

    if args.source == args.target:
        problems.append(f"--source and --target are both {args.source}")
    if not args.mask and not args.words:
        problems.append("nothing to mask: give --mask NAME or --words FILE")
    if not WORD.fullmatch(args.placeholder):
        problems.append(f"--placeholder {args.placeholder!r} is not one word of letters and digits")
    paths = [*(shipped_lists()[name] for name in args.mask), *args.words]
    concepts = attempt(read_word_lists, paths, pair) or []
    read = (
        attempt(read_root, args.root, pair) if args.root else attempt(read_texts, args.text, pair)
    )
    splits, left_out = read or ([], [])
    if read:
        read_in = [find_layout(args.root).text] if args.root else [p.parent for p in args.text]
        problems += own_input_problems(args.output, read_in)
    problems += [
        f"{split.name} has no lines in {args.source}; there is nothing to mask"
        for split in splits
        if not len(split)
    ]
    if not problems:
        problems += _placeholder_problems(args, splits, concepts)
    if problems:
        raise PreparationError(problems)
    return splits, concepts, left_out


def _placeholder_problems(
    args: argparse.Namespace, splits: Sequence[Split], concepts: Sequence[Concept]
) -> List[str]:
    """Where the placeholder is a word already."""
    option, own = f"--placeholder {args.placeholder}", spellings(args.placeholder)
    found = []
    if set(own) & set(translations(concepts, args.source, args.target)):
        found.append(f"{option} is a word of the lists; choose another")
    for split in splits:
        lines = [
            number
            for number, line in enumerate(split.text[args.source], 1)
            if any(folded(word) in own for word in WORD.findall(line))
        ]
        if lines:
            found.append(
                f"{option} is a word of {len(lines)} lines of {split.name} in {args.source}, first of "
                f"line {lines[0]}. Is this text masked already? Mask the original, with all lists at "
                "once; or choose another placeholder."
            )
    return found


def mask(args: argparse.Namespace) -> None:
    """Do what the command line says and print what was done."""
    splits, concepts, left_out = read_inputs(args)
    content = [[[split.name, split.text, split.image_ids] for split in splits], concepts]
    settings = {
        "source": args.source,
        "target": args.target,
        "placeholder": args.placeholder,
        "inputs_sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest(),
    }
    if is_finished(args.output, settings, args.overwrite):
        print(f"{args.output} is already masked like this. Nothing to do.")
        return
    target_words = translations(concepts, args.source, args.target)
    with in_the_making(args.output, settings) as partial:
        (partial / TEXT).mkdir()
        done = [
            mask_split(split, args.source, args.target, target_words, args.placeholder)
            for split in tqdm(splits, desc="masking", unit="split")
        ]
        for one in done:
            _write(partial / TEXT, one)
        table = _split_table(done)
        (partial / "splits.tsv").write_text(_as_tsv(table), "utf-8")
        by_concept = _concept_table(done, concepts, args.source, args.target)
        (partial / "concepts.tsv").write_text(_as_tsv(by_concept), "utf-8")
        if args.root:
            _link_pictures(partial, args)
    print(f"wrote {args.output}, with {args.placeholder} for each masked word")
    for name, *numbers in table:
        print(f"{name:18}" + "".join(f"{number:>16}" for number in numbers))
    for line in left_out:
        print(line)


def _write(folder: Path, one: MaskedSplit) -> None:
    split = one.split
    for lang, lines in split.text.items():
        content = "".join(f"{line}\n" for line in lines)
        (folder / f"{split.name}.{lang}").write_bytes(content.encode("utf-8"))
    if split.image_ids is not None:
        write_image_ids(folder / f"{split.name}.images", split.image_ids)
    write_masked_words(folder / f"{split.name}.masked.jsonl", one.scorable)


def _link_pictures(folder: Path, args: argparse.Namespace) -> None:
    """Link the photographs of --root, unless the output has a folder of its own for them."""
    pictures, there = find_layout(args.root).pictures.resolve(), args.output / LINK
    if pictures.is_dir() and (there.is_symlink() or not there.exists()):
        (folder / LINK).symlink_to(pictures, target_is_directory=True)


def _split_table(done: Sequence[MaskedSplit]) -> List[List]:
    table = [["split", "lines", "masked_lines", "masked_words", "scorable_words", "percent"]]
    for split, masked, scorable in done:
        words, right = sum(map(len, masked)), sum(map(len, scorable))
        row = [split.name, len(split), sum(map(bool, masked)), words, right]
        table.append([*row, _percent(right, words)])
    return table


def _concept_table(
    done: Sequence[MaskedSplit], concepts: Sequence[Concept], source: str, target: str
) -> List[List]:
    """Over all splits; a concept is called by its first words."""
    masked, scorable = (
        Counter(word.target for one in done for words in getattr(one, kind) for word in words)
        for kind in ("masked", "scorable")
    )
    table = [[source, target, "masked_words", "scorable_words", "percent"]]
    for concept in concepts:
        words, right = masked[concept[target]], scorable[concept[target]]
        table.append([concept[source][0], concept[target][0], words, right, _percent(right, words)])
    return table


def _percent(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f}" if whole else "-"


def _as_tsv(table: Sequence[Sequence]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in table)


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add = parser.add_argument
    text = parser.add_mutually_exclusive_group(required=True)
    text.add_argument(
        "--root", metavar="DIR", type=Path, help="a Multi30k, as prepare_multi30k.py reads it"
    )
    text.add_argument(
        "--text",
        metavar="PREFIX",
        type=Path,
        nargs="+",
        help="other text: PREFIX.SOURCE and PREFIX.TARGET of each split; PREFIX.images goes along",
    )
    add("--source", metavar="LANG", required=True, help="the language to mask words in")
    add("--target", metavar="LANG", required=True, help="the language to translate into")
    add(
        "--mask",
        metavar="NAME",
        nargs="+",
        default=[],
        choices=list(shipped_lists()),
        help=f"lists of words to mask: {', '.join(shipped_lists())}",
    )
    add(
        "--words",
        metavar="FILE",
        type=Path,
        nargs="+",
        default=[],
        help="lists of your own, made like those in word_lists/ (word_lists.py describes them)",
    )
    add(
        "--placeholder",
        metavar="WORD",
        default=PLACEHOLDER,
        help="what stands for a masked word; the text must not have it (default: %(default)s)",
    )
    add("--output", metavar="DIR", type=Path, required=True, help="the folder to write")
    add("--overwrite", action="store_true", help="replace an output that was made from other input")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    args = parse_args(argv)
    return exit_code(lambda: mask(args), args.output)


if __name__ == "__main__":
    sys.exit(main())
