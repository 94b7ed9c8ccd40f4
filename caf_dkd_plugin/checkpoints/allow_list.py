"""Which classes a checkpoint may hold, so that torch loads fairseq's files with ``weights_only=True``.

From torch 2.6 on ``torch.load`` builds nothing but tensors and plain containers unless a class is on
its allow-list. fairseq's checkpoints hold a few more, all harmless: the command line as an
``argparse.Namespace`` and, when trained with ``--eval-bleu``, NumPy counts. They are added to the
list here; a checkpoint that holds anything else is still refused.
"""

import argparse
from typing import Any, List, Tuple, Union

import numpy as np
import torch

_multiarray = np.core.multiarray if np.__version__ < "2" else np._core.multiarray


def fairseq_classes() -> List[Union[Any, Tuple[Any, str]]]:
    """What fairseq stores besides tensors and containers, in the form torch's allow-list takes.

    NumPy 1 writes ``numpy.core`` into the file and NumPy 2 ``numpy._core``; each name is listed, so
    that a checkpoint written with one loads with the other.
    """
    allowed: List[Union[Any, Tuple[Any, str]]] = [argparse.Namespace, np.ndarray, np.dtype]
    for package in ("numpy.core", "numpy._core"):
        allowed += [
            (getattr(_multiarray, name), f"{package}.multiarray.{name}")
            for name in ("_reconstruct", "scalar")
        ]
    # What `np.dtype("int64")` is an instance of: np.dtype itself until NumPy 1.24.
    allowed += sorted(
        {type(np.dtype(kind)) for kind in ("int32", "int64", "float32", "float64")} - {np.dtype},
        key=lambda kind: kind.__name__,
    )
    return allowed


def allow_fairseq_classes() -> None:
    """Put :func:`fairseq_classes` on torch's allow-list."""
    torch.serialization.add_safe_globals(fairseq_classes())
