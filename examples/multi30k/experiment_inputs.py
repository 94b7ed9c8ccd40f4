"""Read and check everything that the experiment is given, before anything slow starts."""

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Collection, Dict, List, NamedTuple, Optional, Sequence, Tuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "preprocess"))

from experiment_grid import (
    ARMS,
    PRIMARY,
    SEEDS,
    SIZES,
    TEST_SETS,
    UNDISTILLED,
    Arm,
    Grid,
    Model,
)
from input_checks import (
    extra_problems,
    image_problems,
    machine_problems,
    number_problems,
    option_problems,
    unseen_problems,
)
from multi30k_release import SPLITS, Split, read_splits, read_subset
from option_files import CONFIGS, read_options, value_of
from preparation_error import PreparationError
from step_commands import SOURCE, TARGET

from caf_dkd_plugin.data.image_store import ImageStoreError
from caf_dkd_plugin.data.joined_stores import Images, open_stores
from caf_dkd_plugin.problems import ProblemsError

ROOT = Path(__file__).resolve().parents[2]
VAL_IMAGES = "val_images"
"""a second validation set, of lines with an image only, which a partial copy has whose val lacks most
images"""
SMOKE_EPOCHS = 2
"""of every training with --smoke"""


class ExperimentError(ProblemsError):
    """The experiment cannot be run like this; `problems` has one line each."""


class Inputs(NamedTuple):
    """What was read and found good."""

    grid: Grid
    pairs: Dict[str, int]
    """size -> pairs of the training set"""
    splits: Dict[str, Split]
    """Multi30k's name -> all of its sentences"""
    store: Optional[Images]
    notes: List[str]
    """what is left out, for people"""
    asked: List[str]
    """of experiment.py's options, those that hold for all models and are not the default"""


def read_inputs(args: argparse.Namespace) -> Inputs:
    """Read and check everything that the command line names.

    Raises:
        ExperimentError: all that is wrong.
    """
    problems: List[str] = []

    def attempt(function, *arguments):
        try:
            return function(*arguments)
        except PreparationError as error:
            problems.extend(error.problems)
        except (ImageStoreError, ValueError) as error:
            problems.extend(str(error).splitlines())
        return None

    read = attempt(read_splits, args.root, [SOURCE, TARGET], [], [])
    splits = {split.name: split for split in read[0]} if read else {}
    students, found = _students(args, splits)
    problems += found
    unseen = _unseen(args.teacher_subset, students)
    teachers: List[Model] = []
    if any(ARMS[student.arm].is_taught for student in students):
        teachers, found = _teachers(args, unseen, splits)
        problems += found
    models = [*teachers, *students]
    problems += option_problems(models)
    if unseen == "full":
        problems.append(
            "--teacher-subset rest leaves the teacher nothing: the size full is to be taught, and "
            "has all lines. Give other --sizes or --arms."
        )
    with_images = any(model.images for model in models)
    store = None
    if with_images and not args.image_h5:
        problems.append(
            "--image-h5 is missing: there are arms or teachers with images. Make a store with "
            "preprocess/extract_features.py, or leave them out by --arms and --teachers."
        )
    elif with_images:
        store = attempt(open_stores, args.image_h5.split(":"))
    subsets: Dict[str, str] = {}
    numbers: Dict[str, List[int]] = {}
    if splits:
        lines = len(splits["train"])
        numbers["full"] = list(range(lines))
        for size in dict.fromkeys([*(student.size for student in students), unseen]):
            if size in ("full", None):
                continue
            path = args.root / "subsets" / f"train_{size}.lines"
            subset = str(path) if path.is_file() else str(SIZES[size])
            subsets[size] = f"$MULTI30K_ROOT/subsets/{path.name}" if path.is_file() else subset
            numbers[size] = attempt(read_subset, subset, lines) or []
        problems += number_problems(args.root, unseen, students, numbers)
        problems += unseen_problems(args, unseen, students, numbers)
        problems += extra_problems(teachers, students, numbers)
        if unseen in subsets:
            seen_by_none = set(numbers[unseen])
            numbers[f"without-{unseen}"] = [n for n in range(lines) if n not in seen_by_none]
        if store:
            problems += image_problems(models, splits, numbers, store)
    test_sets = {name: splits[name].prefix for name in TEST_SETS if name in splits}
    if splits and not test_sets:
        problems.append(f"{args.root} has none of the test sets {' and '.join(TEST_SETS)}")
    problems += machine_problems(args.work, len(models))
    if problems:
        raise ExperimentError(problems)
    facts = {"text": _hash([[s.name, s.text, s.image_ids] for s in splits.values()])}
    if store:
        facts["images"] = _hash([store.content_sha256(), vars(store.description)])
    for size, subset in subsets.items():
        if not subset.isdigit():
            facts[f"lines of {size}"] = _hash(numbers[size])
    grid = Grid(
        teachers,
        students,
        subsets,
        unseen,
        lines,
        test_sets,
        args.vocab_size,
        args.copies,
        facts,
    )
    notes = [
        f"{args.root} has no {name}: it is not scored on"
        for name in TEST_SETS
        if name not in test_sets
    ]
    if with_images and VAL_IMAGES not in splits:
        notes.append(
            f"{args.root} has no {VAL_IMAGES}: val chooses the checkpoints with images, too"
        )
    pairs = {size: len(lines) for size, lines in numbers.items()}
    return Inputs(grid, pairs, splits, store, notes, _asked(args))


def _students(args: argparse.Namespace, splits: Collection[str]) -> Tuple[List[Model], List[str]]:
    """The grid, and which option files cannot be read."""
    found: Dict[Tuple[str, str, int], Model] = {}
    problems = []
    for size in args.sizes:
        asked = args.arms or (UNDISTILLED if size == "full" else PRIMARY)
        arms = {name: None for arm in asked for name in (ARMS[arm].begins_as, arm) if name}
        for seed in args.seeds or SEEDS[size]:
            for arm in arms:
                try:
                    words = _options(args, _option_files(size, ARMS[arm]), splits)
                except ValueError as error:
                    problems += str(error).splitlines()
                    continue
                origin = found.get((size, ARMS[arm].begins_as, seed))
                images = ARMS[arm].images
                found[size, arm, seed] = Model(size, arm, seed, words, images, origin=origin)
    return list(found.values()), list(dict.fromkeys(problems))


def _option_files(size: str, arm: Arm) -> List[str]:
    """A later file wins over those before it."""
    kind = f"{arm.student}-" if arm.student else ""
    own = f"{arm.options}-{size}" if arm.options else None
    names = [own or f"{kind}{size}{'' if arm.teacher else '-undistilled'}"]
    names += ["image"] if arm.images else []
    names += ["going-on"] if arm.begins_as else []
    names += [arm.extra] if arm.extra else []
    names += ["aligned-alone"] if arm.aligned and not arm.teacher else []
    names += [f"{kind}aligned"] if arm.aligned else []
    return [f"{name}.options" for name in names]


def _teachers(
    args: argparse.Namespace, unseen: Optional[str], splits: Collection[str]
) -> Tuple[List[Model], List[str]]:
    """Those of --teachers, and what is wrong with them.

    A teacher looks at images if and only if its option file has --image-missing.
    """
    found, problems = [], []
    for word in args.teachers:
        name, _, seed = word.partition(":")
        try:
            words = _options(args, [f"{name}.options"], splits)
        except ValueError as error:
            problems += str(error).splitlines()
            continue
        if not (seed or "1").isdigit():
            problems.append(f"--teachers {word}: {seed!r} is no seed; write {name}:1 or {name}")
            continue
        images = "--image-missing" in words
        size = f"without-{unseen}" if unseen else "full"
        found.append(Model(size, name, int(seed or 1), words, images, is_teacher=True))
    if len({model.name for model in found}) < len(found):
        problems.append(f"--teachers {' '.join(args.teachers)} names one twice")
    return found, problems


def _options(args: argparse.Namespace, files: Sequence[str], splits: Collection[str]) -> List[str]:
    words = [word for name in files for word in read_options(args.configs / name)]
    if value_of(words, "--valid-subset") == SPLITS[VAL_IMAGES] and VAL_IMAGES not in splits:
        words += ["--valid-subset", "valid"]
    if args.bf16 and (value_of(words, "--arch") or "").startswith("cross_modal"):
        words.append("--bf16")
    if args.smoke:
        words += ["--max-epoch", str(SMOKE_EPOCHS), "--validate-interval", "1"]
        # Of pieces one is right soon; fairseq-train fails where there is no BLEU to choose by.
        words += ["--eval-bleu-remove-bpe", "none"]
        if value_of(words, "--keep-last-epochs"):
            words += ["--keep-last-epochs", str(SMOKE_EPOCHS)]
    return words


def _asked(args: argparse.Namespace) -> List[str]:
    """Whose option files, by no path of this machine, and whether hardly anything is trained."""
    words = []
    configs = args.configs.resolve()
    if configs != CONFIGS:
        inside = configs.is_relative_to(ROOT)
        words += ["--configs", str(configs.relative_to(ROOT)) if inside else "$CONFIGS"]
    return [*words, "--smoke"] if args.smoke else words


def _unseen(subset: str, students: Sequence[Model]) -> Optional[str]:
    """The size whose lines the teachers do not see: for "rest" the biggest that is taught."""
    if subset == "all":
        return None
    if subset != "rest":
        return subset.removeprefix("without-")
    sizes = [student.size for student in students if ARMS[student.arm].is_taught]
    return max(sizes, key=list(SIZES).index, default=None)


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()
