"""How a student's attention heads are compared with a teacher's, of which there may be another number.

Letters: B sentences, C attention maps of a family (C_s the student's, C_t the teacher's), X queries, K
keys.
"""

from typing import Callable, Dict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SMALLEST_PROBABILITY = 1e-8
"""what the student's attention counts as at least where the teacher looks"""


def row_divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student) of rows that are distributions over keys: (..., K) twice -> (...) in nats.

    Keys of which the teacher has nothing, such as masked ones, add nothing.
    """
    student = student.clamp(min=SMALLEST_PROBABILITY).log()
    return (torch.xlogy(teacher, teacher) - teacher * student).sum(dim=-1)


class RowMix(nn.Module):
    """Each head of the teacher is compared with a mixture of the student's.

    The mixtures' weights are rows of a softmax, so that a mixture is a distribution over the same keys
    as the heads in it. They are learned with the translation. The weights begin at random: from equal
    ones every head of the student would be drawn to the same place.

    Args:
        student: C_s.
        teacher: C_t.
    """

    def __init__(self, student: int, teacher: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(teacher, student))

    def forward(self, student: Tensor, teacher: Tensor, rows: Tensor) -> Tensor:
        """See :data:`ALIGNERS`."""
        weights = _wide(self.weight).softmax(dim=-1)  # (C_t, C_s)
        mixed = torch.einsum("ts,bsxk->btxk", weights, _wide(student))
        return _of_sentences(row_divergence(mixed, _wide(teacher)), rows)


class Mean(nn.Module):
    """The mean of the student's heads is compared with the mean of the teacher's. Nothing is learned.

    Args:
        student: C_s.
        teacher: C_t.
    """

    def __init__(self, student: int, teacher: int):
        super().__init__()

    def forward(self, student: Tensor, teacher: Tensor, rows: Tensor) -> Tensor:
        """See :data:`ALIGNERS`."""
        student, teacher = (_wide(x).mean(dim=1, keepdim=True) for x in (student, teacher))
        return _of_sentences(row_divergence(student, teacher), rows)


class FlatConv(nn.Module):
    """The published form (Jin et al. 2024), to compare with; with what is wrong with it.

    A convolution of size 1 with a bias makes as many maps of the student's as the teacher has; over all
    cells of a map together, padding included, both sides go through another softmax; their KL is summed
    over maps. So the loss of a sentence depends on how far its mini-batch is padded.

    Args:
        student: C_s.
        teacher: C_t.
    """

    def __init__(self, student: int, teacher: int):
        super().__init__()
        self.mix = nn.Conv2d(student, teacher, kernel_size=1)

    def forward(self, student: Tensor, teacher: Tensor, rows: Tensor) -> Tensor:
        """See :data:`ALIGNERS`; `rows` are not looked at."""
        weight, bias = _wide(self.mix.weight)[:, :, 0, 0], _wide(self.mix.bias)
        # conv2d refuses X = 0, to which --ignore-prefix-size may lead
        mixed = torch.einsum("ts,bsxk->btxk", weight, _wide(student)) + bias[:, None, None]
        aligned = mixed.flatten(2).log_softmax(dim=-1)  # (B, C_t, X K)
        target = _wide(teacher).flatten(2).log_softmax(dim=-1)
        return F.kl_div(aligned, target, reduction="none", log_target=True).sum(dim=(1, 2))


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _of_sentences(divergence: Tensor, rows: Tensor) -> Tensor:
    """(B, C, X) and the rows that count (B, X) -> (B,): over them the sum of the heads' means."""
    return divergence.mean(dim=1).masked_fill(~rows, 0.0).sum(dim=-1)


ALIGNERS: Dict[str, Callable[[int, int], nn.Module]] = {
    "rowmix": RowMix,
    "conv": FlatConv,
    "mean": Mean,
}
"""as the command line names them: of C_s and C_t each makes a module, which is called with the maps of
student (B, C_s, X, K) and teacher (B, C_t, X, K) and with the rows that count (B, X) bool, and gives
(B,) in nats"""
