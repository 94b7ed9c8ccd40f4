"""What a benchmark has found out: rows of a table, and how they compare with what is required."""

import enum
import statistics
from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, List, NamedTuple, Optional, Tuple, Union


class Bound(str, enum.Enum):
    """What a requirement is about."""

    AT_LEAST = "at least"
    """ours / theirs must not be below"""
    AT_MOST = "at most"
    """ours / theirs must not be above"""
    AT_MOST_MORE = "at most more"
    """ours - theirs must not be above"""


class Required(NamedTuple):
    """A bound and its value."""

    bound: Bound
    value: float

    def met_by(self, compared: float) -> bool:
        """Whether a ratio, or a difference, is on the right side."""
        return compared >= self.value if self.bound is Bound.AT_LEAST else compared <= self.value


@dataclass(frozen=True)
class Row:
    """One question: our answer and that of what a user would run instead, in the same rounds."""

    question: str
    ours_name: str
    theirs_name: str
    unit: str
    ours: List[float]
    """in each round"""
    theirs: List[float]
    required: Optional[Required] = None
    """None: the row informs only"""
    limit: Optional[List[float]] = None
    """what ours would be if nothing took time but the matrix products, in each round"""
    note: str = ""

    @property
    def differs(self) -> bool:
        """Whether the two are subtracted, not divided."""
        return self.required is not None and self.required.bound is Bound.AT_MOST_MORE

    @property
    def by_round(self) -> List[float]:
        """Ratios ours / theirs, or differences ours - theirs."""
        pairs = zip(self.ours, self.theirs, strict=True)
        return [o - t if self.differs else o / t for o, t in pairs]

    @property
    def compared(self) -> float:
        """The median of the rounds."""
        return statistics.median(self.by_round)

    @property
    def spread(self) -> Tuple[float, float]:
        """The lowest and the highest of the rounds."""
        return min(self.by_round), max(self.by_round)

    @property
    def met(self) -> Optional[bool]:
        """Whether the median is what is required; None where nothing is."""
        return None if self.required is None else self.required.met_by(self.compared)

    def as_json(self) -> Dict[str, Any]:
        """All rounds, and what follows from them."""
        return {
            **asdict(self),
            "required": self.required and [self.required.bound.value, self.required.value],
            "compared": self.compared,
            "spread": list(self.spread),
            "met": self.met,
        }

    @classmethod
    def from_json(cls, entry: Dict[str, Any]) -> "Row":
        """The row that :meth:`as_json` was made of."""
        kept = {field.name: entry[field.name] for field in fields(cls)}
        if kept["required"] is not None:
            bound, value = kept["required"]
            kept["required"] = Required(Bound(bound), value)
        return cls(**kept)


class Skipped(NamedTuple):
    """A question that this machine cannot answer."""

    question: str
    reason: str


Found = List[Union[Row, Skipped]]
