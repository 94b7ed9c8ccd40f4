"""How the time of a training step with images grows with what is in it.

    python benchmarks/scaling.py [--plot FILE.svg] [--quick] [--json FILE]

Without --plot each quantity is doubled once; with it, several times, and drawn.
"""

import statistics
import sys
from functools import partial
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional

if __name__ == "__main__":
    import start  # noqa: F401

from fairseq_training import (
    MULTIPLE,
    ON_CPU,
    PLAIN,
    Training,
    common_options,
    cross_modal_rnn,
)
from made_up_images import write_store
from made_up_text import write_text
from program import options_of, run_program
from rounds import Side, cpu_clock, interleaved, speed
from rows import Bound, Found, Required, Row
from sizes import Sizes

from caf_dkd_plugin.command_line import destination_problems

DOUBLED = Required(Bound.AT_MOST, 2.1)
"""nothing grows faster than in proportion, give or take the noise"""
BATCHES = 2
"""of different sentences"""


class Point(NamedTuple):
    """What is in a step."""

    stretch: int
    """how many times as long the source is as the target"""
    regions: int
    symbols: int
    sentences: int


BASE = Point(stretch=1, regions=49, symbols=6000, sentences=64)
QUANTITIES = {
    "stretch": "length of a source, in targets",
    "regions": "regions",
    "symbols": "symbols",
    "sentences": "sentences of a batch",
}
ONCE = {
    "stretch": (1, 2),
    "regions": (49, 98),
    "symbols": (6000, 12000),
    "sentences": (64, 128),
}
SERIES = {
    "stretch": (1, 2, 4, 8),
    "regions": (1, 49, 98, 196),
    "symbols": (1500, 3000, 6000, 12000, 24000),
    "sentences": (16, 32, 64, 128, 256),
}
QUICK_BASE = Point(stretch=1, regions=4, symbols=60, sentences=8)
QUICK_SERIES = {name: (value, 2 * value) for name, value in QUICK_BASE._asdict().items()}

Series = Dict[str, Dict[int, List[float]]]
"""milliseconds of a step in each round, by quantity and value"""


def measure(sizes: Sizes, scratch: Path, plot: Optional[Path] = None) -> Found:
    """A row for each doubling."""
    base, values = BASE, ONCE if plot is None else SERIES
    if sizes.symbols < BASE.symbols:
        base, values = QUICK_BASE, QUICK_SERIES
    points = {
        name: {value: base._replace(**{name: value}) for value in chosen}
        for name, chosen in values.items()
    }
    different = {point for of_values in points.values() for point in of_values.values()}
    sides = {
        point: step_time(point, sizes, scratch / str(number))
        for number, point in enumerate(sorted(different))
    }
    times = interleaved(sides, sizes.rounds)
    series = {
        name: {value: times[point] for value, point in of_values.items()}
        for name, of_values in points.items()
    }
    if plot is not None:
        draw(series, plot)
    return [
        Row(
            question=f"step time, {QUANTITIES[name]}",
            ours_name=f"{value:,}",
            theirs_name=f"{smaller:,}",
            unit="ms",
            ours=series[name][value],
            theirs=series[name][smaller],
            required=DOUBLED if value == 2 * smaller else None,
        )
        for name, chosen in values.items()
        for smaller, value in pairwise(chosen)
    ]


def step_time(point: Point, sizes: Sizes, folder: Path) -> Side:
    """A side that gives the milliseconds of a step."""
    folder.mkdir()
    images = BATCHES * point.sentences
    store = write_store(folder / "images.h5", images, point.regions, sizes.features)
    data = write_text(
        folder / "data",
        {"train": images, "valid": MULTIPLE},
        point.symbols,
        (sizes.words[0], 0),
        images,
        point.stretch,
    )
    everything = sizes._replace(tokens=2**30)  # the number of sentences decides
    training = Training(
        [
            *common_options(data, everything),
            *("--batch-size", str(point.sentences), "--image-h5", str(store)),
            *(*PLAIN, *ON_CPU, *cross_modal_rnn(sizes.widths[0])),
        ]
    )

    count = sizes.steps[0]

    def steps() -> int:
        training.steps(count)
        return count

    steps_a_second = speed(steps, cpu_clock)
    return lambda: 1000 / steps_a_second()


def draw(series: Series, path: Path) -> None:
    """A panel for each quantity, both axes logarithmic: what grows in proportion rises by 45 degrees."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(QUANTITIES), figsize=(12, 3.2), sharey=True)
    for panel, (name, title) in zip(panels, QUANTITIES.items()):
        values = list(series[name])
        medians = [statistics.median(series[name][value]) for value in values]
        panel.loglog(values, medians, marker="o")
        proportional = [medians[-1] * value / values[-1] for value in values]
        panel.loglog(values, proportional, linestyle=":", color="grey", label="in proportion")
        panel.set_xticks(values, [f"{value:,}" for value in values])
        panel.minorticks_off()
        panel.set_xlabel(title)
    panels[0].set_ylabel("ms a step")
    panels[0].legend()
    figure.tight_layout()
    figure.savefig(path)
    pyplot.close(figure)


if __name__ == "__main__":
    parser = options_of(__doc__)
    parser.add_argument("--plot", metavar="FILE", type=Path, help="measure more points, and draw")
    args = parser.parse_args()
    if args.plot is not None:  # before minutes of measuring
        problems = destination_problems("--plot", args.plot)
        if find_spec("matplotlib") is None:
            problems.append("--plot needs matplotlib: pip install matplotlib")
        if problems:
            parser.error("; ".join(problems))
    sys.exit(run_program(args, partial(measure, plot=args.plot)))
