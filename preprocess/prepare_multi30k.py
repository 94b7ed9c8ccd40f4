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

With --teacher-source fr also the side that a teacher of fr-de reads, in step with the sentences:
train.en-de.fr.bin ..., dict.fr.txt, text/train.fr.
"""

import argparse
import runpy
import shutil
import sys
from pathlib import Path
from typing import Optional, Sequence, Set

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "caf_dkd_plugin" / "quiet_start.py"))

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from binarised_text import binarise, count_unknown
from finished_folder import TEXT, in_the_making, is_finished
from multi30k_release import LANGUAGES, Split
from preparation_error import exit_code
from preparation_inputs import ROLES, Inputs, dictionary_option, read_inputs
from sentencepiece_model import (
    MODEL,
    default_vocab_size,
    load_model,
    pieces_of,
    train_sentencepiece,
)

from caf_dkd_plugin.data.image_ids import write_image_ids


def write_table(
    folder: Path, splits: Sequence[Split], pictures: Optional[Set[str]], languages: Sequence[str]
) -> str:
    """Write splits.tsv; the same for people. The first two languages are the pair."""
    header = ["split", "multi30k", "lines", "image_ids", "pictures"]
    rows = [[*header, *(f"unknown_{lang}" for lang in languages)]]
    for split in splits:
        ids = [image_id for image_id in split.image_ids or [] if image_id]
        found = "-" if pictures is None else sum(image_id in pictures for image_id in ids)
        unknown = [
            count_unknown(folder, split.prefix, "-".join(languages[:2]), lang)
            if lang in split.text
            else "-"
            for lang in languages
        ]
        rows.append([split.prefix, split.name, len(split), len(ids), found, *unknown])
    table = "".join("\t".join(map(str, row)) + "\n" for row in rows)
    (folder / "splits.tsv").write_text(table, "utf-8")
    return "\n".join(
        f"{row[0]:8}{row[1]:18}" + "".join(f"{value:>12}" for value in row[2:]) for row in rows
    )


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
    if args.teacher_source:
        settings["teacher_source"] = args.teacher_source
    if list(inputs.training_text) != inputs.languages:
        settings["sentencepiece_languages"] = list(inputs.training_text)
    if is_finished(args.output, settings, args.overwrite):
        print(f"{args.output} is already prepared from this. Nothing to do.")
        return
    with in_the_making(args.output, settings) as partial:
        proto = inputs.model or train_sentencepiece(
            [sentence for text in inputs.training_text.values() for sentence in text], vocab_size
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
        binarise(
            partial, inputs.splits, model, {lang: given / lang for lang in inputs.dictionaries}
        )
        shutil.rmtree(given)
        (partial / TEXT).mkdir()
        for split in inputs.splits:
            for lang, text in split.text.items():
                raw = "".join(f"{line}\n" for line in text)
                (partial / TEXT / f"{split.prefix}.{lang}").write_bytes(raw.encode("utf-8"))
            if split.image_ids is not None:
                write_image_ids(partial / f"{split.prefix}.images", split.image_ids)
        table = write_table(partial, inputs.splits, inputs.pictures, inputs.languages)
    print(f"wrote {args.output}: {len(pieces)} pieces, of splits")
    print(table)
    _report(inputs)


def _report(inputs: Inputs) -> None:
    for line in inputs.left_out:
        print(line)
    for split in inputs.splits:
        for lang in inputs.languages:
            if lang not in split.text:
                print(
                    f"{split.name} has no {lang}, so {split.prefix} is without the side that a teacher "
                    f"of {lang} reads"
                )
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


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add = parser.add_argument
    add("--root", metavar="DIR", type=Path, required=True, help="the Multi30k to read")
    add("--source", choices=LANGUAGES, required=True, help="language to translate from")
    add("--target", choices=LANGUAGES, required=True, help="language to translate into")
    add(
        "--teacher-source",
        choices=LANGUAGES,
        help="a third language, which the teacher translates from: the same sentences in it go along",
    )
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
        "the (subset of the) training set",
    )
    pieces.add_argument(
        "--vocab-size",
        metavar="N",
        type=int,
        help="pieces of the model to train; fewer where the text has no more (default: 36 times the "
        "root of the number of pairs, at least 500)",
    )
    add(
        "--sentencepiece-languages",
        metavar="LANG",
        nargs="+",
        choices=LANGUAGES,
        help="the languages to train the sentencepiece model on: the folder's (default) and others that "
        "are to share it; of each, the same lines of the training set",
    )
    for role in ROLES:
        add(
            dictionary_option(role),
            metavar="FILE",
            type=Path,
            help=f"use this dict.LANG.txt, such as the teacher's, for the {role.replace('_', ' ')} "
            "(default: the pieces of the sentencepiece model, one dictionary for all languages)",
        )
    add("--overwrite", action="store_true", help="replace an output that was made from other input")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    args = parse_args(argv)
    return exit_code(lambda: prepare(args), args.output)


if __name__ == "__main__":
    sys.exit(main())
