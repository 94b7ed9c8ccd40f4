"""Load models of the task ``multimodal_translation`` from checkpoints, to translate or to measure."""

import os
from typing import Any, Dict, List, Optional, Sequence, Tuple

import numpy as np
import torch
from fairseq import checkpoint_utils, utils
from fairseq.tasks import FairseqTask

from .checkpoints.load import CheckpointError, PathLike, load_checkpoint

TASK = "multimodal_translation"


def load_models(
    checkpoint: PathLike, data: Optional[PathLike] = None, image_h5: Optional[PathLike] = None
) -> Tuple[List[torch.nn.Module], FairseqTask]:
    """Models in the order of their files, not yet in eval mode, and their task.

    Sentences without an image are masked; the caller says which images there are, or the store does.

    Args:
        checkpoint: its file; several, separated by colons, are an ensemble.
        data: folder with the dictionaries; None: the one that the checkpoint names.
        image_h5: image store.

    Raises:
        ValueError: a file is no checkpoint, another task, other dictionaries, a store of another kind
            than the training's, a store for a model that reads no images, or a model that cannot be given
            images beside one that reads them.
    """
    paths = utils.split_paths(os.fspath(checkpoint))
    _check_files(paths)
    overrides: Dict[str, Any] = {
        "image_h5": None if image_h5 is None else os.fspath(image_h5),
        "image_missing": "mask",
        "image_list": None,
        "image_list_weights": None,
        "eval_bleu": False,
        "required_seq_len_multiple": 1,  # these two pad every sentence, for training on a TPU
        "num_batch_buckets": 0,
    }
    if data is not None:
        overrides["data"] = os.fspath(data)
    models, _, task = checkpoint_utils.load_model_ensemble_and_task(paths, overrides)
    _check_together(paths, models)
    task.check_images_are_read()
    store = task.image_store()
    if store is not None:
        task.trained_images.check(store)
    return models, task


def length_problems(
    models: Sequence[torch.nn.Module],
    task: FairseqTask,
    sizes: np.ndarray,
    lines: np.ndarray,
    max_tokens: int,
    name: str,
) -> List[str]:
    """Which of L sentence pairs are too long for models that read them together, one line each.

    Args:
        models: as loaded.
        task: theirs.
        sizes: (L, 2) tokens of source and target.
        lines: (L,) their places in a split, from 0.
        max_tokens: what goes into one mini-batch.
        name: what to call the split.
    """
    limits = utils.resolve_max_positions(
        task.max_positions(), *(model.max_positions() for model in models)
    )
    found = []
    for side, limit, lengths in zip(("source", "target"), limits, sizes.T):
        too_long = lines[lengths > limit]
        if len(too_long):
            found.append(
                f"{len(too_long)} {side} sentences of {name} have more than the {limit} tokens that "
                f"the model reads, the first in line {too_long[0] + 1}"
            )
    if len(sizes) and sizes.max() > max_tokens:
        found.append(f"--max-tokens {max_tokens}: a sentence of {name} has {sizes.max()}")
    return found


def _check_files(paths: List[str]) -> None:
    """Say of every file what fairseq would stumble over in one of them; reads no weights."""
    problems = []
    for path in paths:
        try:
            name = _task_name(load_checkpoint(path))
        except CheckpointError as error:
            problems += error.problems
            continue
        if name != TASK:
            problems.append(
                f"{path} was trained with the task {name}, not with {TASK}. fairseq-generate translates "
                f"with it; to use it here, train it with --task {TASK}, which without --image-h5 is "
                "plain translation."
            )
    if problems:
        raise CheckpointError(problems)


def _check_together(paths: List[str], models: List[torch.nn.Module]) -> None:
    """All models of an ensemble are given the sentence and its image, of which ours may ignore the latter."""
    foreign = [path for path, model in zip(paths, models) if not hasattr(model.encoder, "fusion")]
    if foreign and any(getattr(model.encoder, "fusion", None) is not None for model in models):
        raise ValueError(
            f"{', '.join(foreign)}: an architecture that knows no images cannot be in one ensemble with a "
            "model that reads them. Leave it out, or put a cross_modal_transformer or cross_modal_rnn in "
            "its place: trained without --image-h5 they read text only."
        )


def _task_name(state: Dict[str, Any]) -> str:
    return state["cfg"]["task"]["_name"] if state.get("cfg") else state["args"].task
