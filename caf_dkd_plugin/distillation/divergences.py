"""How far a student's distributions are from a teacher's.

Each function takes log-probabilities (..., V), the student's and the teacher's, and gives (...) in nats,
zero where they are equal. V is the target vocabulary. No gradient is meant to flow to the teacher.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

SMALLEST_LOG_PROB = math.log(torch.finfo(torch.float32).tiny)
"""what a probability of the teacher counts as at least, where the divergence would else be infinite"""


def forward_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(teacher || student), the paper's: the student must cover all that the teacher allows."""
    return F.kl_div(student, teacher.exp(), reduction="none").sum(dim=-1)


def reverse_kl(student: Tensor, teacher: Tensor) -> Tensor:
    """KL(student || teacher): the student must stay within what the teacher allows.

    A word that the teacher rules out costs as much as one at `SMALLEST_LOG_PROB`.
    """
    allowed = teacher.clamp(min=SMALLEST_LOG_PROB)
    return F.kl_div(allowed, student, reduction="none", log_target=True).sum(dim=-1)


def jensen_shannon(student: Tensor, teacher: Tensor) -> Tensor:
    """The mean KL of both to their equal mixture (Lin 1991): symmetric, at most log 2."""
    mixture = torch.logaddexp(student, teacher) - math.log(2)
    of_teacher = F.kl_div(mixture, teacher.exp(), reduction="none")  # 0 where the teacher has none
    of_student = F.kl_div(mixture, student, reduction="none", log_target=True)
    return (of_teacher + of_student).sum(dim=-1) / 2


DIVERGENCES = {"forward-kl": forward_kl, "reverse-kl": reverse_kl, "js": jensen_shannon}
"""as the command line names them"""
