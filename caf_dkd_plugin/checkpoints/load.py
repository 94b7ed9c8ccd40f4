"""Read a fairseq checkpoint with torch's safe loader."""

import os
import zipfile
from typing import Any, Dict

import torch

from ..data.image_ids import PathLike
from ..problems import ProblemsError


class CheckpointError(ProblemsError):
    """Checkpoints cannot be used; `problems` has one line each."""


def load_checkpoint(path: PathLike) -> Dict[str, Any]:
    """What fairseq has saved, on the CPU; "model" is its state dict.

    The tensors are mapped: one that nobody uses, such as the optimiser's state, is not read.

    Raises:
        CheckpointError: there is no such file, it is a folder or damaged, or fairseq has not written it.
    """
    if os.path.isdir(path):
        raise CheckpointError([f"{path} is a folder; name a checkpoint in it"])
    if not os.path.isfile(path):
        raise CheckpointError([f"{path} does not exist"])
    mappable = zipfile.is_zipfile(path)  # files from before torch 1.6 are not
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mappable)
    except Exception as error:  # there is none that the bytes of a foreign file cannot cause
        raise CheckpointError(
            [f"{path} is no checkpoint that can be loaded: {' '.join(str(error).split())}"]
        ) from error
    if not isinstance(state, dict) or not isinstance(state.get("model"), dict):
        raise CheckpointError([f"{path} is no fairseq checkpoint: it holds no model"])
    return state
