"""How much attention lies on the object that decides the sense, with aligned attention and without.

    python examples/quickstart/attention_mass.py --demo DEMO --teacher MODEL \\
        --distilled MODEL [MODEL ...] --aligned MODEL [MODEL ...]

reads DEMO/models/MODEL/checkpoint_best.pt, its translations of the test set DEMO/translations/MODEL.txt,
and what steps.py prepares; prints a Markdown table and writes DEMO/report.json. The students in the same
place after --distilled and --aligned are compared, sentence by sentence.

Letters: N sentences, W source words, R regions of a picture, row by row.
"""

import argparse
import json
import math
import statistics
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Sequence

import numpy as np
from drawings import Box
from report import Sense, look, read_senses, read_translations, score, sense_accuracy
from tqdm import tqdm

SEED = 1
"""of the permutation test"""


class Measured(NamedTuple):
    """A model on the test set, sentence by sentence; each (N,)."""

    noun: np.ndarray
    """how much of the ambiguous noun's attention lies on the deciding object, 0 to 1"""
    words: np.ndarray
    """the mean of that over all words"""
    right: np.ndarray
    """whether the translation has the right sense, 0 or 1"""


def read_boxes(path: Path) -> List[Box]:
    """The boxes of the deciding objects, the last columns of SPLIT.senses."""
    rows = path.read_text(encoding="utf-8").splitlines()
    return [tuple(float(edge) for edge in row.split("\t")[3:]) for row in rows]


def covered(box: Box, side: int) -> np.ndarray:
    """How much of the area of each region lies inside a box, 0 to 1: (R,), R = side x side.

    What attention that is spread evenly has inside the box is the mean of these: the box's area.
    """
    edges = np.linspace(0, 1, side + 1)

    def shares(low: float, high: float) -> np.ndarray:
        inside = np.minimum(edges[1:], high) - np.maximum(edges[:-1], low)
        return side * inside.clip(min=0)

    x0, y0, x1, y1 = box
    return np.outer(shares(y0, y1), shares(x0, x1)).ravel()


def measure(demo: Path, model: str, senses: Sequence[Sense], boxes: Sequence[Box]) -> Measured:
    """See :class:`Measured`.

    The attention of a region, mean of the heads, counts by the share of the region's area that lies
    inside the box of the deciding object.
    """
    checkpoint = demo / "models" / model / "checkpoint_best.pt"
    noun, words = [], []
    seen = look(checkpoint, demo / "data" / "student", demo / "images.h5", senses)
    for box, looked in zip(boxes, seen):
        share = covered(box, math.isqrt(looked.attention.shape[1]))
        masses = looked.attention @ share  # (W,)
        noun.append(masses[looked.noun])
        words.append(masses.mean())
    lines = read_translations(demo / "translations" / f"{model}.txt", len(senses))
    right = [sense_accuracy([line], [sense]) for line, sense in zip(lines, senses)]
    return Measured(*map(np.array, (noun, words, right)))


def make_report(demo: Path, arms: Dict[str, List[str]]) -> Dict[str, object]:
    """Measure models, and compare the students of the arms `distilled` and `aligned`.

    Args:
        demo: the folder of steps.py.
        arms: the models of each arm, students in the order of their seeds.
    """
    # fairseq, which takes seconds to import, comes with it: only here.
    from caf_dkd_plugin.evaluation.permutation_test import sign_flip_p

    text = demo / "corpus" / "text"
    senses, boxes = read_senses(text / "test.senses"), read_boxes(text / "test.senses")
    names = [name for models in arms.values() for name in models]
    models = score(text, demo / "translations", names)
    found = {}
    for name in tqdm(names, unit="model", disable=None):
        found[name] = measure(demo, name, senses, boxes)
        models[name]["noun_on_object"] = float(found[name].noun.mean())
        models[name]["words_on_object"] = float(found[name].words.mean())
    both = [(found[one], found[other]) for one, other in zip(arms["distilled"], arms["aligned"])]
    return {
        "pairs": {
            data: len((demo / "data" / data / "train.images").read_text("utf-8").splitlines())
            for data in ("teacher", "student")
        },
        "even_on_object": statistics.fmean((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes),
        "arms": arms,
        "models": models,
        "p": {
            "noun_on_object": [sign_flip_p(b.noun - a.noun, SEED) for a, b in both],
            "sense_accuracy": [sign_flip_p(b.right - a.right, SEED) for a, b in both],
        },
    }


def spread(values: Sequence[float]) -> str:
    """Mean, and standard deviation of several."""
    mean = f"{statistics.fmean(values):.1f}"
    return f"{mean} ± {statistics.stdev(values):.1f}" if len(values) > 1 else mean


def table(report: Dict[str, object]) -> str:
    """The report for people, in Markdown."""
    pairs, even = report["pairs"], spread([100 * report["even_on_object"]])
    titles = {
        "teacher": f"teacher, {pairs['teacher']} pairs",
        "distilled": f"distilled, {pairs['student']} pairs",
        "aligned": f"distilled, attention aligned, {pairs['student']} pairs",
    }
    columns = {
        "noun_on_object": "noun's attention on its object, %",
        "words_on_object": "all words', %",
        "sense_accuracy": "right senses, %",
        "bleu": "BLEU",
    }
    header = ["model", *columns.values(), "p of the noun's attention", "p of senses"]
    rows = [header, ["---"] * len(header), ["spread evenly", even, even, "", "", "", ""]]
    for arm, names in report["arms"].items():
        row = [titles[arm]]
        for column in columns:
            factor = 1 if column == "bleu" else 100
            row.append(spread([factor * report["models"][name][column] for name in names]))
        for p in report["p"].values():
            row.append(", ".join(f"{each:.4f}" for each in p) if arm == "aligned" else "")
        rows.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def main(argv: Optional[Sequence[str]] = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", type=Path, required=True, help="folder of aligned_attention.py")
    parser.add_argument("--teacher", required=True, metavar="MODEL")
    for arm, what in (
        ("distilled", "from the teacher alone"),
        ("aligned", "and with --a2d-families"),
    ):
        parser.add_argument(
            f"--{arm}", nargs="+", required=True, metavar="MODEL", help=f"students, {what}, by seed"
        )
    args = parser.parse_args(argv)
    if len(args.distilled) != len(args.aligned):
        parser.error(
            f"--distilled names {len(args.distilled)} models and --aligned {len(args.aligned)}: give one "
            "of each for every seed"
        )
    arms = {"teacher": [args.teacher], "distilled": args.distilled, "aligned": args.aligned}
    report = make_report(args.demo, arms)
    (args.demo / "report.json").write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(table(report))


if __name__ == "__main__":
    main()
