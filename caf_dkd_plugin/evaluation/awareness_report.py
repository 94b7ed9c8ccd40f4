"""Figures and table of image awareness, from what models made of the same sentences.

Image awareness is how much better models do with the right image than with a wrong one (Elliott 2018,
*Adversarial Evaluation of Multimodal Machine Translation*); here for the log-probability of the
reference, for BLEU, and for words that the source text hides.

Letters: L sentences.
"""

from statistics import mean, stdev
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, TypeVar

import numpy as np

from .derangements import Conditions
from .log_probability import Surprisal
from .masked_words import MaskedWord, right_words
from .permutation_test import sign_flip_p
from .scores import paired_bootstrap, score

T = TypeVar("T")


class Outcome(NamedTuple):
    """What models make of L sentences with one choice of images."""

    translations: List[str]
    references: Surprisal
    """what the reference translations cost"""


def figures(
    outcomes: Conditions[Outcome],
    references: Sequence[str],
    lang: str,
    masked: Optional[Sequence[Sequence[MaskedWord]]],
    seed: int,
) -> Dict[str, Any]:
    """All that there is to say, for programs.

    Args:
        outcomes: of the same L sentences.
        references: L lines, as written.
        lang: of the references.
        masked: the masked words of each sentence, at least one in all; None: none were masked.
        seed: of the permutation tests.

    Returns:
        ``bleu``, ``bits_per_token`` and perhaps ``masked_words``, each with its value in every
        condition; in ``gain`` by how much the right image is better (more BLEU, fewer bits, more right
        words) than the mean of the derangements, than none and than the baseline, if there is one, and
        in ``p`` whether by chance.
    """
    found = {
        "bleu": _bleu(outcomes.map(lambda outcome: outcome.translations), references, lang),
        "bits_per_token": _bits(outcomes.map(lambda outcome: outcome.references), seed),
    }
    if masked is not None:
        translations = outcomes.map(lambda outcome: outcome.translations)
        found["masked_words"] = _masked_words(translations, masked, seed)
    return found


def _bleu(
    translations: Conditions[List[str]], references: Sequence[str], lang: str
) -> Dict[str, Any]:
    scores = translations.map(lambda lines: score(lines, [references], lang)["bleu"])

    def p(baseline: List[str]) -> float:
        return paired_bootstrap(baseline, translations.right, [references], lang)["bleu"]

    values = scores.map(lambda found: found.value)
    return {
        **_values(values),
        "gain": {
            "deranged": values.right - mean(values.deranged),
            **{name: values.right - value for name, value in _without_images(values).items()},
        },
        "p": {
            "deranged": [p(lines) for lines in translations.deranged],
            **{name: p(lines) for name, lines in _without_images(translations).items()},
        },
        "signature": scores.right.signature,
    }


def _bits(references: Conditions[Surprisal], seed: int) -> Dict[str, Any]:
    costs = references.map(Surprisal.per_sentence)
    return {
        **_values(references.map(Surprisal.per_token)),
        **_gain(costs.map(np.negative), len(costs.right), seed),
    }


def _masked_words(
    translations: Conditions[List[str]], masked: Sequence[Sequence[MaskedWord]], seed: int
) -> Dict[str, Any]:
    count = sum(map(len, masked))
    right = translations.map(
        lambda lines: np.array([sum(words) for words in right_words(lines, masked)])
    )
    return {
        "words": count,
        **_values(right.map(lambda each: float(each.sum() / count))),
        **_gain(right, count, seed),
    }


def _without_images(conditions: Conditions[T]) -> Dict[str, T]:
    """Those of which there is one, by name."""
    baseline = {} if conditions.baseline is None else {"baseline": conditions.baseline}
    return {"none": conditions.none, **baseline}


def _values(values: Conditions[float]) -> Dict[str, Any]:
    """A measure in every condition, and its spread over the derangements."""
    return {
        "right": values.right,
        "deranged": values.deranged,
        "deranged_mean": mean(values.deranged),
        "deranged_sd": stdev(values.deranged) if len(values.deranged) > 1 else None,
        **_without_images(values),
    }


def _gain(sentences: Conditions[np.ndarray], count: int, seed: int) -> Dict[str, Any]:
    """How much the right image gains, and p by a permutation test over the sentences.

    Args:
        sentences: (L,) how good each sentence is.
        count: what the sums over the sentences are divided by.
        seed: of the test.
    """
    differences = {
        "deranged": np.mean([sentences.right - each for each in sentences.deranged], axis=0),
        **{name: sentences.right - each for name, each in _without_images(sentences).items()},
    }
    return {
        "gain": {name: float(each.sum() / count) for name, each in differences.items()},
        "p": {name: sign_flip_p(each, seed) for name, each in differences.items()},
    }


# -- the table --------------------------------------------------------------------------------------

MEASURES = {
    "bleu": ("BLEU", 1, 2),
    "bits_per_token": ("bits/token", 1, 4),
    "masked_words": ("masked words, %", 100, 1),
}
"""name -> heading, what to multiply it with, and decimals"""
WITHOUT_IMAGES = {"none": "no image", "baseline": "baseline"}
"""condition -> what its row is called"""
NOTES = (
    "bits/token: what the references cost, fewer is better; the gain is the mean over sentences",
    "p of BLEU: the right images against each row, paired bootstrap; else: signs of sentences flipped",
)


def table(found: Dict[str, Any]) -> str:
    """The figures for people: a row for each condition and for each gain."""
    count = len(found["bleu"]["deranged"])
    numbers = [f" {number}" for number in range(1, count + 1)] if count > 1 else [""]
    names = ["", "right image", *(f"wrong images{number}" for number in numbers)]
    without = [name for name in WITHOUT_IMAGES if name in found["bleu"]]
    names += ["mean +- sd"] * (count > 1) + [WITHOUT_IMAGES[name] for name in without]
    names += [f"gain over {name}" for name in ("wrong images", *without)]
    columns = [names]
    for name, (heading, factor, decimals) in MEASURES.items():
        if name in found:
            columns += _columns(found[name], without, heading, factor, decimals)
    widths = [max(map(len, column)) for column in columns]
    lines = []
    for first, *cells in zip(*columns):
        aligned = [cell.rjust(width) for cell, width in zip(cells, widths[1:])]
        lines.append("  ".join([first.ljust(widths[0]), *aligned]).rstrip())
    return "\n".join([*lines, *NOTES, f"sacreBLEU: {found['bleu']['signature']}"])


def _columns(
    measure: Dict[str, Any], without: Sequence[str], heading: str, factor: float, decimals: int
):
    """A column of values, and one of p: of each derangement, or of their mean."""

    def number(value: float, sign: str = "") -> str:
        return f"{factor * value:{sign}.{decimals}f}"

    wrong, p = measure["deranged"], measure["p"]
    values = [heading, number(measure["right"]), *map(number, wrong)]
    if len(wrong) > 1:
        values.append(f"{number(measure['deranged_mean'])} +- {number(measure['deranged_sd'])}")
    values += [number(measure[name]) for name in without]
    values += [number(measure["gain"][name], "+") for name in ("deranged", *without)]
    each = p["deranged"] if isinstance(p["deranged"], list) else None
    chances = ["p", "", *([f"{value:.4f}" for value in each] if each else [""] * len(wrong))]
    of_rows = [f"{p[name]:.4f}" for name in without]
    chances += [""] * (len(wrong) > 1) + (of_rows if each else [""] * len(without))
    chances += [""] * (1 + len(without)) if each else [f"{p['deranged']:.4f}", *of_rows]
    return values, chances
