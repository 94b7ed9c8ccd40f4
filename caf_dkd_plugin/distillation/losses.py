"""Word-level distillation losses on tensors.

Letters: N target positions (any leading shape), V target vocabulary, T temperature.
"""

from typing import Callable, Union

import torch.nn.functional as F
from torch import Tensor

from .divergences import forward_kl
from .top_k import TopK, soften_top_k


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
    student = soften(student_log_probs, temperature)
    if isinstance(teacher, TopK):
        softened = soften_top_k(teacher, temperature, student.size(-1))
    else:
        softened = soften(teacher, temperature)
    return divergence(student, softened.detach()).masked_fill(~real, 0.0) * temperature**2
