"""The losses of a taught student on tensors: cross-entropy, word-level distillation, and their mixture.

Letters: N target positions (any leading shape), V target vocabulary, T temperature.
"""

from typing import Callable, NamedTuple, Tuple, Union

import torch
import torch.nn.functional as F
from torch import Tensor

from .blockwise_loss import BlockwiseLoss, Mixture
from .divergences import forward_kl
from .top_k import NEVER, TopK, soft_probabilities, soften_top_k


def soften(log_probs: Tensor, temperature: float) -> Tensor:
    """Log-probabilities at a temperature: log softmax(z / T), from those at T = 1.

    The logits z need not be known: log p = z - c, and the softmax does not see the constant.

    Args:
        log_probs: (..., V) at T = 1.
        temperature: T > 0.

    Returns:
        (..., V); `log_probs` itself at T = 1.
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
    if isinstance(teacher, TopK):
        softened = soften_top_k(teacher, temperature, student_log_probs.size(-1))
    else:
        softened = soften(teacher, temperature)
    found = divergence(soften(student_log_probs, temperature), softened.detach())
    return found.masked_fill(~real, 0.0) * temperature**2


class Losses(NamedTuple):
    """Of each position (N,), in nats; zero at padding."""

    mixed: Tensor
    """lambda * CE + (1 - lambda) * KD; the only one to be differentiated"""
    nll: Tensor
    """the negative log-probability of the target"""
    kd: Tensor
    """:func:`distillation_loss`"""


def mixed_loss(
    student_log_probs: Tensor,
    target: Tensor,
    padding: int,
    teacher: Union[Tensor, TopK],
    mixture: Mixture,
    divergence: Callable[[Tensor, Tensor], Tensor] = forward_kl,
) -> Losses:
    """Label-smoothed cross-entropy and distillation, mixed (CAF-DKD, final loss).

    With KL(teacher || student) it is computed in blocks, by :class:`.blockwise_loss.BlockwiseLoss`, which is
    the same but for rounding.

    Args:
        student_log_probs: (N, V), as for :func:`distillation_loss`.
        target: (N,).
        padding: the symbol of targets that do not count.
        teacher: as for :func:`distillation_loss`.
        mixture: of the two.
        divergence: as for :func:`distillation_loss`.

    Raises:
        ValueError: as :func:`distillation_loss`.
    """
    real = target.ne(padding)
    symbols, temperature = student_log_probs.size(-1), mixture.temperature
    # --amp on a GPU would take products of float32 in half precision
    with torch.autocast(student_log_probs.device.type, enabled=False):
        if divergence is forward_kl:
            softened = _softened_rows(teacher, temperature, symbols)
            return Losses(*BlockwiseLoss.apply(student_log_probs, target, real, mixture, softened))
        kd = distillation_loss(student_log_probs, teacher, real, temperature, divergence)
        known = target.masked_fill(~real, 0).unsqueeze(-1)
        nll = -student_log_probs.gather(-1, known).squeeze(-1).masked_fill(~real, 0.0)
        smooth = -student_log_probs.sum(dim=-1).masked_fill(~real, 0.0)
        at_target, each = mixture.cross_entropy_weights(symbols)
        cross_entropy = at_target * nll + each * smooth
        return Losses(mixture.kd_lambda * cross_entropy + (1 - mixture.kd_lambda) * kd, nll, kd)


def _softened_rows(
    teacher: Union[Tensor, TopK], temperature: float, symbols: int
) -> Callable[[Tensor], Tuple[Tensor, Tensor]]:
    """What :class:`.blockwise_loss.BlockwiseLoss` asks for of the teacher."""
    if isinstance(teacher, TopK):
        *numbers, shape = teacher

        def softened(rows: Tensor) -> Tuple[Tensor, Tensor]:
            kept = TopK(*(number[rows] for number in numbers), shape)
            return soft_probabilities(kept, temperature, symbols)
    else:

        def softened(rows: Tensor) -> Tuple[Tensor, Tensor]:
            log_q = soften(teacher.detach()[rows], temperature)
            q = log_q.exp()
            return q, torch.linalg.vecdot(q, log_q.clamp(min=NEVER))

    return softened
