"""Corpus scores of translations, each with its signature, and what sacreBLEU's bootstrap says of two.

`bleu` and `chrf` are detokenised, cased sacreBLEU, to be reported. `tokenised_bleu` is for tables of
earlier papers, which lower-case and tokenise with Moses' scripts before they count; it is comparable
with nothing else.
"""

import os
from dataclasses import dataclass
from typing import Dict, List, Mapping, Sequence

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric
from sacrebleu.significance import PairedTest
from sacremoses import MosesPunctNormalizer, MosesTokenizer
from sacremoses.corpus import NonbreakingPrefixes

REPORTED = ("bleu", "chrf")
"""the scores to report and to test"""
TOKENISED = "tokenised_bleu"
SAMPLES = 1000
"""resamples of the bootstrap, sacreBLEU's default; its seed is the variable SACREBLEU_SEED or 12345"""


@dataclass(frozen=True)
class Score:
    """A corpus score, in percent, and how it was counted."""

    value: float
    signature: str


def score(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], lang: str
) -> Dict[str, Score]:
    """The scores of a system's N translations.

    Args:
        hypotheses: N lines, detokenised and cased.
        references: one or more lists of N lines, as written.
        lang: code of the target language, such as "de": sacreBLEU has a tokeniser of its own for
            Chinese, Japanese and Korean, and Moses' has its rules.

    Returns:
        `bleu`, `chrf` and `tokenised_bleu`.

    Raises:
        ValueError: the lists are of unequal length; both numbers are named. Or sacreBLEU lacks what the
            language needs.
    """
    for number, lines in enumerate(references, 1):
        if len(lines) != len(hypotheses):
            raise ValueError(
                f"{len(hypotheses)} hypotheses and {len(lines)} lines in references {number}: they "
                "must be the same sentences"
            )
    metrics = _metrics(lang)
    found = {name: _score(metrics[name], hypotheses, references) for name in REPORTED}
    tokenised = [tokenise(lines, lang) for lines in (hypotheses, *references)]
    plain = BLEU(tokenize="none", smooth_method="none", force=True)  # as multi-bleu.perl counts
    value = _score(plain, tokenised[0], tokenised[1:])
    signature = f"{value.signature}|{tokenise_signature(lang)}"
    return {**found, TOKENISED: Score(value.value, signature)}


def paired_bootstrap(
    baseline: Sequence[str], system: Sequence[str], references: Sequence[Sequence[str]], lang: str
) -> Dict[str, float]:
    """How likely a difference as large as that of two systems is by chance.

    sacreBLEU's paired bootstrap resampling (Koehn 2004), with `SAMPLES` resamples.

    Args:
        baseline, system: the N lines of each.
        references: one or more lists of N lines.
        lang: code of the target language.

    Returns:
        p for `bleu` and `chrf`; 1 where the scores are equal, of which sacreBLEU itself says 0.001.

    Raises:
        ValueError: the lists are of unequal length, or sacreBLEU lacks what the language needs.
    """
    sizes = {len(lines) for lines in (baseline, system, *references)}
    if len(sizes) > 1:
        raise ValueError(f"lists of {sorted(sizes)} lines cannot be compared")
    systems = [("baseline", list(baseline)), ("system", list(system))]
    test = PairedTest(systems, _metrics(lang), [list(lines) for lines in references], "bs", SAMPLES)
    _, results = test()
    by_name = {name.lower().rstrip("0123456789"): column for name, column in results.items()}
    found = {}
    for name in REPORTED:
        first, second = by_name[name]
        found[name] = 1.0 if first.score == second.score else float(second.p_value)
    return found


def language_problems(lang: str) -> List[str]:
    """What sacreBLEU lacks to score translations into a language."""
    try:
        _metrics(lang)
    except ValueError as error:
        return [str(error)]
    return []


def bootstrap_signature() -> str:
    """How :func:`paired_bootstrap` resamples, in the words of sacreBLEU's signatures."""
    return f"bs:{SAMPLES}|seed:{os.environ.get('SACREBLEU_SEED', '12345').lower()}"


def tokenise(lines: Sequence[str], lang: str) -> List[str]:
    """Lower-cased lines with Moses' punctuation and tokens, as earlier papers prepared Multi30k.

    Of a language whose abbreviations Moses does not know, those of English are not cut, as in Moses.
    """
    normalizer, tokenizer = MosesPunctNormalizer(lang), MosesTokenizer(lang)
    return [
        tokenizer.tokenize(normalizer.normalize(line.lower()), return_str=True, escape=False)
        for line in lines
    ]


def tokenise_signature(lang: str) -> str:
    """How :func:`tokenise` makes tokens, in the words of sacreBLEU's signatures."""
    known = lang in NonbreakingPrefixes().available_langs
    rules = lang if known else f"{lang}.abbreviations-of-en"
    return f"moses:{rules}.lowercase.normalize"


def _metrics(lang: str) -> Mapping[str, Metric]:
    try:
        bleu = BLEU(trg_lang=lang)
    except RuntimeError as error:  # says what to install
        raise ValueError(f"BLEU of {lang}: {' '.join(str(error).split())}") from error
    return {"bleu": bleu, "chrf": CHRF()}


def _score(metric: Metric, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Score:
    result = metric.corpus_score(list(hypotheses), [list(lines) for lines in references])
    return Score(result.score, str(metric.get_signature()))
