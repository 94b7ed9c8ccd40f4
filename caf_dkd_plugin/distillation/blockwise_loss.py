"""Cross-entropy mixed with KL(teacher || student), a few positions after the other.

The same as fairseq's label-smoothed cross-entropy and :func:`.divergences.forward_kl` of softened
distributions. But the numbers of a block of positions stay in the processor's cache from the teacher to
the gradient, which is written once, in closed form. With l the student's log-probabilities, q the
teacher's softened probabilities and p the student's, it is in each position, before the weights lambda and
(1 - lambda) T^2,

    of the cross-entropy  -(1 - eps - eps / (V - 1)) at the target, and -eps / (V - 1) everywhere,
    of the divergence     (p - q) / T, or -q at T = 1, where l is what there is.

Letters: N target positions, n of a block, V target vocabulary, T temperature.
"""

from typing import Callable, NamedTuple, Tuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..gpu_waits import is_slow_to_look_at

BLOCK = 64
"""positions; on a GPU all are one block"""

Softened = Callable[[Tensor], Tuple[Tensor, Tensor]]
"""of positions (n,) gives the teacher's softened probabilities q (n, V), a new tensor, which is used up; and
the sum of q log q (n,)"""


class Mixture(NamedTuple):
    """How cross-entropy and distillation are computed and mixed."""

    kd_lambda: float
    """weight of the cross-entropy"""
    label_smoothing: float
    """eps of the cross-entropy"""
    temperature: float
    """T of the distillation"""

    def cross_entropy_weights(self, symbols: int) -> Tuple[float, float]:
        """What the label-smoothed cross-entropy multiplies negative log-probabilities with: the target's,
        and the sum of all V symbols'. As fairseq's, which gives eps to the V - 1 others."""
        each = self.label_smoothing / (symbols - 1)
        return 1 - self.label_smoothing - each, each


class BlockwiseLoss(torch.autograd.Function):
    """See the module; called by its method ``apply``."""

    @staticmethod
    def forward(
        ctx, log_probs: Tensor, target: Tensor, real: Tensor, mixture: Mixture, softened: Softened
    ):
        """The loss at each position, and of what it is made; zero at padding.

        Args:
            log_probs: the student's at T = 1 (N, V).
            target: (N,).
            real: (N,) bool, False at padding.
            mixture: of the two losses.
            softened: the teacher, a :data:`Softened`.

        Returns:
            lambda CE + (1 - lambda) T^2 KL (N,), which alone has a gradient; the target's negative
            log-probability (N,); T^2 KL (N,). In nats.
        """
        kd_lambda, _, temperature = mixture
        at_target, each = mixture.cross_entropy_weights(log_probs.size(-1))
        of_kl = (1 - kd_lambda) * (-1.0 if temperature == 1 else temperature)
        divergence, smooth = log_probs.new_zeros(2, len(log_probs))
        gradient = torch.empty_like(log_probs)
        for rows in _blocks(real):
            teacher, negative_entropy = (x.to(log_probs.dtype) for x in softened(rows))
            student = log_probs[rows]  # a copy, since `rows` are numbers
            smooth[rows] = -student.sum(dim=-1)
            if temperature == 1:
                divergence[rows] = negative_entropy - torch.linalg.vecdot(teacher, student)
                found = teacher.mul_(of_kl)
            else:
                student /= temperature
                if temperature < 1:  # or all could underflow; from 1 up one is 1 / V at least
                    student -= student.amax(dim=-1, keepdim=True)
                agreement = torch.linalg.vecdot(teacher, student)
                total = student.exp_().sum(dim=-1)
                divergence[rows] = negative_entropy - agreement + total.log()
                found = student.mul_(of_kl / total.unsqueeze(-1)).sub_(teacher, alpha=of_kl)
            gradient[rows] = found.sub_(kd_lambda * each)
        target = target.masked_fill(~real, 0).unsqueeze(-1)
        nll = -log_probs.gather(-1, target).squeeze(-1)
        divergence, smooth, nll = (x.masked_fill(~real, 0.0) for x in (divergence, smooth, nll))
        gradient.scatter_add_(-1, target, gradient.new_full(target.shape, -kd_lambda * at_target))
        _clear(gradient, ~real)
        ctx.save_for_backward(gradient)
        kd_loss = temperature**2 * divergence
        loss = kd_lambda * (at_target * nll + each * smooth) + (1 - kd_lambda) * kd_loss
        ctx.mark_non_differentiable(nll, kd_loss)
        return loss, nll, kd_loss

    @staticmethod
    @once_differentiable
    def backward(ctx, outer: Tensor, *_):
        [gradient] = ctx.saved_tensors
        of_the_sum = not is_slow_to_look_at(outer) and bool((outer == 1).all())
        if not of_the_sum:  # or a pass is saved
            gradient = gradient * outer.unsqueeze(-1)
        return gradient, None, None, None, None


def _blocks(real: Tensor) -> Tuple[Tensor, ...]:
    """The positions of each block (n,). On a GPU padding is computed too: to look for it is to wait."""
    if is_slow_to_look_at(real):
        return (torch.arange(len(real), device=real.device),)
    return real.nonzero().squeeze(-1).split(BLOCK)


def _clear(gradient: Tensor, padding: Tensor) -> None:
    """Zero, in place and not touching the rest, unless on a GPU."""
    if is_slow_to_look_at(padding):
        gradient.masked_fill_(padding.unsqueeze(-1), 0.0)
    else:
        gradient.index_fill_(0, padding.nonzero().squeeze(-1), 0.0)
