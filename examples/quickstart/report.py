"""Score the quickstart's translations and draw where the model looked.

    python examples/quickstart/report.py --text DIR --translations DIR --output DIR

reads TEXT/test.{de,senses} and what fairseq-generate wrote, TRANSLATIONS/ARM.txt for each arm; prints
a table and writes OUTPUT/report.json. With --checkpoint, --data, --images and --image-h5 it also
writes OUTPUT/attention.png.
"""

import argparse
import json
import logging
import math
import re
import sys
from pathlib import Path
from typing import Dict, Iterable, Iterator, List, NamedTuple, Optional, Sequence

import numpy as np
from PIL import Image
from sacrebleu.metrics import BLEU

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

ARMS = ("text_only", "image", "wrong_image")
"""of the demo without --pixels"""
PLOTTED = 6
"""of the first test sentences the attention is drawn: three pairs of twins"""


class Sense(NamedTuple):
    """What the ambiguous noun of a sentence is in German."""

    noun: str
    right: str
    wrong: str


def read_senses(path: Path) -> List[Sense]:
    """The first three columns of SPLIT.senses."""
    rows = path.read_text(encoding="utf-8").splitlines()
    return [Sense(*row.split("\t")[:3]) for row in rows]


def read_translations(path: Path, count: int) -> List[str]:
    """The translations in fairseq-generate's output, in the order of the test set.

    Raises:
        ValueError: not every sentence has one.
    """
    found: Dict[int, str] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"H-(\d+)\t[^\t]*\t(.*)", line)
        if match:
            found[int(match.group(1))] = match.group(2)
    if sorted(found) != list(range(count)):
        raise ValueError(
            f"{path} has translations of {len(found)} sentences, but the test set has {count}. "
            "Remove it and run the demo again."
        )
    return [found[number] for number in range(count)]


def sense_accuracy(translations: Iterable[str], senses: Sequence[Sense]) -> float:
    """The share of sentences whose translation has the right form of the noun, and not the wrong one."""
    right = 0
    for translation, sense in zip(translations, senses):
        words = re.findall(r"\w+", translation)
        right += sense.right in words and sense.wrong not in words
    return right / len(senses)


def score(text: Path, translations: Path, arms: Sequence[str]) -> Dict[str, Dict[str, object]]:
    """BLEU, in per cent, and sense accuracy, from 0 to 1, of every arm."""
    references = (text / "test.de").read_text(encoding="utf-8").splitlines()
    senses = read_senses(text / "test.senses")
    report = {}
    for arm in arms:
        hypotheses = read_translations(translations / f"{arm}.txt", len(references))
        metric = BLEU()
        bleu = metric.corpus_score(hypotheses, [references])
        report[arm] = {
            "bleu": round(bleu.score, 2),
            "sense_accuracy": round(sense_accuracy(hypotheses, senses), 4),
            "sacrebleu_signature": str(metric.get_signature()),
        }
    return report


def table(report: Dict[str, Dict[str, object]]) -> str:
    """The report for people."""
    lines = ["                 BLEU   right senses"]
    for arm, figures in report.items():
        name = arm.replace("_", " ")
        lines.append(f"{name:13}  {figures['bleu']:6.1f}   {figures['sense_accuracy']:12.1%}")
    first = next(iter(report.values()))
    lines.append(f"sacreBLEU: {first['sacrebleu_signature']}")
    return "\n".join(lines)


class Looked(NamedTuple):
    """Where a model looked while it read a sentence. W source words, R regions of the picture."""

    words: List[str]
    attention: np.ndarray
    """(W, R), mean of the heads; of a word in several pieces, the mean of its pieces"""
    noun: int
    """place of the ambiguous noun among the words"""


def look(checkpoint: Path, data: Path, image_h5: Path, senses: Sequence[Sense]) -> Iterator[Looked]:
    """Let a model read the first sentences of the test set, as many as there are senses."""
    # fairseq takes seconds to import: only here.
    import torch
    from fairseq import checkpoint_utils, utils

    from caf_dkd_plugin.evaluation.attention_plot import whole_words
    from caf_dkd_plugin.evaluation.outputs import PIECE

    logging.root.setLevel(logging.WARNING)  # fairseq's import turns it up
    utils.import_user_module(argparse.Namespace(user_dir=str(ROOT / "caf_dkd_plugin")))
    (model,), _, task = checkpoint_utils.load_model_ensemble_and_task(
        [str(checkpoint)], arg_overrides={"data": str(data), "image_h5": str(image_h5)}
    )
    model.eval()
    task.load_dataset("test")
    dataset = task.dataset("test")
    symbols = task.source_dictionary.symbols
    for number, sense in enumerate(senses):
        sample = dataset.collater([dataset[number]])
        with torch.no_grad():
            _, extra = model(**sample["net_input"], need_maps=True)
        weights = extra["maps"]["fusion"][0].mean(dim=0).numpy()  # (S, R)
        pieces = [symbols[token] for token in sample["net_input"]["src_tokens"][0]]
        # The full stop, a piece without a space before it, is no part of the last word.
        pieces = [PIECE + piece if piece == "." else piece for piece in pieces]
        words, attention = whole_words(pieces[:-1], weights[:-1])  # without the end of sentence
        noun = next(
            place for place, word in enumerate(words) if sense.noun in re.findall(r"\w+", word)
        )
        yield Looked(words, attention, noun)


def draw_attention(args: argparse.Namespace) -> Image.Image:
    """The pictures of a few test sentences with the attention of their ambiguous noun."""
    from caf_dkd_plugin.evaluation.attention_plot import plot_attention, stack

    senses = read_senses(args.text / "test.senses")[:PLOTTED]
    names = (args.text / "test.images").read_text(encoding="utf-8").splitlines()
    rows = []
    seen = look(args.checkpoint, args.data, args.image_h5, senses)
    for name, sense, (words, attention, noun) in zip(names, senses, seen):
        words[noun] = f"{sense.noun} = {sense.right}"
        side = math.isqrt(attention.shape[1])
        with Image.open(args.images / name) as picture:
            rows.append(plot_attention(picture, words, attention, [noun], (side, side)))
    return stack(rows)


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--text", type=Path, required=True, help="folder of the corpus's text")
    parser.add_argument("--translations", type=Path, required=True, help="folder of ARM.txt")
    parser.add_argument("--output", type=Path, required=True, help="folder to write into")
    parser.add_argument("--arms", nargs="+", default=ARMS, help="rows of the table")
    for name in ("checkpoint", "data", "images", "image-h5"):
        parser.add_argument(f"--{name}", type=Path, help="for the attention")
    args = parser.parse_args(argv)
    report = score(args.text, args.translations, args.arms)
    if args.checkpoint:
        draw_attention(args).save(args.output / "attention.png")
    (args.output / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main()
