"""Word-level distillation losses on tensors.

Letters: N target positions (any leading shape), V target vocabulary, T temperature.
"""

import torch.nn.functional as F
from torch import Tensor


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
    student_log_probs: Tensor, teacher_log_probs: Tensor, real: Tensor, temperature: float
) -> Tensor:
    """KL(teacher || student) at temperature T, times T squared, for each position.

    L_KD of CAF-DKD (section "differentiable knowledge distillation"); the factor T^2 keeps the size of the
    gradients (Hinton et al. 2015, section 2). The paper's listing averages over sentences and counts
    padding; here the caller sums over real positions and divides by fairseq's sample size.

    Args:
        student_log_probs: (N, V) at T = 1.
        teacher_log_probs: (N, V) at T = 1; no gradient flows into it.
        real: (N,) bool, False at padding, whose loss is zero.
        temperature: T > 0; softens both distributions.

    Returns:
        (N,) in nats.
    """
    student = soften(student_log_probs, temperature)
    teacher = soften(teacher_log_probs, temperature).detach().exp()
    divergence = F.kl_div(student, teacher, reduction="none").sum(dim=-1)
    return divergence.masked_fill(~real, 0.0) * temperature**2
