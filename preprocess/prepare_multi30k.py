"""Turn Multi30k's raw text into a binarised fairseq folder, with the images of its sentences.

    python preprocess/prepare_multi30k.py --root DIR --source en --target de --output DIR

ROOT is a copy of the official release (its `data/task1`, or what contains it) or a folder with
`text/SPLIT.LANG` and `text/SPLIT.images`. OUTPUT becomes what fairseq-train takes as its data:

    train.en-de.en.bin ...   the binarised sentences, of every split that ROOT has
    dict.en.txt dict.de.txt  the dictionaries; by default both are the pieces of the model
    train.images ...         the image id of each sentence, as the image store knows it
    sentencepiece.model      splits a sentence into pieces
    text/train.en ...        the raw sentences of each split, to score against
    splits.tsv               which split is which, with its numbers
    settings.json            what it was made from; written last
"""

import argparse
import gzip
import hashlib
import io
import json
import logging
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np
import sentencepiece
from fairseq import options
from fairseq.data import Dictionary, data_utils
from fairseq_cli import preprocess as fairseq_preprocess
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from caf_dkd_plugin.data.image_ids import ImageIdsError, read_image_ids, write_image_ids

LANGUAGES = ("en", "de", "fr", "cs")
SPLITS = {
    "train": "train",
    "val": "valid",
    "val_images": "valid1",
    "test_2016_flickr": "test",
    "test_2017_flickr": "test1",
    "test_2017_mscoco": "test2",
    "test_heldout": "test3",
}
"""Multi30k's name of a split: fairseq's. The numbers stay, whichever splits there are."""

MODEL = "sentencepiece.model"
SETTINGS = "settings.json"


class PreparationError(ValueError):
    """Something is wrong with the input; `problems` has one line each."""

    def __init__(self, problems: Sequence[str]):
        super().__init__("\n".join(problems))
        self.problems = list(problems)


class Layout(NamedTuple):
    """Where a release keeps its files."""

    text: Path
    lists: Path
    list_suffix: str
    pictures: Path


class Split(NamedTuple):
    """The sentences of a split; all lists have one entry for each."""

    name: str
    """Multi30k's name; fairseq's is SPLITS[name]"""
    text: Dict[str, List[str]]
    """language: raw sentences"""
    image_ids: Optional[List[str]]
    """"" for a sentence without an image; None when the release has no list for this split"""

    @property
    def prefix(self) -> str:
        """fairseq's name."""
        return SPLITS[self.name]

    def __len__(self) -> int:
        return len(next(iter(self.text.values())))


def find_layout(root: Path) -> Layout:
    """Tell the release's layout by its folders."""
    if (root / "text").is_dir():
        return Layout(root / "text", root / "text", ".images", root / "images")
    for task in (root, root / "data" / "task1"):
        if (task / "raw").is_dir():
            return Layout(task / "raw", task / "image_splits", ".txt", root / "images")
    raise PreparationError(
        [
            f"{root} is no Multi30k: there is neither text/ nor raw/ nor data/task1/raw/ in it. Give a "
            "clone of github.com/multi30k/dataset, or a folder with text/SPLIT.LANG, as --root."
        ]
    )


def read_lines(path: Path) -> List[str]:
    """The lines of a text file, gzipped or not. Only a line feed ends a line, as for `wc -l`."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = content.decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise PreparationError([f"{path} cannot be read: {error}"]) from error
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_splits(root: Path, languages: Sequence[str]) -> Tuple[List[Split], List[str]]:
    """All splits that have both languages, and in words which are absent.

    Raises:
        PreparationError: all that is wrong with the files.
    """
    layout = find_layout(root)
    splits, absent, problems = [], [], []
    for name in SPLITS:
        paths = {lang: _text_path(layout, name, lang) for lang in languages}
        lacking = [lang for lang, path in paths.items() if path is None]
        if lacking:
            absent.append(f"{name} (no {' and no '.join(lacking)})")
            continue
        try:
            split = Split(
                name, {lang: read_lines(path) for lang, path in paths.items()}, _ids(layout, name)
            )
        except (PreparationError, ImageIdsError) as error:
            problems.append(str(error))
            continue
        counts = {str(path): len(split.text[lang]) for lang, path in paths.items()}
        if split.image_ids is not None:
            counts[str(_list_path(layout, name))] = len(split.image_ids)
        if len(set(counts.values())) > 1:
            numbers = ", ".join(f"{path} has {count}" for path, count in counts.items())
            problems.append(f"the lines of {name} do not belong together: {numbers}")
        elif not len(split):
            problems.append(f"{name} has no lines")
        splits.append(split)
    if "train" not in [split.name for split in splits] and not problems:
        problems.append(f"{layout.text} has no train.{' and no train.'.join(languages)}")
    if problems:
        raise PreparationError(problems)
    return splits, absent


def _text_path(layout: Layout, name: str, lang: str) -> Optional[Path]:
    for path in (layout.text / f"{name}.{lang}", layout.text / f"{name}.{lang}.gz"):
        if path.is_file():
            return path
    return None


def _list_path(layout: Layout, name: str) -> Path:
    return layout.lists / f"{name}{layout.list_suffix}"


def _ids(layout: Layout, name: str) -> Optional[List[str]]:
    path = _list_path(layout, name)
    if not path.is_file():
        return None
    # The official list of COCO pictures names a caption after each: NAME.jpg#NUMBER.
    return [image_id.partition("#")[0] for image_id in read_image_ids(path)]


def read_subset(subset: str, lines: int) -> List[int]:
    """The line numbers, from zero, that `--subset` chooses of a split of so many lines."""
    if subset.isdigit():
        if not 1 <= int(subset) <= lines:
            raise PreparationError([f"--subset {subset}: train has {lines} lines"])
        return list(range(int(subset)))
    numbers, problems, seen = [], [], set()
    for place, line in enumerate(read_lines(Path(subset)), 1):
        number = int(line) if line.strip().isdecimal() else -1
        if not 0 <= number < lines:
            problems.append(f"{line!r} (line {place}) is none of the line numbers 0 to {lines - 1}")
        elif number in seen:
            problems.append(f"{number} (line {place}) is there twice")
        seen.add(number)
        numbers.append(number)
    if problems:
        more = f" and {len(problems) - 1} more such lines" if len(problems) > 1 else ""
        raise PreparationError([f"--subset {subset}: {problems[0]}{more}"])
    if not numbers:
        raise PreparationError([f"--subset {subset} is empty"])
    return numbers


def take(split: Split, numbers: Sequence[int]) -> Split:
    """The sentences of a split with these numbers, in this order."""
    return Split(
        split.name,
        {lang: [text[number] for number in numbers] for lang, text in split.text.items()},
        split.image_ids and [split.image_ids[number] for number in numbers],
    )


def default_vocab_size(pairs: int) -> int:
    """36 times the root of the number of pairs: 1,100 for 1k, 3,600 for 10k, 6,100 for 29k."""
    return max(500, min(10_000, round(36 * math.sqrt(pairs), -2)))


def single_spaced(sentence: str) -> str:
    """All white space as single spaces. fairseq would drop a piece that is another kind of it."""
    return " ".join(sentence.split())


def train_sentencepiece(sentences: Sequence[str], vocab_size: int) -> bytes:
    """A unigram model of at most `vocab_size` pieces; of fewer where the text has no more."""
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=map(single_spaced, sentences),
            model_writer=model,
            vocab_size=vocab_size,
            character_coverage=1.0,
            hard_vocab_limit=False,
            minloglevel=2,
        )
    except RuntimeError as error:
        raise PreparationError(
            [
                f"sentencepiece cannot make {vocab_size} pieces of {len(sentences)} sentences: "
                f"{str(error).strip()} Choose another --vocab-size."
            ]
        ) from error
    return model.getvalue()


def pieces_of(model: sentencepiece.SentencePieceProcessor) -> List[str]:
    """All pieces that text can be split into, in the model's order."""
    return [
        model.id_to_piece(index)
        for index in range(model.get_piece_size())
        if not (model.is_unknown(index) or model.is_control(index) or model.is_unused(index))
    ]


def load_model(proto: bytes, path: str) -> sentencepiece.SentencePieceProcessor:
    """A sentencepiece model from the bytes of its file."""
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=proto)
    except RuntimeError as error:
        raise PreparationError([f"{path} is not a sentencepiece model"]) from error


def binarise(
    folder: Path,
    splits: Sequence[Split],
    model: sentencepiece.SentencePieceProcessor,
    dictionaries: Dict[str, Path],
) -> None:
    """Write the pieces of all splits, run fairseq-preprocess on them, compare what came out.

    Args:
        folder: where the binarised data goes; the pieces go into a sub-folder and away again.
        splits: what to binarise.
        model: splits sentences into pieces.
        dictionaries: language: dictionary file, the source language first.
    """
    source, target = dictionaries
    pieces = folder / "pieces"
    pieces.mkdir()
    lengths = {
        (split.prefix, lang): _write_pieces(pieces / f"{split.prefix}.{lang}", sentences, model)
        for split in tqdm(splits, desc="splitting into pieces", unit="split")
        for lang, sentences in split.text.items()
    }
    arguments = ["--source-lang", source, "--target-lang", target, "--destdir", str(folder)]
    arguments += ["--srcdict", str(dictionaries[source]), "--tgtdict", str(dictionaries[target])]
    renames = []  # fairseq-preprocess counts without gaps
    for kind in ("train", "valid", "test"):
        prefixes = [split.prefix for split in splits if split.prefix.startswith(kind)]
        if prefixes:
            arguments += [f"--{kind}pref", ",".join(str(pieces / prefix) for prefix in prefixes)]
        renames += [(f"{kind}{n or ''}", prefix) for n, prefix in enumerate(prefixes)]
    known = fairseq_preprocess.logger.handlers[:]
    fairseq_preprocess.main(options.get_preprocessing_parser().parse_args(arguments))
    for handler in [one for one in fairseq_preprocess.logger.handlers if one not in known]:
        fairseq_preprocess.logger.removeHandler(handler)  # of preprocess.log, which goes below
        handler.close()
    for made, prefix in reversed(renames):
        for lang in dictionaries:
            for suffix in (f"{source}-{target}.{lang}.bin", f"{source}-{target}.{lang}.idx"):
                (folder / f"{made}.{suffix}").rename(folder / f"{prefix}.{suffix}")
    for (prefix, lang), expected in lengths.items():
        name = f"{prefix}.{source}-{target}.{lang}"
        binarised = data_utils.load_indexed_dataset(str(folder / name))
        sizes = binarised.sizes  # a view of a file that is unmapped when `binarised` goes
        if not np.array_equal(sizes - 1, expected):  # each ends with </s>
            raise PreparationError(
                [
                    f"{name}: fairseq-preprocess made {len(sizes)} sentences of {sizes.sum()} tokens "
                    f"of {len(expected)} sentences of {expected.sum() + len(expected)}. Please "
                    "report this with the text."
                ]
            )
    shutil.rmtree(pieces)
    (folder / "preprocess.log").unlink()


def _write_pieces(path: Path, sentences: Sequence[str], model) -> np.ndarray:
    encoded = model.encode([single_spaced(sentence) for sentence in sentences], out_type=str)
    path.write_text("".join(" ".join(line) + "\n" for line in encoded), "utf-8", newline="\n")
    return np.array([len(line) for line in encoded])


def count_unknown(folder: Path, prefix: str, pair: str, lang: str) -> int:
    """How many pieces of a binarised split are not in its dictionary."""
    dictionary = Dictionary.load(str(folder / f"dict.{lang}.txt"))
    sentences = data_utils.load_indexed_dataset(str(folder / f"{prefix}.{pair}.{lang}"))
    return sum(int((sentence == dictionary.unk()).sum()) for sentence in sentences)


def write_table(
    folder: Path, splits: Sequence[Split], pictures: Path, source: str, target: str
) -> str:
    """Write splits.tsv; the same for people."""
    there = set(os.listdir(pictures)) if pictures.is_dir() else None
    header = ["split", "multi30k", "lines", "image_ids", "pictures"]
    rows = [[*header, f"unknown_{source}", f"unknown_{target}"]]
    for split in splits:
        ids = [image_id for image_id in split.image_ids or [] if image_id]
        found = "-" if there is None else sum(image_id in there for image_id in ids)
        unknown = [
            count_unknown(folder, split.prefix, f"{source}-{target}", lang)
            for lang in (source, target)
        ]
        rows.append([split.prefix, split.name, len(split), len(ids), found, *unknown])
    table = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    (folder / "splits.tsv").write_text(table, "utf-8")
    return "\n".join(
        f"{row[0]:8}{row[1]:18}" + "".join(f"{value:>12}" for value in row[2:]) for row in rows
    )


class Inputs(NamedTuple):
    """All that was read and found good, before anything is written."""

    splits: List[Split]
    absent: List[str]
    model: Optional[bytes]
    dictionaries: Dict[str, Optional[bytes]]

    def sha256(self) -> str:
        """Over everything that the output depends on."""
        content = [[split.name, split.text, split.image_ids] for split in self.splits]
        digest = hashlib.sha256(json.dumps(content).encode())
        for part in (self.model, *self.dictionaries.values()):
            digest.update(b"-" if part is None else hashlib.sha256(part).digest())
        return digest.hexdigest()


def read_inputs(args: argparse.Namespace) -> Inputs:
    """Read and check everything that the command line names.

    Raises:
        PreparationError: all that is wrong.
    """
    problems: List[str] = []

    def attempt(function, *arguments):
        try:
            return function(*arguments)
        except PreparationError as error:
            problems.extend(error.problems)
            return None

    if args.source == args.target:
        problems.append(f"--source and --target are both {args.source}")
    read = attempt(read_splits, args.root, [args.source, args.target])
    splits, absent = read or ([], [])
    if args.subset and splits:
        chosen = attempt(read_subset, args.subset, len(splits[0]))
        splits[0] = take(splits[0], chosen or [])
    model = args.sentencepiece and attempt(_read_file, "--sentencepiece", args.sentencepiece)
    if model:
        attempt(load_model, model, f"--sentencepiece {args.sentencepiece}")
    dictionaries = {}
    for lang, option in ((args.source, "source"), (args.target, "target")):
        path = getattr(args, f"{option}_dictionary")
        dictionaries[lang] = path and attempt(_read_dictionary, f"--{option}-dictionary", path)
        if path and not args.sentencepiece:
            problems.append(
                f"--{option}-dictionary goes with the sentencepiece model that made its pieces; "
                f"give that as --sentencepiece (it lies beside the dictionary, as {MODEL})"
            )
    if problems:
        raise PreparationError(problems)
    return Inputs(splits, absent, model, dictionaries)


def _read_file(option: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise PreparationError([f"{option} {path} cannot be read: {error.strerror}"]) from error


def _read_dictionary(option: str, path: Path) -> bytes:
    content = _read_file(option, path)
    try:
        Dictionary.load(str(path))
    except Exception as error:  # fairseq wraps what int() raises, or lets it through
        raise PreparationError([f"{option} {path} is not a fairseq dictionary: {error}"]) from error
    return content


def prepare(args: argparse.Namespace) -> None:
    """Do what the command line says and print what was done."""
    inputs = read_inputs(args)
    train = inputs.splits[0]
    vocab_size = args.vocab_size or default_vocab_size(len(train))
    settings = {
        "source": args.source,
        "target": args.target,
        "vocab_size": None if inputs.model else vocab_size,
        "inputs_sha256": inputs.sha256(),
    }
    if _is_finished(args.output, settings, args.overwrite):
        print(f"{args.output} is already prepared from this. Nothing to do.")
        return
    partial = Path(f"{args.output}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    proto = inputs.model or train_sentencepiece(
        [sentence for text in train.text.values() for sentence in text], vocab_size
    )
    (partial / MODEL).write_bytes(proto)
    model = load_model(proto, MODEL)
    pieces = pieces_of(model)
    if not inputs.model and model.get_piece_size() < vocab_size:
        print(
            f"the text has only {model.get_piece_size()} pieces, fewer than the {vocab_size} "
            "asked for"
        )
    given = partial / "given"
    given.mkdir()
    for lang, content in inputs.dictionaries.items():
        joint = "".join(f"{piece} 1\n" for piece in pieces).encode("utf-8")
        (given / lang).write_bytes(content or joint)
    binarise(partial, inputs.splits, model, {lang: given / lang for lang in inputs.dictionaries})
    shutil.rmtree(given)
    (partial / "text").mkdir()
    for split in inputs.splits:
        for lang, text in split.text.items():
            raw = "".join(f"{line}\n" for line in text)
            (partial / "text" / f"{split.prefix}.{lang}").write_bytes(raw.encode("utf-8"))
        if split.image_ids is not None:
            write_image_ids(partial / f"{split.prefix}.images", split.image_ids)
    pictures = find_layout(args.root).pictures
    table = write_table(partial, inputs.splits, pictures, args.source, args.target)
    _move(partial, args.output, settings)
    print(f"wrote {args.output}: {len(pieces)} pieces, of splits")
    print(table)
    _report(inputs)


def _report(inputs: Inputs) -> None:
    for name in inputs.absent:
        print(f"absent, left out: {name}")
    for split in inputs.splits:
        if split.image_ids is None:
            print(
                f"{split.name} has no list of images, so there is no {split.prefix}.images: it can "
                "only be used without --image-h5"
            )
    if any(split.prefix == "valid1" for split in inputs.splits):
        print(
            "valid1 is there: fairseq-train wants --ignore-unused-valid-subsets, also with "
            "--valid-subset valid,valid1, or --combine-val"
        )


def _is_finished(output: Path, settings: dict, overwrite: bool) -> bool:
    """Whether the folder was made from these settings; raise where it was made from others."""
    if not output.exists() or overwrite:
        return False
    if not output.is_dir():
        raise PreparationError([f"--output {output} is a file; give a folder"])
    try:
        found = json.loads((output / SETTINGS).read_text("utf-8"))
    except (OSError, ValueError):
        if not os.listdir(output):
            return False
        raise PreparationError(
            [
                f"{output} is not empty and was not finished by this script (it has no {SETTINGS}). "
                "Give another folder, or write into this one with --overwrite."
            ]
        ) from None
    changed = [key for key, value in settings.items() if found.get(key) != value]
    if changed:
        raise PreparationError(
            [
                f"{output} was prepared from something else (other {', '.join(changed)}). Give another "
                "folder, or replace this one with --overwrite."
            ]
        )
    return True


def _move(partial: Path, output: Path, settings: dict) -> None:
    """Put the finished files into the output, in the place of those of an earlier run."""
    (output / "text").mkdir(parents=True, exist_ok=True)
    record = output / SETTINGS
    if record.exists():
        for name in json.loads(record.read_text("utf-8"))["files"]:
            (output / name).unlink(missing_ok=True)
        record.unlink()
    files = sorted(str(path.relative_to(partial)) for path in partial.rglob("*") if path.is_file())
    for name in files:
        (partial / name).replace(output / name)
    shutil.rmtree(partial)
    record.write_text(json.dumps({**settings, "files": files}, indent=2) + "\n", "utf-8")


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add = parser.add_argument
    add("--root", metavar="DIR", type=Path, required=True, help="the Multi30k to read")
    add("--source", choices=LANGUAGES, required=True, help="language to translate from")
    add("--target", choices=LANGUAGES, required=True, help="language to translate into")
    add("--output", metavar="DIR", type=Path, required=True, help="the folder to write")
    add(
        "--subset",
        metavar="FILE|N",
        help="of the training set, only the lines with the numbers in FILE (from zero), or the first N",
    )
    pieces = parser.add_mutually_exclusive_group()
    pieces.add_argument(
        "--sentencepiece",
        metavar="MODEL",
        type=Path,
        help="split into pieces with this model, such as the teacher's; without it, one is trained on "
        "both sides of the (subset of the) training set",
    )
    pieces.add_argument(
        "--vocab-size",
        metavar="N",
        type=int,
        help="pieces of the model to train; fewer where the text has no more (default: 36 times the "
        "root of the number of pairs, at least 500)",
    )
    for side in ("source", "target"):
        add(
            f"--{side}-dictionary",
            metavar="FILE",
            type=Path,
            help=f"use this dict.LANG.txt, such as the teacher's, for the {side} (default: the pieces "
            "of the sentencepiece model, one dictionary for both sides)",
        )
    add("--overwrite", action="store_true", help="replace an output that was made from other input")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    try:
        prepare(parse_args(argv))
    except PreparationError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    logging.root.setLevel(logging.WARNING)  # fairseq's import turns it up, one fork even to DEBUG
    sys.exit(main())
