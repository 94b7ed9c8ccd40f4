"""How probable models find given translations: log-probabilities by teacher forcing.

Letters: B sentences of a mini-batch, L of them in all, T target tokens, V target vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Sequence

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Surprisal:
    """What L target sentences cost, given their sources and images: the less, the more probable."""

    bits: np.ndarray
    """(L,) float64, -log2 p(target | source, image), without label smoothing"""
    tokens: np.ndarray
    """(L,) int64, target tokens with the end of the sentence"""

    def per_token(self) -> float:
        """Bits per target token over all sentences, what fairseq-validate calls nll_loss."""
        return float(self.bits.sum() / self.tokens.sum())

    def per_sentence(self) -> np.ndarray:
        """(L,) bits per target token of each sentence: log2 of its perplexity."""
        return self.bits / self.tokens


@torch.no_grad()
def surprisal(
    models: Sequence[torch.nn.Module], samples: Iterable[Dict[str, Any]], pad: int
) -> Surprisal:
    """Ask models about the targets of mini-batches.

    Args:
        models: in eval mode; the probabilities of several are averaged, as fairseq-generate does.
        samples: mini-batches on the models' device.
        pad: index of the target's padding symbol.

    Returns:
        the sentences in the order of their ids, however they were batched.
    """
    found = {}
    for sample in samples:
        target = sample["target"].unsqueeze(-1)  # (B, T, 1)
        real = sample["target"].ne(pad)  # (B, T)
        log_probs = _log_probs(models, sample["net_input"]).gather(-1, target).squeeze(-1)
        bits = -log_probs.double().masked_fill(~real, 0).sum(dim=1) / math.log(2)  # (B,)
        rows = zip(sample["id"].tolist(), bits.tolist(), real.sum(dim=1).tolist())
        found.update((line, (cost, tokens)) for line, cost, tokens in rows)
    bits, tokens = zip(*(found[line] for line in sorted(found)))
    return Surprisal(np.array(bits), np.array(tokens))


def _log_probs(models: Sequence[torch.nn.Module], net_input: Dict[str, Tensor]) -> Tensor:
    """(B, T, V) log of the mean probability."""
    each: List[Tensor] = [
        model.get_normalized_probs(model(**net_input), log_probs=True).float() for model in models
    ]
    return torch.logsumexp(torch.stack(each), dim=0) - math.log(len(each))
