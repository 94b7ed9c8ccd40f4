"""Contrastive accuracy on CoMMuTE: which of two translations does a model prefer, given the image?

    python -m caf_dkd_plugin commute DATA --path CKPT --commute DIR --image-h5 commute.h5

CoMMuTE (Futeral et al. 2023, *Tackling Ambiguity with Images*) has ambiguous English sentences, each
twice, with an image for either meaning. DIR is one language of a user's own copy: ``src.en``,
``correct.LL``, ``incorrect.LL`` and ``img.order``, line by line the same items. The images must have
been read as those of the model's training (preprocess/extract_features.py).

Letters: L items.
"""

import argparse
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from fairseq.data import Dictionary, LanguagePairDataset
from fairseq.data.encoders.sentencepiece_bpe import SentencepieceBPE, SentencepieceConfig
from tqdm import tqdm

from ..command_line import destination_problems
from ..data.image_ids import in_short, read_image_ids
from ..data.joined_stores import Images
from ..data.split_images import NO_IMAGE
from ..problems import noted
from .binomial_interval import wilson_interval
from .image_reader import ImageReader, add_reader_options, first_folder, load_image_reader
from .log_probability import surprisal
from .measuring import tell
from .outputs import read_lines

IMAGE_ORDER = "img.order"
PIECES = "sentencepiece.model"
"""its name in a folder of preprocess/prepare_multi30k.py"""
UNKNOWN = 0.5
"""share of a file's tokens that the dictionary may lack"""
TIE = 1e-5
"""bits per token: what is closer than this is equal but for rounding"""


class Items(NamedTuple):
    """L sentences, and two translations of each."""

    sources: List[str]
    correct: List[str]
    """what the source means in the image"""
    incorrect: List[str]
    """what it means in another image"""
    images: List[str]
    """ids"""


def read_items(folder: Path, source_lang: str, target_lang: str) -> Items:
    """Read a folder in CoMMuTE's layout.

    Raises:
        ValueError: files that are missing, unreadable or of unequal length; all of it.
    """
    names = [f"src.{source_lang}", f"correct.{target_lang}", f"incorrect.{target_lang}"]
    found: Dict[str, List[str]] = {}
    problems: List[str] = []
    for name, read in [*((name, read_lines) for name in names), (IMAGE_ORDER, read_image_ids)]:
        with noted(problems):
            found[name] = read(folder / name)
    if len({len(lines) for lines in found.values()}) > 1:
        counts = ", ".join(f"{name} {len(lines)}" for name, lines in found.items())
        problems.append(f"the files of {folder} must have a line for each item, but have: {counts}")
    for name, lines in found.items():
        empty = [str(number) for number, line in enumerate(lines, 1) if not line.strip()]
        if not lines:
            problems.append(f"{folder / name} is empty")
        elif empty:
            problems.append(f"{folder / name} says nothing in line {in_short(empty)}")
    if problems:
        raise ValueError("\n".join(problems))
    return Items(*found.values())


def find_images(images: Images, ids: Sequence[str], where: Path) -> np.ndarray:
    """(L,) int64, the row of each item's image.

    Raises:
        ValueError: images that are not there.
    """
    rows = [images.row_of(image) for image in ids]
    absent = list(dict.fromkeys(image for image, row in zip(ids, rows) if row is None))
    if absent:
        raise ValueError(
            f"{images.path} lacks {len(absent)} of the images that {where} names: {in_short(absent)}. "
            "Make it of their files with preprocess/extract_features.py."
        )
    return np.array(rows, dtype=np.int64)


def pairs_of(
    sources: Sequence[str],
    targets: Sequence[str],
    source_dictionary: Dictionary,
    target_dictionary: Dictionary,
    cut: Callable[[str], str],
) -> LanguagePairDataset:
    """Sentence pairs as fairseq would read them binarised; `cut` puts spaces between subwords."""
    sides = []
    for lines, dictionary in ((sources, source_dictionary), (targets, target_dictionary)):
        encoded = (dictionary.encode_line(cut(line), add_if_not_exist=False) for line in lines)
        sentences = [tokens.long() for tokens in encoded]
        sides += [sentences, list(map(len, sentences)), dictionary]
    return LanguagePairDataset(*sides, left_pad_source=False, shuffle=False)


def unknown_problems(pairs: LanguagePairDataset, name: str) -> List[str]:
    """Signs that the sentences were not cut into the model's subwords: hardly a token is known."""
    problems = []
    for side, sentences, dictionary in (
        ("source", pairs.src, pairs.src_dict),
        (name, pairs.tgt, pairs.tgt_dict),
    ):
        tokens = [token for sentence in sentences for token in sentence[:-1].tolist()]
        unknown = tokens.count(dictionary.unk())
        if unknown > UNKNOWN * len(tokens):
            problems.append(
                f"{unknown} of the {len(tokens)} tokens of the {side} sentences are not in the model's "
                "dictionary: give the --sentencepiece-model that its training text was cut with, and "
                "sentences of its languages"
            )
    return problems


def right_items(correct: np.ndarray, incorrect: np.ndarray) -> np.ndarray:
    """(L,) 1 where the correct translation is cheaper, a half where both cost the same, else 0.

    Args:
        correct, incorrect: (L,) bits per token, log2 of the perplexity.
    """
    difference = incorrect - correct
    return np.where(np.abs(difference) <= TIE, 0.5, difference > 0)


def preferences(
    reader: ImageReader, items: Items, rows: np.ndarray, cut: Callable[[str], str], max_tokens: int
) -> Dict[str, np.ndarray]:
    """(L,) how right each item is with its image, and without.

    Raises:
        ValueError: sentences that are too long, or that the model cannot read.
    """
    source, target = reader.task.source_dictionary, reader.task.target_dictionary
    lines = np.arange(len(rows))
    pairs = {
        kind: pairs_of(items.sources, getattr(items, kind), source, target, cut)
        for kind in ("correct", "incorrect")
    }
    problems = [
        line
        for kind, each in pairs.items()
        for line in (
            *unknown_problems(each, kind),
            *reader.length_problems(each, lines, max_tokens, kind),
        )
    ]
    if problems:
        raise ValueError("\n".join(dict.fromkeys(problems)))  # both have the same sources
    found = {}
    with tqdm(total=4 * len(lines), unit="sentence", desc="commute") as bar:

        def costs(kind: str, seen: np.ndarray) -> np.ndarray:
            def counted():
                for sample in reader.samples(pairs[kind], seen, lines, max_tokens):
                    yield sample
                    bar.update(len(sample["id"]))

            return surprisal(reader.models, counted(), target.pad()).per_sentence()

        for name, seen in (("image", rows), ("none", np.full_like(rows, NO_IMAGE))):
            found[name] = right_items(costs("correct", seen), costs("incorrect", seen))
    return found


def accuracy(right: np.ndarray) -> Dict[str, Any]:
    """The share of items that are right, with its interval."""
    low, high = wilson_interval(float(right.sum()), len(right))
    return {
        "accuracy": float(right.mean()),
        "interval_95": [low, high],
        "right": float(right.sum()),
    }


def measure(args: argparse.Namespace) -> Dict[str, Any]:
    """What the command line asks for.

    Raises:
        ValueError: what is wrong, one line each.
    """
    problems = [] if args.json is None else destination_problems("--json", args.json)
    reader = items = rows = None
    cut: Callable[[str], str] = str
    with noted(problems):
        cut = _cut(args)
    with noted(problems):
        reader = load_image_reader(args.path, args.data, args.image_h5, args.cpu)
    if reader is not None:
        langs = reader.task.cfg.source_lang, args.target_lang or reader.task.cfg.target_lang
        with noted(problems):
            items = read_items(args.commute, *langs)
    if items is not None:
        with noted(problems):
            rows = find_images(reader.images, items.images, args.commute / IMAGE_ORDER)
    if problems:
        raise ValueError("\n".join(problems))
    right = preferences(reader, items, rows, cut, args.max_tokens)
    return {
        "checkpoint": args.path,
        "commute": str(args.commute),
        "target_lang": langs[1],
        "image_h5": args.image_h5,
        "items": len(rows),
        "interval": "Wilson",
        **{name: accuracy(each) for name, each in right.items()},
    }


def _cut(args: argparse.Namespace) -> Callable[[str], str]:
    """What puts spaces between subwords.

    Raises:
        ValueError: the model that was named is not there, or is none.
    """
    path = args.sentencepiece_model or Path(first_folder(args.data)) / PIECES
    if args.sentencepiece_model is None and not path.is_file():
        return str
    try:
        return SentencepieceBPE(SentencepieceConfig(sentencepiece_model=os.fspath(path))).encode
    except (OSError, RuntimeError) as error:
        raise ValueError(f"{path} is no sentencepiece model: {error}") from error


def table(found: Dict[str, Any]) -> str:
    """The figures for people."""
    lines = []
    for heading, name in (("with the image", "image"), ("without images", "none")):
        each = found[name]
        low, high = each["interval_95"]
        lines.append(
            f"{heading}  {each['accuracy']:6.1%}  ({each['right']:g} of {found['items']}; 95 % "
            f"interval, {found['interval']}: {low:.1%} to {high:.1%})"
        )
    return "\n".join(lines)


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m caf_dkd_plugin commute", description=__doc__.partition("\n\n")[0]
    )
    add_reader_options(parser)
    add = parser.add_argument
    add("--commute", metavar="DIR", type=Path, required=True, help="one language of CoMMuTE")
    add(
        "--target-lang",
        metavar="LL",
        help="ending of its translations (default: the model's target)",
    )
    add(
        "--sentencepiece-model",
        metavar="FILE",
        type=Path,
        help=f"cuts sentences into subwords (default: DATA/{PIECES}; without one, tokens are what is "
        "between spaces)",
    )
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    return tell(parse_args(argv), measure, table)
