"""Does a model look at the image? Translate with the right images, with wrong ones and without.

    python -m caf_dkd_plugin image-awareness DATA --path CKPT --gen-subset test --image-h5 images.h5

translates and scores only the sentences whose image is in the store, each time the same ones. Wrong
images are the same images, exchanged so that no sentence keeps its own. "No image" is the same model with
its images hidden; --baseline is another that has learned without any.
"""

import argparse
import dataclasses
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence

import numpy as np
from fairseq.data import FairseqDataset
from sacremoses import MosesDetokenizer
from tqdm import tqdm

from ..command_line import destination_problems, not_negative, positive
from ..data.multimodal_dataset import without_images
from ..data.split_files import split_files
from ..data.split_images import NO_IMAGE, image_rows, read_split_ids
from ..problems import noted
from ..trained_models import load_models
from .awareness_report import Outcome, figures, table
from .beam_search import joining, translate
from .derangements import Conditions, image_conditions
from .image_reader import ImageReader, add_reader_options, first_folder, load_image_reader
from .log_probability import surprisal
from .masked_words import MaskedWord, read_masked_words
from .measuring import tell
from .outputs import SHOWN, foreign_sentences, leftovers, read_text
from .scores import language_problems


class Sentences(NamedTuple):
    """The N sentences of a split, of which L have an image."""

    pairs: FairseqDataset
    lines: np.ndarray
    """(L,) the sentences with an image"""
    conditions: Conditions[np.ndarray]
    """(N,) the row of each sentence's image, or `NO_IMAGE`"""
    references: List[str]
    """of the L sentences, as written"""
    masked: Optional[List[List[MaskedWord]]]
    """words that the source text of the L sentences hides"""


def read_sentences(reader: ImageReader, args: argparse.Namespace) -> Sentences:
    """Read a split and check all that will be needed of it.

    Raises:
        ValueError: what is wrong, one line each.
    """
    cfg, split, folder = reader.task.cfg, args.gen_subset, first_folder(args.data)
    where = f"{split} in {folder}"
    ids = read_split_ids(split_files(cfg, folder, False), split)
    rows, _ = image_rows(reader.images, ids, split)
    lines = np.flatnonzero(rows != NO_IMAGE)
    reader.task.load_dataset(split)
    pairs = reader.task.dataset(split)
    problems: List[str] = []
    conditions, masked, references = None, None, []
    targets: Dict[int, str] = {}
    if not len(lines):
        problems.append(f"no image of {split} is in {reader.images.path}")
    else:
        with noted(problems):
            conditions = image_conditions(rows, args.derangements, args.seed)
    if pairs.tgt is None:
        problems.append(f"{folder} has no {cfg.target_lang} side of {split} to be scored against")
    else:
        problems += reader.length_problems(pairs, lines, args.max_tokens, split)
        targets = _targets(reader, pairs, args)
        problems += _text_problems(list(targets.values()), where)
    with noted(problems):
        path = _references_path(args, cfg.target_lang)
        references = _references(path, where, len(ids))
        problems += _foreign_problems(path, references, targets, where)
    if args.masked_words is not None:
        with noted(problems):
            words = read_masked_words(args.masked_words, len(ids))
            masked = [words[line] for line in lines]
            if not any(masked):
                problems.append(f"{args.masked_words} has no word in a sentence with an image")
            problems += _unmasked_problems(reader, pairs, words, where, args)
    if problems:
        raise ValueError("\n".join(problems))
    return Sentences(pairs, lines, conditions, [references[line] for line in lines], masked)


def _remove_bpe(reader: ImageReader, args: argparse.Namespace) -> Optional[str]:
    return args.remove_bpe or joining(reader.task.target_dictionary)


def _detokenise(reader: ImageReader, args: argparse.Namespace) -> Callable[[str], str]:
    """How text is written whose subwords have been joined."""
    if args.tokenizer is None:
        return lambda text: text
    moses = MosesDetokenizer(reader.task.cfg.target_lang)
    return lambda text: moses.detokenize(text.split())


def _targets(
    reader: ImageReader, pairs: FairseqDataset, args: argparse.Namespace
) -> Dict[int, str]:
    """The split's target side, by line, in the form in which translations are scored."""
    dictionary, remove_bpe = reader.task.target_dictionary, _remove_bpe(reader, args)
    written = _detokenise(reader, args)
    return {
        line: written(dictionary.string(pairs.tgt[line], remove_bpe)) for line in range(len(pairs))
    }


def _text_problems(targets: Sequence[str], where: str) -> List[str]:
    """Would translations like the split's target side be scored as text that nobody writes?"""
    return [
        f"{where} has {left.what}. Its translations are to be scored as text is written: for Moses' "
        "tokens give --tokenizer moses, for subwords --remove-bpe; or binarise text as it is written."
        for left in leftovers(targets)
    ]


def _unmasked_problems(
    reader: ImageReader,
    pairs: FairseqDataset,
    words: Sequence[Sequence[MaskedWord]],
    where: str,
    args: argparse.Namespace,
) -> List[str]:
    """Does the source say what is to be read off the image?"""
    dictionary, remove_bpe = reader.task.source_dictionary, _remove_bpe(reader, args)
    for line, masked in enumerate(words):
        said = dictionary.string(pairs.src[line], remove_bpe).split()
        left = [word.source for word in masked if word.source in said]
        if left:
            return [
                f"{where} is not the text that {args.masked_words} is of: its line {line + 1} has the "
                f"word {left[0]!r}, which is masked there. Give a model and the data of the masked text."
            ]
    return []


def _references_path(args: argparse.Namespace, lang: str) -> Path:
    beside = Path(first_folder(args.data)) / "text" / f"{args.gen_subset}.{lang}"
    path = args.references or beside
    if args.references is None and not path.is_file():
        raise ValueError(
            f"{path} does not exist, the references as written: say with --references where they are"
        )
    return path


def _references(path: Path, where: str, count: int) -> List[str]:
    references = read_text(path)
    if len(references) != count:
        raise ValueError(
            f"{path} has {len(references)} lines, but {where} has {count} sentences. There must be one "
            "line for each sentence, in the same order."
        )
    return references


def _foreign_problems(
    path: Path, references: List[str], targets: Mapping[int, str], where: str
) -> List[str]:
    """Are the references of other sentences than the split's target side?"""
    foreign = foreign_sentences(targets, [references])
    if not foreign:
        return []
    first = foreign[0]
    return [
        f"{path} is of other sentences than {where}: its line {first + 1} is "
        f"{references[first][:SHOWN]!r}, there it is {targets[first][:SHOWN]!r}. Give the references of "
        "the split that is translated."
    ]


def load_baseline(args: argparse.Namespace, reader: ImageReader) -> ImageReader:
    """The models of --baseline, which see no images.

    Raises:
        ValueError: they cannot be used, read images, or translate between other languages.
    """
    try:
        models, task = load_models(args.baseline, args.data)
    except ValueError as error:
        lines = str(error).splitlines()
        raise ValueError("\n".join(f"--baseline: {line}" for line in lines)) from error
    if task.trained_images:
        raise ValueError(
            f"--baseline {args.baseline} reads images; it is to be a model that was trained without"
        )
    own, theirs = ((one.source_lang, one.target_lang) for one in (reader.task.cfg, task.cfg))
    if own != theirs:
        raise ValueError(
            f"--baseline {args.baseline} translates {'-'.join(theirs)}, --path {args.path} "
            f"{'-'.join(own)}"
        )
    return reader._replace(models=[model.eval().to(reader.device) for model in models], task=task)


def run_conditions(
    reader: ImageReader,
    baseline: Optional[ImageReader],
    sentences: Sentences,
    args: argparse.Namespace,
) -> Conditions[Outcome]:
    """Ask the models, once for each choice of images, and then the baseline."""
    remove_bpe, written = _remove_bpe(reader, args), _detokenise(reader, args)
    runs = 2 + len(sentences.conditions.deranged) + (baseline is not None)
    with tqdm(total=runs * len(sentences.lines), unit="sentence", desc=args.gen_subset) as bar:

        def samples(rows):
            return reader.samples(sentences.pairs, rows, sentences.lines, args.max_tokens)

        def counted(rows):
            for sample in samples(rows):
                yield sample
                bar.update(len(sample["id"]))

        def ask(asked: ImageReader, once: Iterable, again: Iterable) -> Outcome:
            cost = surprisal(asked.models, once, asked.task.target_dictionary.pad())
            lines = translate(asked.task, asked.models, again, args.beam, remove_bpe)
            return Outcome([*map(written, lines)], cost)

        found = sentences.conditions.map(lambda rows: ask(reader, samples(rows), counted(rows)))
        if baseline is None:
            return found
        none = sentences.conditions.none
        text_only = ask(baseline, map(_text_only, samples(none)), map(_text_only, counted(none)))
        return dataclasses.replace(found, baseline=text_only)


def _text_only(sample: Dict[str, Any]) -> Dict[str, Any]:
    return {**sample, "net_input": without_images(sample["net_input"])}


def measure(args: argparse.Namespace) -> Dict[str, Any]:
    """What the command line asks for.

    Raises:
        ValueError: what is wrong, one line each.
    """
    problems = [] if args.json is None else destination_problems("--json", args.json)
    reader = None
    with noted(problems):
        reader = load_image_reader(args.path, args.data, args.image_h5, args.cpu)
    sentences = baseline = None
    if reader is not None:
        problems += language_problems(reader.task.cfg.target_lang)
        with noted(problems):
            sentences = read_sentences(reader, args)
    if reader is not None and args.baseline is not None:
        with noted(problems):
            baseline = load_baseline(args, reader)
    if sentences is not None and baseline is not None:
        about = sentences.pairs, sentences.lines, args.max_tokens, args.gen_subset
        problems += [f"--baseline: {line}" for line in baseline.length_problems(*about)]
    if problems:
        raise ValueError("\n".join(problems))
    outcomes = run_conditions(reader, baseline, sentences, args)
    lang = reader.task.cfg.target_lang
    return {
        "checkpoint": args.path,
        "data": args.data,
        "split": args.gen_subset,
        "image_h5": args.image_h5,
        **({} if baseline is None else {"baseline": args.baseline}),
        "sentences": len(sentences.pairs),
        "with_image": len(sentences.lines),
        "beam": args.beam,
        "seed": args.seed,
        **figures(outcomes, sentences.references, lang, sentences.masked, args.seed),
    }


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m caf_dkd_plugin image-awareness", description=__doc__.partition("\n\n")[0]
    )
    add_reader_options(parser)
    add = parser.add_argument
    add("--gen-subset", metavar="SPLIT", default="test", help="the split (default: %(default)s)")
    add(
        "--derangements",
        metavar="K",
        type=positive,
        default=5,
        help="how often to exchange the images (default: %(default)s)",
    )
    add(
        "--seed",
        metavar="N",
        type=not_negative,
        default=1,
        help="of derangements and permutation tests (default: %(default)s)",
    )
    add(
        "--references",
        metavar="FILE",
        type=Path,
        help="the split's target side as written (default: DATA/text/SPLIT.LANG)",
    )
    add(
        "--baseline",
        metavar="CKPT[:CKPT...]",
        help="also compare with this model, which was trained without images",
    )
    add(
        "--beam",
        metavar="N",
        type=positive,
        default=5,
        help="width of the beam (default: %(default)s)",
    )
    add(
        "--remove-bpe",
        metavar="KIND",
        nargs="?",
        const="@@ ",
        help="how to join subwords, as in fairseq (default: as those of the dictionary look)",
    )
    add(
        "--tokenizer",
        choices=("moses",),
        help="the data has its tokens, which are joined before anything is scored",
    )
    add(
        "--masked-words",
        metavar="FILE",
        type=Path,
        help="SPLIT's masked words, as preprocess/mask_source.py wrote them",
    )
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    return tell(parse_args(argv), measure, _counted)


def _counted(found: Dict[str, Any]) -> str:
    """The table, after what it is of."""
    return (
        f"{found['split']}: {found['with_image']} of {found['sentences']} sentences have their image in "
        f"{found['image_h5']}; these alone count\n{table(found)}"
    )
