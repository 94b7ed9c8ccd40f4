"""The experiment's results as figures: BLEU over the size of the training set, learning curves."""

import statistics
from pathlib import Path
from typing import Dict, List, Sequence, Tuple

import matplotlib
from experiment_grid import ARMS, PRIMARY, SIZES, TEST_SETS
from extra_sources import SUBSTITUTED, UNTRANSLATED
from matplotlib import pyplot
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from results_table import NAMES, Row, has_input_feeding, is_teacher, rows, validated_on

COLOURS = dict(zip(PRIMARY, ("#7f7f7f", "#1f77b4", "#ff7f0e", "#d62728")))
DRAWN = [name for name, arm in ARMS.items() if not (arm.options or arm.aligned or arm.student)]
"""the arms of the plots"""
DASHES = {None: "-", SUBSTITUTED: "-.", UNTRANSLATED: ":"}
"""of arms with extra sources, which have the colour of the arm without these"""
VALIDATION_SETS = {"valid": "val", "valid1": "val_images"}
"""Multi30k's names of them, by fairseq's"""
matplotlib.use("svg")
matplotlib.rcParams.update(
    {
        "svg.hashsalt": "caf-dkd",  # the same figures give the same bytes
        "svg.fonttype": "none",
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
)


def bleu_over_size(results: Sequence[dict]) -> Figure:
    """BLEU on each test set: a line an arm, a band of ± one standard deviation over the seeds, and
    the teachers as dashed lines. Models with input feeding are others, and stand beside the lines."""
    shown = [name for name in TEST_SETS if any(name in one["scores"] for one in results)]
    figure, axes = pyplot.subplots(
        1, len(shown), figsize=(4.5 * len(shown), 3.6), sharey=True, squeeze=False
    )
    table = rows(results)
    for axis, name in zip(axes[0], shown):
        for arm in DRAWN:
            mine = [row for row in table if row.arm == arm and row.values(name, "bleu")]
            if not mine:
                continue
            pairs, means, spreads = _points([row for row in mine if not _fed(row)], name)
            axis.plot(pairs, means, marker="o", **_line(arm), label=NAMES[arm])
            low, high = ([m + sign * s for m, s in zip(means, spreads)] for sign in (-1, 1))
            colour = _line(arm)["color"]
            axis.fill_between(pairs, low, high, color=colour, alpha=0.2, linewidth=0)
            pairs, means, _ = _points([row for row in mine if _fed(row)], name)
            axis.plot(pairs, means, "s", color=colour, fillstyle="none")
        for row in table:
            if is_teacher(row.runs[0]) and row.values(name, "bleu"):
                level = statistics.fmean(row.values(name, "bleu"))
                axis.axhline(level, linestyle="--", color="black", linewidth=1, label=row.arm)
        axis.set_xscale("log")
        ticks = {row.runs[0]["pairs"]: row.size for row in table if row.arm in DRAWN}
        axis.set_xticks(list(ticks), list(ticks.values()))
        axis.minorticks_off()
        axis.set_title(name)
        squares = " (squares: input feeding)" if any(_fed(row) for row in table) else ""
        axis.set_xlabel(f"pairs to train on{squares}")
    axes[0][0].set_ylabel("BLEU (sacreBLEU)")
    axes[0][0].legend(frameon=False)
    figure.tight_layout()
    return figure


def learning_curves(results: Sequence[dict]) -> Figure:
    """Validation BLEU over epochs: a column of panels a size, a line a run. Each validation set has a row
    of its own, as BLEU on one says nothing of BLEU on another."""
    drawn = [one for one in results if one["arm"] in DRAWN]
    sizes = [size for size in SIZES if any(one["size"] == size for one in drawn)]
    subsets = sorted({validated_on(one) for one in drawn}, key=lambda name: (name != "valid", name))
    height = 3.2 * len(subsets)
    figure, axes = pyplot.subplots(
        *(len(subsets), len(sizes)),
        figsize=(3.6 * len(sizes), height),
        sharey="row",
        squeeze=False,
    )
    handles: Dict[str, Line2D] = {}
    for row, subset in zip(axes, subsets):
        for axis, size in zip(row, sizes):
            mine = [one for one in drawn if validated_on(one) == subset]
            for one in [one for arm in DRAWN for one in _of(mine, size, arm)]:
                epochs, bleu = zip(*one["validation_bleu"]) if one["validation_bleu"] else ((), ())
                [line] = axis.plot(epochs, bleu, **_line(one["arm"]), linewidth=1)
                handles.setdefault(NAMES[one["arm"]], line)
            axis.set_title(size)
            axis.set_xlabel("epoch")
            axis.set_visible(bool(axis.lines))
        first = next(axis for axis in row if axis.lines)
        first.set_ylabel(f"BLEU on {VALIDATION_SETS.get(subset, subset)}, greedy")
        first.tick_params(labelleft=True)
    names = [NAMES[arm] for arm in DRAWN if NAMES[arm] in handles]
    below = 0.3 * -(-len(names) // len(sizes)) / height
    figure.legend(
        [handles[name] for name in names],
        names,
        loc="lower center",
        ncol=len(sizes),
        frameon=False,
    )
    figure.tight_layout(rect=(0, below, 1, 1))
    return figure


def save(figure: Figure, path: Path) -> None:
    """As SVG; the same figure gives the same bytes."""
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)


def _fed(row: Row) -> bool:
    return row.arm in DRAWN and has_input_feeding(row.runs[0])


def _points(table: Sequence[Row], name: str) -> Tuple[List[int], List[float], List[float]]:
    """Pairs, mean and standard deviation of each row on a test set."""
    values = [row.values(name, "bleu") for row in table]
    return (
        [row.runs[0]["pairs"] for row in table],
        [statistics.fmean(one) for one in values],
        [statistics.stdev(one) if len(one) > 1 else 0.0 for one in values],
    )


def _line(arm: str) -> Dict[str, str]:
    """How matplotlib draws an arm."""
    images, teacher, extra = ARMS[arm][:3]
    alike = next(one for one in PRIMARY if ARMS[one][:2] == (images, teacher))
    return {"color": COLOURS[alike], "linestyle": DASHES[extra]}


def _of(results: Sequence[dict], size: str, arm: str) -> List[dict]:
    found = [one for one in results if one["size"] == size and one["arm"] == arm]
    return sorted(found, key=lambda one: one["seed"])
