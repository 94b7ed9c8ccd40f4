"""Where the processor would wait for a GPU."""

from torch import Tensor


def is_slow_to_look_at(tensor: Tensor) -> bool:
    """Whether to learn a value is to wait for all that a GPU has still to do."""
    return tensor.is_cuda
