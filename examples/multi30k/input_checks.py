"""What can be wrong with the data, the option files and the machine of the experiment.

Each function returns one line for each problem.
"""

import argparse
import contextlib
import io
import os
import shutil
import sys
from pathlib import Path
from typing import Dict, List, Optional, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "preprocess"))

from experiment_grid import ARMS, Model, left_out
from extra_sources import UNTRANSLATED
from fairseq import options
from multi30k_release import Split
from option_files import value_of

from caf_dkd_plugin.data.joined_stores import Images

SET_BY_THE_PROGRAM = (
    *("--user-dir", "--task", "--source-lang", "--target-lang", "--seed", "--save-dir"),
    *("--image-h5", "--teacher-path", "--teacher-cache", "--init-from"),
    *("--log-format", "--log-interval"),
)
"""of fairseq-train's flags, those that no option file may have"""
BYTES_OF_A_MODEL = 200 * 2**20
"""on the disk, about: its last and its best checkpoint"""


def number_problems(
    root: Path, unseen: Optional[str], students: Sequence[Model], numbers: Dict[str, List[int]]
) -> List[str]:
    """Which lines would stay where the shell takes them out, by their text as it is in the file."""
    problems = []
    for size in left_out(unseen, students):
        path = root / "subsets" / f"train_{size}.lines"
        if size == "full" or not path.is_file():
            continue
        texts = path.read_bytes().replace(b"\r", b"").decode("utf-8", "replace").split("\n")
        odd = [text for text, number in zip(texts, numbers[size]) if text != str(number)]
        if odd:
            problems.append(
                f"{path} has {odd[0]!r}: write plain numbers, without spaces or zeros before them"
            )
    return problems


def unseen_problems(
    args: argparse.Namespace,
    unseen: Optional[str],
    students: Sequence[Model],
    numbers: Dict[str, List[int]],
) -> List[str]:
    """Why the teachers would see lines that they are not to see."""
    if unseen in (None, "full"):
        return []
    problems = []
    if args.teacher_subset == "rest" and numbers[unseen]:
        hidden = set(numbers[unseen])
        for size in dict.fromkeys(s.size for s in students if ARMS[s.arm].is_taught):
            seen = set(numbers[size]) - hidden
            if seen:
                problems.append(
                    f"--teacher-subset rest: {len(seen)} of the {len(numbers[size])} lines of {size} are "
                    f"not in {unseen}, so that the teacher would learn from them. Nest the subsets, or "
                    "run one size at a time."
                )
    return problems


def extra_problems(
    teachers: Sequence[Model], students: Sequence[Model], numbers: Dict[str, List[int]]
) -> List[str]:
    """Why there would be no extra sources, or teachers could not be asked."""
    with_extra = [student for student in students if student.extra]
    problems = []
    for without, asking in (
        ("the extra sources of --arms {} have none", with_extra),
        (
            "--arms {} ask them without any",
            [s for s in students if s.asks_teachers and not s.images],
        ),
    ):
        arms = " ".join(dict.fromkeys(student.arm for student in asking))
        problems += [
            f"--teachers {teacher.arm} looks at images (its options have --image-missing), but "
            f"{without.format(arms)}. Give teachers that read text only."
            for teacher in teachers
            if teacher.images and arms
        ]
    for extra in dict.fromkeys(student.extra for student in with_extra):
        have, lines = len(numbers[extra.size]), len(numbers["full"])
        if extra.kind == UNTRANSLATED and have == lines:
            problems.append(
                f"--sizes {extra.size} has all {lines} lines, so that none is left for the arms "
                f"with {UNTRANSLATED} sources. Give other --sizes or --arms."
            )
    return problems


def option_problems(models: Sequence[Model]) -> List[str]:
    """What fairseq-train would say of the option files, and what it would not say."""
    found: Dict[str, None] = {}
    for model in models:
        where = f"the options of {model.arm if model.is_teacher else f'{model.size} {model.arm}'}"
        for flag in sorted(set(model.options) & set(SET_BY_THE_PROGRAM)):
            found[f"{where} have {flag}, which the experiment sets by itself: leave it out"] = None
        if not (value_of(model.options, "--max-epoch") or "").isdigit():
            found[f"{where} have no --max-epoch N, by which the time left is told"] = None
        if not {"--max-tokens", "--batch-size"} & set(model.options):
            found[f"{where} have neither --max-tokens nor --batch-size"] = None
        if "--eval-bleu" not in model.options:
            found[f"{where} have no --eval-bleu, for the learning curve"] = None
        if model.averaged and "--no-epoch-checkpoints" in model.options:
            found[f"{where} have --keep-last-epochs and --no-epoch-checkpoints: leave one"] = None
        problem = _parser_problem(["data", "--task", "multimodal_translation", *model.options])
        if problem:
            found[f"{where}: {problem}"] = None
    return list(found)


def _parser_problem(words: Sequence[str]) -> Optional[str]:
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        try:
            options.parse_args_and_arch(options.get_training_parser(), input_args=list(words))
        except SystemExit:
            return said.getvalue().strip().splitlines()[-1].partition("error: ")[2]
        except Exception as error:  # an unknown --arch is a RuntimeError without text
            return f"fairseq-train does not take them ({type(error).__name__} {error})".rstrip()
    return None


def image_problems(
    models: Sequence[Model],
    splits: Dict[str, Split],
    numbers: Dict[str, List[int]],
    store: Images,
) -> List[str]:
    """Have the training sets images, and where none may be missing, all lines?"""
    found: Dict[str, None] = {}
    train = splits["train"].image_ids
    if train is None:
        return [
            "train has no list of images (train.images): leave arms and teachers with images out"
        ]
    for model in models:
        if not model.images or not numbers.get(model.size):
            continue
        ids = [train[number] for number in numbers[model.size]]
        there = sum(1 for image_id in ids if image_id in store)
        if not there:
            message = (
                f"none of the {len(ids)} lines of the training set {model.size} has an image that is "
                f"in {store.path}"
            )
            found[message] = None
        if value_of(model.options, "--image-missing") != "mask":
            read = {"the training set " + model.size: ids}
            read.update(
                (name, split.image_ids or []) for name, split in splits.items() if name != "train"
            )
            for name, its in read.items():
                missing = sum(1 for image_id in its if image_id and image_id not in store)
                if missing:
                    message = (
                        f"{missing} of the {len(its)} images of {name} are not in {store.path}; with "
                        "--image-missing mask in the option file their lines go without"
                    )
                    found[message] = None
    return list(found)


def machine_problems(folder: Path, models: int) -> List[str]:
    """Which programs are not there, and whether the disk is too full for so many models."""
    found = []
    programs = Path(sys.executable).parent
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    for program in ("fairseq-train", "fairseq-generate", "fairseq-interactive", "python"):
        if not shutil.which(program, path=path):
            found.append(f"there is no {program} in {programs} or on the PATH; install the plugin")
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free, needed = shutil.disk_usage(existing).free, models * BYTES_OF_A_MODEL
    kept = sum(path.stat().st_size for path in folder.rglob("*.pt")) if folder.exists() else 0
    if free < needed - kept:
        found.append(
            f"{existing} has {free / 2**30:.1f} GiB free, and {models} models need about "
            f"{needed / 2**30:.1f}, of which {kept / 2**30:.1f} are there"
        )
    return found
