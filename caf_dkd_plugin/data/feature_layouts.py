"""How the axes of an array of image features are to be understood.

Letters: N images, R regions, D feature size, H and W rows and columns of a grid.
"""

from typing import Dict, NamedTuple, Optional, Tuple

import numpy as np

AUTO = "auto"
LAYOUTS = {
    "ND": "one vector",
    "NRD": "regions or tokens, as fairseq_mmt has them",
    "NDR": "the same, features first, as nmtpytorch reads them",
    "NHWD": "a grid, features last",
    "NWHD": "a grid column by column, features last, as in the local_feats of OpenNMT's forks",
    "NDHW": "a grid, features first, as PyTorch's networks have it",
}
"""the order in which an array has its axes, and what that means"""
GRIDS = tuple(layout for layout in LAYOUTS if "H" in layout)

_LONGEST_VECTOR = 8192  # longer than the vector of any usual network; a flat 7 x 7 x 512 has 25088


class FeaturesError(ValueError):
    """Features of another program cannot be used; the message has what is wrong, one line each."""


class Arrangement(NamedTuple):
    """How the axes of an array are to be understood."""

    sizes: Dict[str, int]
    """of every axis but N, by its letter, in the array's order"""

    @property
    def row_shape(self) -> Tuple[int, int]:
        """(R, D)"""
        regions = [size for axis, size in self.sizes.items() if axis != "D"]
        return int(np.prod(regions, dtype=int)), self.sizes["D"]

    def regions(self, values: np.ndarray) -> np.ndarray:
        """The rows (n, ...) as (n, R, D); a grid row by row from the top left."""
        values = values.reshape(len(values), *self.sizes.values())
        axes = [axis for axis in "RHWD" if axis in self.sizes]
        values = values.transpose(0, *(1 + list(self.sizes).index(axis) for axis in axes))
        return values.reshape(len(values), *self.row_shape)

    def plausible(self) -> bool:
        """Whether this can hardly be an array of another layout with as many axes."""
        features = self.sizes["D"]
        if "H" in self.sizes:
            return self.sizes["H"] == self.sizes["W"] < features
        return features > 1 if "R" in self.sizes else features <= _LONGEST_VECTOR

    def __str__(self) -> str:
        features = self.sizes["D"]
        if "H" in self.sizes:
            grid = f"{self.sizes['H']} rows and {self.sizes['W']} columns"
            return f"a grid of {grid} of {features} features"
        regions = self.row_shape[0]
        return (
            f"{regions} regions of {features} features" if regions > 1 else f"{features} features"
        )


def arrange(
    shape: Tuple[int, ...], layout: str, grid: Optional[Tuple[int, int]], where: object
) -> Arrangement:
    """Find out which axis of an array of this shape is which.

    Args:
        shape: (N, ...).
        layout: one of LAYOUTS, or "auto", which takes the only layout that is plausible.
        grid: (H, W) of rows that are stored flat; None where they are not.
        where: the array, for messages.

    Raises:
        FeaturesError: the layout does not fit the shape, or is needed and not given.
    """
    if layout != AUTO:
        return _fit(shape, layout, grid, where)
    readings = {
        name: Arrangement(dict(zip(name[1:], shape[1:])))
        for name in LAYOUTS
        if len(name) == len(shape)
    }
    # A square grid by rows and by columns looks the same; only rows are usual.
    plausible = [name for name in readings if name != "NWHD" and readings[name].plausible()]
    if len(plausible) == 1:
        return readings[plausible[0]]
    if not readings:
        known = ", ".join(LAYOUTS)
        raise FeaturesError(f"{where} has the shape {shape}, which is none of {known}")
    options = ", ".join(f"{name} ({reading})" for name, reading in readings.items())
    flat = f", or a flat grid: one of {', '.join(GRIDS)} with --grid H W" if len(shape) == 2 else ""
    raise FeaturesError(
        f"{where} has the shape {shape}, which does not tell what its axes are; say it with "
        f"--layout: {options}{flat}"
    )


def _fit(
    shape: Tuple[int, ...], layout: str, grid: Optional[Tuple[int, int]], where: object
) -> Arrangement:
    if grid is None:
        if len(shape) == len(layout):
            return Arrangement(dict(zip(layout[1:], shape[1:])))
        hint = " Say which grid the flat rows are with --grid H W." if layout in GRIDS else ""
        raise FeaturesError(
            f"{where} has {len(shape)} axes, of shape {shape}, but --layout {layout} has "
            f"{len(layout)}.{hint if len(shape) == 2 else ''}"
        )
    height, width = grid
    if len(shape) != 2 or shape[1] % (height * width):
        raise FeaturesError(
            f"{where} has the shape {shape}; with --grid {height} {width} it must be (N, X), and X "
            f"a multiple of {height * width}"
        )
    sizes = {"D": shape[1] // (height * width), "H": height, "W": width}
    return Arrangement({axis: sizes[axis] for axis in layout[1:]})
