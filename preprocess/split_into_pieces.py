"""Split text files into the pieces of a sentencepiece model, for fairseq-preprocess.

    python preprocess/split_into_pieces.py text/train.en text/train.de text/valid.en text/valid.de \\
        --sentencepiece text/spm.model --learn-from text/train.en text/train.de --vocab-size 2000
    python preprocess/split_into_pieces.py few/train.en few/train.de --sentencepiece text/spm.model

Of each file FOLDER/NAME, or FOLDER/NAME.gz, this writes FOLDER/sp.NAME, line by line. With --learn-from
the model is learned first, a unigram model of all characters; a model that is there already is never
replaced by another one, since text that was split by it would no longer fit. Only a line feed ends a
line, and any other white space becomes a single space.
"""

import argparse
import runpy
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence, Tuple

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[1] / "caf_dkd_plugin" / "quiet_start.py"))

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from multi30k_release import read_lines
from preparation_error import PreparationError
from sentencepiece_model import (
    default_vocab_size,
    load_model,
    train_sentencepiece,
    write_pieces,
)

from caf_dkd_plugin.command_line import destination_problems, positive
from caf_dkd_plugin.problems import noted, print_problems
from caf_dkd_plugin.whole_file import whole_file

PREFIX = "sp."


def split_into_pieces(args: argparse.Namespace) -> None:
    """Do what the command line says and print what was written.

    Raises:
        PreparationError: an input cannot be used, or the model that is there is another one.
    """
    texts, proto = read_inputs(args)
    if args.learn_from:
        proto = _learned(args, texts, proto)
    model = load_model(proto, f"--sentencepiece {args.sentencepiece}")
    for path in args.files:
        written = destination(path)
        with whole_file(written) as partial:
            lengths = write_pieces(partial, texts[path], model)
        print(f"wrote {written}: {len(lengths)} lines, {lengths.sum()} pieces")


def destination(path: Path) -> Path:
    """Where the pieces of a text go."""
    return path.with_name(PREFIX + path.name.removesuffix(".gz"))


def read_inputs(args: argparse.Namespace) -> Tuple[Dict[Path, List[str]], Optional[bytes]]:
    """The lines of all files, and the model if it is there.

    Raises:
        PreparationError: with all problems.
    """
    problems: List[str] = []
    texts = {}
    for path in dict.fromkeys([*args.files, *args.learn_from]):
        with noted(problems):
            texts[path] = read_lines(path)
            if not any(line.strip() for line in texts[path]):
                problems.append(f"{path} has no text")
    for path in args.files:
        if path.name.startswith(PREFIX):
            problems.append(f"{path} is called like the output of this program: give the raw text")
        problems += destination_problems("the output", destination(path))
    proto = None
    if not (args.learn_from or args.sentencepiece.is_file()):
        problems.append(
            f"--sentencepiece {args.sentencepiece} is not there; to learn it, say of which files: "
            "--learn-from"
        )
    elif args.sentencepiece.exists():
        with noted(problems):
            proto = args.sentencepiece.read_bytes()
            load_model(proto, f"--sentencepiece {args.sentencepiece}")
    else:
        problems += destination_problems("--sentencepiece", args.sentencepiece)
    if args.vocab_size and not args.learn_from:
        problems.append("--vocab-size is for learning a model, with --learn-from")
    if problems:
        raise PreparationError(list(dict.fromkeys(problems)))
    return texts, proto


def _learned(
    args: argparse.Namespace, texts: Dict[Path, List[str]], there: Optional[bytes]
) -> bytes:
    """The model of --learn-from, which is written unless it is there."""
    size = args.vocab_size or default_vocab_size(max(len(texts[path]) for path in args.learn_from))
    proto = train_sentencepiece([line for path in args.learn_from for line in texts[path]], size)
    if there is None:
        with whole_file(args.sentencepiece) as partial:
            partial.write_bytes(proto)
        pieces = load_model(proto, str(args.sentencepiece)).get_piece_size()
        print(f"wrote {args.sentencepiece}: {pieces} pieces")
    elif proto != there:
        raise PreparationError(
            [
                f"--sentencepiece {args.sentencepiece} is there and has been learned from other text "
                "or with another --vocab-size. Leave --learn-from out to split by it, or name another "
                "file."
            ]
        )
    return proto


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    add = parser.add_argument
    add("files", metavar="FILE", type=Path, nargs="+", help="text, a sentence a line")
    add("--sentencepiece", metavar="FILE", type=Path, required=True, help="the model")
    add(
        "--learn-from",
        metavar="FILE",
        type=Path,
        nargs="+",
        default=[],
        help="learn the model from these first: the training text, both languages for a joint one",
    )
    add(
        "--vocab-size",
        metavar="N",
        type=positive,
        help="pieces of a learned model, fewer where the text has no more (default: 36 times the root "
        "of the number of lines of the longest file, between 500 and 10,000)",
    )
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    try:
        split_into_pieces(parse_args(argv))
    except (PreparationError, OSError) as error:
        print_problems(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
