"""KL(teacher || student) at a temperature, a few positions after the other.

The same as :func:`.divergences.forward_kl` of softened distributions. But the numbers of a block of positions
stay in the processor's cache from the teacher to the gradient, which is known in closed form: with p the
student's and q the teacher's softened probabilities, and l the student's log-probabilities at T = 1, it is
(p - q) / T, or -q at T = 1, where l is what there is.

Letters: N target positions, n of a block, V target vocabulary, T temperature.
"""

from typing import Callable, Tuple

import torch
from torch import Tensor

BLOCK = 64
"""positions; on a GPU all are one block"""

Softened = Callable[[Tensor], Tuple[Tensor, Tensor]]
"""of positions (n,) gives the teacher's softened probabilities (n, V), and the sum of q log q (n,)"""


class BlockwiseKL(torch.autograd.Function):
    """See the module; called by its method ``apply``."""

    @staticmethod
    def forward(ctx, log_probs: Tensor, real: Tensor, temperature: float, softened: Softened):
        """The divergence at each position (N,) in nats; zero at padding.

        Args:
            log_probs: the student's at T = 1 (N, V).
            real: (N,) bool, False at padding.
            temperature: T.
            softened: the teacher.
        """
        found, gradient = log_probs.new_zeros(len(log_probs)), torch.zeros_like(log_probs)
        for rows in _blocks(real):
            teacher, negative_entropy = (x.to(log_probs.dtype) for x in softened(rows))
            student = log_probs[rows]
            if temperature != 1:
                student = student.div_(temperature).log_softmax(dim=-1)
            found[rows] = negative_entropy - torch.linalg.vecdot(teacher, student)
            gradient[rows] = teacher if temperature == 1 else student.exp_().sub_(teacher)
        ctx.save_for_backward(gradient, real)
        ctx.factor = -1.0 if temperature == 1 else 1 / temperature
        return found.masked_fill_(~real, 0.0)

    @staticmethod
    def backward(ctx, outer: Tensor):
        gradient, real = ctx.saved_tensors
        factors = (ctx.factor * outer).masked_fill(~real, 0.0)  # a GPU's block has padding in it
        return gradient * factors.unsqueeze(-1), None, None, None


def _blocks(real: Tensor) -> Tuple[Tensor, ...]:
    """The positions of each block (n,). On a GPU padding is computed too: to look for it is to wait."""
    if real.is_cuda:
        return (torch.arange(len(real), device=real.device),)
    return real.nonzero().squeeze(-1).split(BLOCK)
