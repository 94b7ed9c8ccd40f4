"""Give every sentence of a set an image, the right one, another's or none.

Letters: N sentences of a split, L of them with an image.
"""

from dataclasses import dataclass
from typing import Callable, Generic, List, Optional, Sequence, TypeVar

import numpy as np

from ..data.split_images import NO_IMAGE

T = TypeVar("T")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Conditions(Generic[T]):
    """One thing for each way in which the same sentences can be given images."""

    right: T
    """with their own images"""
    deranged: List[T]
    """with others', once for each derangement"""
    none: T
    """without images"""
    baseline: Optional[T] = None
    """of another model, without images"""

    def map(self, function: Callable[[T], Result]) -> "Conditions[Result]":
        """What `function` makes of each."""
        return Conditions(
            function(self.right),
            [function(each) for each in self.deranged],
            function(self.none),
            None if self.baseline is None else function(self.baseline),
        )


def derange(ids: Sequence, seed: Sequence[int]) -> np.ndarray:
    """Exchange the images of L sentences so that nobody keeps an image with the id of its own.

    Every image is used as often as before, so that only their places differ.

    Args:
        ids: (L,) the id of each sentence's image; several sentences may share one.
        seed: of the random order.

    Returns:
        (L,) int64, for each sentence the one whose image it gets.

    Raises:
        ValueError: more than half of the sentences share an image.
    """
    _, kinds, counts = np.unique(ids, return_inverse=True, return_counts=True)
    largest = counts.max()
    if 2 * largest > len(ids):
        raise ValueError(
            f"{largest} of {len(ids)} sentences have the same image, so not every sentence can get "
            "another one; use a split with more images"
        )
    rng = np.random.default_rng(seed)
    # Sentences of one image are neighbours, `largest` at most: that far on (around the end) stands
    # another image's.
    order = np.lexsort((rng.random(len(ids)), rng.permutation(len(counts))[kinds]))
    places = np.empty(len(ids), dtype=np.int64)
    places[order] = np.roll(order, -largest)
    return places


def image_conditions(rows: np.ndarray, count: int, seed: int) -> Conditions[np.ndarray]:
    """Which image each sentence of a split gets.

    Args:
        rows: (N,) int64, the row of each sentence's image in the store, or `NO_IMAGE`.
        count: how many derangements.
        seed: of the derangements; each has its own random order.

    Returns:
        (N,) rows for each condition; a sentence without an image never gets one.

    Raises:
        ValueError: more than half of the sentences with an image share one.
    """
    lines = np.flatnonzero(rows != NO_IMAGE)
    none = np.full_like(rows, NO_IMAGE)
    deranged = []
    for number in range(count):
        wrong = none.copy()
        wrong[lines] = rows[lines][derange(rows[lines], [seed, number])]
        deranged.append(wrong)
    return Conditions(rows, deranged, none)
