"""Turn a teacher's translations into training pairs, for sequence-level distillation.

    python examples/sequence_level/synthetic_pairs.py --translations FILE --source FILE --images FILE \
        --source-lang en --target-lang de --output PREFIX

reads what fairseq-generate or fairseq-interactive printed, the sentences that it translated, one a
line, and the image of each; writes PREFIX.en, PREFIX.de (the teacher's words, detokenised) and
PREFIX.images, in the order of the sentences. Of several hypotheses (--nbest) it takes the best-scored
one, or with --closest-to the one closest to the sentence's real translation: Kim & Rush 2016,
"Sequence-Level Knowledge Distillation", sections 3.2 and 3.3.
"""

import argparse
import os
import runpy
import sys
from pathlib import Path
from typing import List, NamedTuple, Optional, Sequence

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parents[2] / "caf_dkd_plugin" / "quiet_start.py"))

from sacrebleu.metrics import BLEU

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fairseq_output import (
    Hypothesis,
    Translated,
    completeness_problems,
    in_lines,
    parse,
    source_problems,
    text_problems,
)

from caf_dkd_plugin.data.image_ids import ImageIdsError, read_image_ids, write_image_ids
from caf_dkd_plugin.problems import ProblemsError, print_problems


class PairsError(ProblemsError):
    """No training pairs can be made of this; `problems` has one line each."""


class Inputs(NamedTuple):
    """All files, found to belong together; a list has one entry for each sentence."""

    source: List[str]
    translated: List[Translated]
    images: Optional[List[str]]
    references: Optional[List[str]]


class Pair(NamedTuple):
    """A line of the training set."""

    source: str
    target: str
    image: str
    """"" for none"""


def read_lines(path: Path) -> List[str]:
    """The lines of a text file. Only a line feed ends a line, as for `wc -l`.

    Raises:
        PairsError: it cannot be read.
    """
    try:
        lines = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise PairsError([f"{path} cannot be read: {error}"]) from error
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_output(paths: Sequence[Path]) -> List[str]:
    """What a command printed, or the shards of one.

    Raises:
        PairsError: a file cannot be read or was cut off.
    """
    printed = [line for path in paths for line in read_lines(path)]
    cut = [path for path in paths if not path.read_bytes().endswith(b"\n")]
    if cut:
        raise PairsError(
            [f"{path} ends within a line: the command that wrote it was stopped" for path in cut]
        )
    return printed


def read_inputs(args: argparse.Namespace) -> Inputs:
    """Read all files.

    Raises:
        PairsError: all that is wrong with them.
    """
    problems: List[str] = []

    def attempt(read, given):
        try:
            return None if given is None else read(given)
        except (PairsError, ImageIdsError) as error:
            problems.extend(str(error).split("\n"))
            return None

    source = attempt(read_lines, args.source)
    images = attempt(read_image_ids, args.images)
    references = attempt(read_lines, args.closest_to)
    read = attempt(read_lines, args.teacher_source) if args.teacher_source else source
    printed = attempt(read_output, args.translations)
    if source is None:
        raise PairsError(problems)
    if not source:
        problems.append(f"{args.source} has no sentences")
    for option, path, lines in (
        ("--images", args.images, images),
        ("--closest-to", args.closest_to, references),
        ("--teacher-source", args.teacher_source, read),
    ):
        if lines is not None and len(lines) != len(source):
            problems.append(
                f"{option} {path} has {len(lines)} lines, but {args.source} has {len(source)} "
                "sentences. There must be one line for each sentence, in the same order."
            )
    translations, twice = parse(printed or [])
    if printed is not None and read is not None:
        path = args.teacher_source or args.source
        problems += completeness_problems(translations, len(read), path)
        problems += source_problems(translations, read, path)
    if twice:
        problems.append(
            f"{len(twice)} sentences were translated twice: {in_lines(twice)}. Give the output of one "
            "command, or the shards of one."
        )
    if references and {len(one.hypotheses) for one in translations.values()} == {1}:
        problems.append(
            "--closest-to has nothing to choose from: no sentence has more than one translation. "
            "Translate with --nbest as large as --beam."
        )
    if problems:
        raise PairsError(problems)
    return Inputs(source, [translations[n] for n in range(len(source))], images, references)


def choose(hypotheses: Sequence[Hypothesis], reference: Optional[str]) -> Hypothesis:
    """The best-scored hypothesis, or the one with the highest sentence-BLEU against a reference.

    Of several equally close ones it is the best-scored.
    """
    if reference is None:
        return max(hypotheses, key=lambda one: one.score)
    bleu = BLEU(effective_order=True)
    return max(
        hypotheses,
        key=lambda one: (bleu.sentence_score(one.text, [reference]).score, one.score),
    )


def make_pairs(inputs: Inputs, drop_empty: bool) -> List[Pair]:
    """The training set.

    Raises:
        PairsError: translations that are no text, or empty ones that are not to be dropped.
    """
    nothing = [None] * len(inputs.source)
    chosen = [
        choose(one.hypotheses, reference)
        for one, reference in zip(inputs.translated, inputs.references or nothing)
    ]
    pairs = [
        Pair(sentence, one.text.strip(), image or "")
        for sentence, one, image in zip(inputs.source, chosen, inputs.images or nothing)
    ]
    problems = text_problems(chosen)
    empty = [n for n, pair in enumerate(pairs) if not pair.source.strip() or not pair.target]
    if empty and not drop_empty:
        problems.append(
            f"{len(empty)} sentences or their translations are empty: {in_lines(empty)}. Leave them "
            "out, with their images, by --drop-empty."
        )
    if problems:
        raise PairsError(problems)
    if empty:
        print(f"left out {len(empty)} empty sentences or translations: {in_lines(empty)}")
    dropped = set(empty)
    return [pair for number, pair in enumerate(pairs) if number not in dropped]


def write_pairs(pairs: Sequence[Pair], args: argparse.Namespace) -> None:
    """Write all files under other names first, so that an interrupted run leaves none in part."""
    columns = {
        args.source_lang: [pair.source for pair in pairs],
        args.target_lang: [pair.target for pair in pairs],
    }
    args.output.parent.mkdir(parents=True, exist_ok=True)
    for suffix, lines in columns.items():
        content = "".join(f"{line}\n" for line in lines)
        Path(f"{args.output}.{suffix}.partial").write_bytes(content.encode("utf-8"))
    if args.images:
        columns["images"] = [pair.image for pair in pairs]
        write_image_ids(f"{args.output}.images.partial", columns["images"])
    for suffix in columns:
        os.replace(f"{args.output}.{suffix}.partial", f"{args.output}.{suffix}")
    with_image = sum(1 for pair in pairs if pair.image)
    print(
        f"wrote {args.output}.{{{','.join(columns)}}}: {len(pairs)} pairs"
        + (f", {with_image} of them with an image" if args.images else "")
    )


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])

    def file(option, **settings):
        parser.add_argument(option, metavar="FILE", type=Path, **settings)

    file(
        "--translations",
        nargs="+",
        required=True,
        help="what fairseq-generate or fairseq-interactive printed; several files if it ran in shards",
    )
    file("--source", required=True, help="raw source sentences, one a line")
    file("--images", help="the image of each, as in SPLIT.images")
    file(
        "--teacher-source",
        help="the sentences that the teacher read, where these are in another language than --source",
    )
    file(
        "--closest-to",
        help="real translations: of each sentence's hypotheses take the one with the highest "
        "sentence-BLEU (default: the best-scored)",
    )
    add = parser.add_argument
    add("--drop-empty", action="store_true", help="leave empty sentences and translations out")
    add("--source-lang", metavar="LANG", required=True, help="suffix of the file of sentences")
    add("--target-lang", metavar="LANG", required=True, help="suffix of the file of translations")
    add("--output", metavar="PREFIX", type=Path, required=True, help="of the files to write")
    return parser.parse_args(argv)


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    args = parse_args(argv)
    try:
        write_pairs(make_pairs(read_inputs(args), args.drop_empty), args)
    except (PairsError, OSError) as error:
        print_problems(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
