"""Word-level distillation losses on tensors.

Letters: N target positions (any leading shape), V target vocabulary, T temperature.
"""

from typing import Callable, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from .blockwise_kl import BlockwiseKL
from .divergences import forward_kl
from .top_k import NEVER, TopK, soft_probabilities, soften_top_k


def soften(log_probs: Tensor, temperature: float) -> Tensor:
    """Log-probabilities at a temperature: log softmax(z / T), from those at T = 1.

    The logits z need not be known: log p = z - c, and the softmax does not see the constant.

    Args:
        log_probs: (..., V) at T = 1.
        temperature: T > 0.

    Returns:
        (..., V).
    """
    if temperature == 1:
        return log_probs
    return F.log_softmax(log_probs / temperature, dim=-1)


def distillation_loss(
    student_log_probs: Tensor,
    teacher: Union[Tensor, TopK],
    real: Tensor,
    temperature: float,
    divergence: Callable[[Tensor, Tensor], Tensor] = forward_kl,
) -> Tensor:
    """The divergence of the student from the teacher at temperature T, times T squared, for each position.

    L_KD of CAF-DKD (section "differentiable knowledge distillation") where the divergence is KL(teacher ||
    student); the factor T^2 keeps the size of the gradients (Hinton et al. 2015, section 2), of any
    divergence that is quadratic where student and teacher nearly agree. The paper's listing averages over
    sentences and counts padding; here the caller sums over real positions and divides by fairseq's sample
    size.

    Args:
        student_log_probs: (N, V) at T = 1, float32 or float64 (fairseq gives float32 for any model).
        teacher: log-probabilities (N, V) at T = 1, or what is known of them; no gradient flows into it.
            At padding its numbers may be anything finite.
        real: (N,) bool, False at padding, whose loss is zero.
        temperature: T > 0; softens both distributions.
        divergence: one of :mod:`~caf_dkd_plugin.distillation.divergences`.

    Returns:
        (N,) in nats.

    Raises:
        ValueError: T < 1 and only the top k of the teacher is known.
    """
    if divergence is forward_kl:
        found = BlockwiseKL.apply(
            student_log_probs.flatten(0, -2),
            real.flatten(),
            temperature,
            _softened_rows(teacher, temperature, student_log_probs.size(-1)),
        ).view_as(real)
    else:
        student = soften(student_log_probs, temperature)
        if isinstance(teacher, TopK):
            softened = soften_top_k(teacher, temperature, student.size(-1))
        else:
            softened = soften(teacher, temperature)
        found = divergence(student, softened.detach()).masked_fill(~real, 0.0)
    return found * temperature**2


def _softened_rows(
    teacher: Union[Tensor, TopK], temperature: float, symbols: int
) -> Callable[[Tensor], Tuple[Tensor, Tensor]]:
    """What :class:`BlockwiseKL` asks for of the teacher."""
    if isinstance(teacher, TopK):
        *numbers, shape = teacher
        flat = [number.flatten(0, -2) for number in numbers]

        def softened(rows: Tensor) -> Tuple[Tensor, Tensor]:
            kept = TopK(*(number[rows] for number in flat), shape)
            return soft_probabilities(kept, temperature, symbols)
    else:
        log_probs = teacher.detach().flatten(0, -2)

        def softened(rows: Tensor) -> Tuple[Tensor, Tensor]:
            log_q = soften(log_probs[rows], temperature)
            q = log_q.exp()
            return q, torch.linalg.vecdot(q, log_q.clamp_(min=NEVER))

    return softened
