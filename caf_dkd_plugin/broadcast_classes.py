"""Which classes rank 0 may send to the other processes of a training, so that it can go on.

When a training in several processes goes on, fairseq loads the checkpoint in one of them and sends it
to the others, where ``torch.load`` reads it: from torch 2.6 on with the allow-list of
:mod:`.checkpoints.allow_list`. By then the settings are omegaconf's containers and each tensor is a
number, of the place where it follows. These are added to the list here. They let a checkpoint do
nothing new: fairseq makes them of what is in it.
"""

from collections import defaultdict
from typing import Any, List, Tuple

import torch
from fairseq.distributed.utils import _TensorPlaceholder
from omegaconf import DictConfig, ListConfig
from omegaconf.base import ContainerMetadata, Metadata
from omegaconf.nodes import AnyNode


def broadcast_classes() -> List[Tuple[Any, str]]:
    """The classes with the names under which they are sent, which is the form torch's list takes."""
    classes = [DictConfig, ListConfig, ContainerMetadata, Metadata, AnyNode, _TensorPlaceholder]
    classes += [defaultdict, dict, list, int]
    return [(each, f"{each.__module__}.{each.__qualname__}") for each in classes] + [
        (Any, "typing.Any")  # no class before Python 3.11
    ]


def allow_broadcast_classes() -> None:
    """Put :func:`broadcast_classes` on torch's allow-list."""
    torch.serialization.add_safe_globals(broadcast_classes())
