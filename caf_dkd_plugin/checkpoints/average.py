"""Average the weights of checkpoints into one.

    python -m caf_dkd_plugin average --inputs CKPT CKPT ... --output FILE
    python -m caf_dkd_plugin average --inputs FOLDER --num-epoch-checkpoints 5 --output FILE

The options are those of fairseq's scripts/average_checkpoints.py, which is not part of its packages
and loads no checkpoint on torch >= 2.6.
"""

import argparse
import re
from argparse import Namespace
from pathlib import Path
from typing import Any, Dict, List, Optional, Sequence

import torch
from torch import Tensor

from ..command_line import destination_problems, positive
from ..data.dictionaries import first_difference
from ..data.image_ids import in_short
from ..problems import print_problems
from ..whole_file import whole_file
from .load import CheckpointError, load_checkpoint

OPTIMIZER = "last_optimizer_state"
EPOCHS = re.compile(r"checkpoint(\d+)\.pt")
UPDATES = re.compile(r"checkpoint_\d+_(\d+)\.pt")


def average(states: Sequence[Dict[str, Any]]) -> Dict[str, Any]:
    """The checkpoint whose weights are the mean of those of others, which :func:`disagreements`
    finds to be of one model.

    Weights are added up in float64 and get the type that they have in the last checkpoint. Whole
    numbers, such as BatchNorm's count of batches, and all else are the last one's. The optimiser's
    state is left out: it belongs to other weights.
    """
    last = {name: value for name, value in states[-1].items() if name != OPTIMIZER}
    weights = {name: _mean([state["model"][name] for state in states]) for name in last["model"]}
    return {**last, "model": weights}


def _mean(tensors: List[Tensor]) -> Tensor:
    if not tensors[-1].is_floating_point():
        return tensors[-1]
    return (sum(tensor.double() for tensor in tensors) / len(tensors)).to(tensors[-1].dtype)


def disagreements(one: Dict[str, Any], other: Dict[str, Any]) -> List[str]:
    """Why two checkpoints are not of one model, one line each; empty when they are."""
    weights, others = one["model"], other["model"]
    found = []
    for place, names in (
        ("first", [name for name in weights if name not in others]),
        ("second", [name for name in others if name not in weights]),
    ):
        if names:
            found.append(f"tensors only in the {place} ({len(names)}): {in_short(names)}")
    shapes = [
        f"{name} is {tuple(weights[name].shape)} and {tuple(others[name].shape)}"
        for name in weights
        if name in others and weights[name].shape != others[name].shape
    ]
    if shapes:
        found.append(f"tensors of other shapes ({len(shapes)}): {in_short(shapes)}")
    settings, other_settings = model_settings(one), model_settings(other)
    unequal = [
        f"{name} is {settings.get(name)} and {other_settings.get(name)}"
        for name in {**settings, **other_settings}
        if settings.get(name) != other_settings.get(name)
    ]
    if unequal:
        found.append(f"other settings of the model ({len(unequal)}): {in_short(unequal)}")
    tasks = [state.get("task_state", {}) for state in (one, other)]
    for side in ("source", "target"):
        known = [task.get(f"{side}_symbols") for task in tasks]
        difference = None if None in known else first_difference(*known)
        if difference:
            found.append(f"another {side} dictionary: {difference}")
    if tasks[0].get("images") != tasks[1].get("images"):
        found.append("images of another kind in training")
    return found


def model_settings(state: Dict[str, Any]) -> Dict[str, Any]:
    """The settings in a checkpoint that are the model's alone.

    What also belongs to another component, such as the seed, does not count. An architecture without
    a dataclass, such as fairseq's lstm, stores the whole command line as its settings.
    """
    groups = dict(state.get("cfg") or {})
    model = groups.pop("model", None) or {}
    if isinstance(model, Namespace):
        model = vars(model)
    elsewhere = {name for group in groups.values() if group for name in group} | groups.keys()
    return {name: value for name, value in model.items() if name not in elsewhere}


def newest(folder: Path, names: "re.Pattern[str]", count: int, bound: Optional[int]) -> List[Path]:
    """The last `count` checkpoints of a folder, the newest last.

    Args:
        folder: where fairseq-train saved them.
        names: of the files; its group is the number of epoch or update.
        count: how many.
        bound: the highest number to take; None: no bound.

    Raises:
        CheckpointError: there are fewer.
    """
    if not folder.is_dir():
        raise CheckpointError(
            [f"there is no folder {folder}; --inputs is one folder with --num-..."]
        )
    numbers = {}
    for path in folder.iterdir():
        match = names.fullmatch(path.name)
        if match and (bound is None or int(match[1]) <= bound):
            numbers[path] = int(match[1])
    if len(numbers) < count:
        within = "" if bound is None else f" up to number {bound}"
        raise CheckpointError(
            [
                f"{folder} has {len(numbers)} checkpoints called {names.pattern}{within}, not {count}. "
                "fairseq-train keeps those of each epoch without --no-epoch-checkpoints, and those of "
                "updates with --save-interval-updates."
            ]
        )
    return sorted(numbers, key=numbers.__getitem__)[-count:]


def write_average(paths: Sequence[Path], output: Path) -> None:
    """Average checkpoints into a file, which is there only when it is complete.

    Raises:
        CheckpointError: everything that is wrong with any of them; nothing is written then.
    """
    problems, states = destination_problems("--output", output), []
    if any(output.exists() and path.exists() and output.samefile(path) for path in paths):
        problems.append(f"--output {output} is one of the inputs, and would replace it")
    for path in paths:
        try:
            states.append(load_checkpoint(path))
        except CheckpointError as error:
            problems += error.problems
            continue
        found = disagreements(states[0], states[-1])
        if found:
            problems.append(
                f"{path} is not of one model with {paths[0]} (first: {paths[0]}, second: {path}): "
                + "; ".join(found)
            )
    if problems:
        raise CheckpointError(problems)
    with whole_file(output) as partial:
        torch.save(average(states), partial)


def parse_args(argv: Optional[Sequence[str]]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m caf_dkd_plugin average", description=__doc__.partition("\n\n")[0]
    )
    add = parser.add_argument
    add(
        "--inputs",
        metavar="CKPT",
        type=Path,
        nargs="+",
        required=True,
        help="the checkpoints, or with --num-... the one folder they are in",
    )
    add("--output", metavar="FILE", type=Path, required=True, help="the checkpoint to write")
    group = parser.add_mutually_exclusive_group()
    for unit, name in (("epoch", "checkpointN.pt"), ("update", "checkpoint_EPOCH_N.pt")):
        group.add_argument(
            f"--num-{unit}-checkpoints",
            metavar="COUNT",
            type=positive,
            help=f"average the last COUNT {name} of the folder",
        )
    add(
        "--checkpoint-upper-bound",
        metavar="N",
        type=int,
        help="with --num-..., the last epoch or update to take",
    )
    args = parser.parse_args(argv)
    if args.num_epoch_checkpoints or args.num_update_checkpoints:
        if len(args.inputs) > 1:
            parser.error(f"--num-... takes one folder as --inputs, not {len(args.inputs)} paths")
    elif args.checkpoint_upper_bound is not None:
        parser.error("--checkpoint-upper-bound needs --num-epoch-checkpoints or --num-update-...")
    return args


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Run the command; the exit code."""
    args = parse_args(argv)
    paths, bound = args.inputs, args.checkpoint_upper_bound
    try:
        if args.num_epoch_checkpoints:
            paths = newest(paths[0], EPOCHS, args.num_epoch_checkpoints, bound)
        elif args.num_update_checkpoints:
            paths = newest(paths[0], UPDATES, args.num_update_checkpoints, bound)
        write_average(paths, args.output)
    except (CheckpointError, OSError) as error:
        print_problems(error)
        return 1
    print(f"wrote {args.output}, the mean of {len(paths)}: {', '.join(map(str, paths))}")
    return 0
