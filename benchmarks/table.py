"""Rows as a Markdown table, with the machine and the versions that they hold for."""

import os
import platform
import statistics
from importlib import metadata
from pathlib import Path
from typing import Dict, List, Sequence

import torch
from rows import Bound, Found, Row, Skipped

from caf_dkd_plugin import __version__

TIMES = "\N{MULTIPLICATION SIGN}"
HEADER = ("what", "ours", "theirs", "ours / theirs", "spread", "required", "limit")
NOT_MET = "**not met**"
SIGNS = {Bound.AT_LEAST: "≥", Bound.AT_MOST: "≤", Bound.AT_MOST_MORE: "≤"}
DISTRIBUTIONS = ("fairseq", "fairseq-fixed", "torch", "torchvision", "numpy", "h5py")


def number(value: float) -> str:
    """Three digits that count, or all before the point."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def cells(row: Row) -> List[str]:
    """A row of the table."""
    compared = f"{row.compared:+.2f} {row.unit}" if row.differs else f"{row.compared:.2f} {TIMES}"
    required = ""
    if row.required is not None:
        unit = f"{row.unit} more" if row.differs else TIMES
        required = f"{SIGNS[row.required.bound]} {row.required.value:.2f} {unit}"
        required += "" if row.met else f" {NOT_MET}"
    what = f"{row.question}, {row.unit}" + (f" ({row.note})" if row.note else "")
    return [
        what,
        f"{row.ours_name}: {number(statistics.median(row.ours))}",
        f"{row.theirs_name}: {number(statistics.median(row.theirs))}",
        compared,
        "{:.2f} to {:.2f}".format(*row.spread),
        required,
        "" if row.limit is None else number(statistics.median(row.limit)),
    ]


def markdown(found: Found) -> str:
    """The table, and a line for each question that was skipped."""
    lines = [list(HEADER), *(cells(row) for row in found if isinstance(row, Row))]
    widths = [max(map(len, column)) for column in zip(*lines)]
    lines.insert(1, ["-" * width for width in widths])
    text = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths)) + " |"
        for line in lines
    ]
    skipped = [f"- {s.question}: not measured, {s.reason}" for s in found if isinstance(s, Skipped)]
    return "\n".join([*text, *(["", *skipped] if skipped else [])])


def versions() -> Dict[str, str]:
    """Of the programs, and what they ran on."""
    installed = {}
    for name in DISTRIBUTIONS:
        try:
            installed[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # there is one fairseq or the other
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    return {
        "caf-dkd": __version__,
        "python": platform.python_version(),
        **installed,
        "processor": f"{_processor()}, {os.cpu_count()} cores, one thread",
        "GPU": gpu,
    }


def in_words(facts: Dict[str, str]) -> str:
    """One line."""
    return "; ".join(f"{name} {value}" for name, value in facts.items())


def _processor() -> str:
    names = [value for name, value in cpu_facts() if name == "model name"]
    return names[0] if names else platform.processor() or platform.machine()


def cpu_facts() -> Sequence[Sequence[str]]:
    """What Linux says of the processor, (name, value) each; nothing on other systems."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    return [[part.strip() for part in line.split(":", 1)] for line in lines if ":" in line]
