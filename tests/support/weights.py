"""Weights of checkpoints, and their comparison."""

from pathlib import Path
from typing import Dict, Union

import torch

Weights = Dict[str, torch.Tensor]


def weights(checkpoint: Path) -> Weights:
    """The model's."""
    return torch.load(checkpoint, map_location="cpu", weights_only=True)["model"]


def assert_same_weights(
    found: Union[Path, Weights], expected: Union[Path, Weights], rtol: float = 0, atol: float = 0
) -> None:
    """The same tensors, to the last bit unless a tolerance is given."""
    found, expected = (x if isinstance(x, dict) else weights(x) for x in (found, expected))
    assert found.keys() == expected.keys()
    for name, weight in expected.items():
        if not name.endswith("_float_tensor"):  # fairseq's Transformer never sets it
            torch.testing.assert_close(
                found[name],
                weight,
                rtol=rtol,
                atol=atol,
                msg=lambda text, name=name: f"{name}: {text}",
            )
