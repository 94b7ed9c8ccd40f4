"""Distributions given by their k most probable symbols, and the mass and the shape of the others, the tail.

Letters: N target positions (any leading shape), V target vocabulary, k symbols that are kept, M reference
temperatures, r rank of the tail's shape, T temperature.

What is kept belongs to T = 1, but a temperature raises the tail far above its mass there (of a teacher of
Multi30k with V = 6,001 and k = 8, from 0.22 to 0.92 at T = 2). So its log-mass is kept for several
temperatures, and how it lies within the tail by :mod:`~caf_dkd_plugin.distillation.tail_shape`: most of
what is left to learn from the teacher is there.
"""

import math
from typing import NamedTuple, Tuple

import torch
from torch import Tensor

from .tail_shape import TailShape

TAIL_TEMPERATURES: Tuple[float, ...] = (1.0, 2.0, 4.0)
"""the M temperatures of `TopK.tail_log_mass`; whoever stores that, stores these beside it"""

NEVER = -1e4
"""a log-probability, or a difference of two, whose exponential is zero; finite, so that zero times it is"""


class TopK(NamedTuple):
    """Distributions p at T = 1, in part."""

    ids: Tensor
    """(N, k) integers, the most probable symbols of each position, none of them twice"""
    log_probs: Tensor
    """(N, k), log p of them"""
    tail_log_mass: Tensor
    """(N, M), log of the sum of p^(1/T) over the other V - k symbols, for T in `TAIL_TEMPERATURES`"""
    tail_code: Tensor
    """(N, r), where in `shape` each position lies"""
    shape: TailShape


def top_k(log_probs: Tensor, k: int, shape: TailShape) -> TopK:
    """Keep the k most probable symbols, and what the shape keeps of the others.

    Args:
        log_probs: (N, V) at T = 1.
        k: 1 to V.
        shape: of such log-probabilities.
    """
    top, ids = log_probs.topk(k, dim=-1)
    rest = log_probs.scatter(-1, ids, -math.inf)
    tail = [torch.logsumexp(rest / temperature, dim=-1) for temperature in TAIL_TEMPERATURES]
    return TopK(ids, top, torch.stack(tail, dim=-1), shape.encode(log_probs), shape)


def soften_top_k(kept: TopK, temperature: float, symbols: int) -> Tensor:
    """Log-probabilities of all symbols at a temperature.

    The k symbols and the tail as a whole have the mass that softening the whole distribution gives them:
    exactly at `TAIL_TEMPERATURES`, and with k = V at any temperature; see :func:`tail_log_mass_at`. Within
    the tail the symbols' ratios are those of the shape, softened.

    Args:
        kept: what is known of the distributions.
        temperature: T >= 1; with k = V also below.
        symbols: V.

    Returns:
        (N, V) in the dtype of `kept.log_probs`.

    Raises:
        ValueError: T < 1 and there is a tail.
    """
    ids, others = kept.ids.long(), symbols - kept.ids.size(-1)
    top, tail = _outcomes(kept, temperature, others).split([ids.size(-1), 1], dim=-1)
    if others == 0:
        return torch.zeros_like(top).scatter(-1, ids, top)
    shape = kept.shape.decode(kept.tail_code) / temperature
    within = shape.scatter(-1, ids, -math.inf).log_softmax(dim=-1)
    return (within + tail).scatter(-1, ids, top)


def soft_probabilities(kept: TopK, temperature: float, symbols: int) -> Tuple[Tensor, Tensor]:
    """The probabilities of :func:`soften_top_k`, in fewer passes over (N, V).

    Args:
        kept: what is known of the distributions.
        temperature: T >= 1; with k = V also below.
        symbols: V.

    Returns:
        the probabilities q (N, V) in the dtype of `kept.log_probs`, and the sum of q log q over symbols
        (N,).

    Raises:
        ValueError: T < 1 and there is a tail.
    """
    ids, others = kept.ids.long(), symbols - kept.ids.size(-1)
    log_masses = _outcomes(kept, temperature, others)
    masses = log_masses.exp()
    top, tail = masses.split([ids.size(-1), 1], dim=-1)
    negative_entropy = torch.linalg.vecdot(masses, log_masses.clamp(min=NEVER))
    if others == 0:
        return torch.zeros_like(top).scatter_(-1, ids, top), negative_entropy
    cooled = kept.shape._replace(mean=kept.shape.mean / temperature)
    x = cooled.decode(kept.tail_code / temperature).to(masses.dtype).scatter_(-1, ids, NEVER)
    x -= x.amax(dim=-1, keepdim=True)
    q = x.exp()
    total = q.sum(dim=-1, keepdim=True)
    within = torch.linalg.vecdot(q, x) / total.squeeze(-1) - total.squeeze(-1).log()
    q *= tail / total
    return q.scatter_(-1, ids, top), negative_entropy + tail.squeeze(-1) * within


def _outcomes(kept: TopK, temperature: float, others: int) -> Tensor:
    """Log-probabilities (N, k + 1) of the k symbols and of the tail as a whole, at a temperature."""
    tail = tail_log_mass_at(kept.tail_log_mass, temperature, others).unsqueeze(-1)
    return torch.cat([kept.log_probs / temperature, tail], dim=-1).log_softmax(dim=-1)


def tail_log_mass_at(tail_log_mass: Tensor, temperature: float, others: int) -> Tensor:
    """log of the sum of p^(1/T) over the tail, interpolated.

    It is a smooth, convex function of 1/T, known at `TAIL_TEMPERATURES` and, being log(V - k), at 0; this
    is the polynomial through those points. On a teacher of Multi30k with k = 8 the softened mass of the
    tail is off by at most 0.016 at T = 1.25, 0.006 at 1.5 and 0.0001 from 3 up. Below T = 1 it would
    have to be extrapolated, and the error would exceed the mass.

    Args:
        tail_log_mass: (N, M), as in `TopK`; -inf where the tail is impossible.
        temperature: T >= 1; with no tail also below.
        others: V - k.

    Returns:
        (N,), -inf where there is no tail.

    Raises:
        ValueError: T < 1 and there is a tail.
    """
    if others == 0:
        return tail_log_mass.new_full(tail_log_mass.shape[:-1], -math.inf)
    if temperature < 1:
        raise ValueError(
            f"a teacher of whom only the top k is known serves temperatures from 1 up, not "
            f"--kd-temperature {temperature:g}: raise it, or use the teacher itself"
        )
    nodes = [0.0, *(1 / known for known in TAIL_TEMPERATURES)]
    at_zero, *weights = _lagrange_weights(nodes, 1 / temperature)
    known = zip(tail_log_mass.unbind(-1), weights)  # a tensor of the weights would wait for the GPU
    mass = sum(mass * weight for mass, weight in known) + at_zero * math.log(others)
    return mass.masked_fill(tail_log_mass[..., 0].isneginf(), -math.inf)


def _lagrange_weights(nodes, x: float):
    """How much the value at each node counts for that at x in the polynomial through all of them."""
    return [
        math.prod((x - other) / (node - other) for other in nodes if other != node)
        for node in nodes
    ]
