"""What of a stage's state could not be taken over and begins anew, until it is said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from schemas.windows import SeriesKey

RENEWED_NAMED = 20
"""Series that an event of detectors that learn anew names."""
REASON_MAX = 1_000
BROKEN = (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError)
"""What reading a state may raise that was cut, altered or written by another version."""


@dataclass(slots=True)
class Renewed:
    """Detectors whose state could not be taken over."""

    reason: str
    count: int = 0
    series: list[SeriesKey] = field(default_factory=list)
    everything: bool = False
    """All there were: it is not known how many, and told as 0."""

    def __post_init__(self) -> None:
        self.reason = self.reason[:REASON_MAX]

    def __str__(self) -> str:
        return f"{'all' if self.everything else self.count} detectors or triggers learn anew: {self.reason}"

    def add(self, key: SeriesKey | None, count: int = 1) -> None:
        """So many more, of this series; None: it is not known of which."""
        self.count += 0 if self.everything else count
        if key is not None and key not in self.series and len(self.series) < RENEWED_NAMED:
            self.series.append(key)

    def after(self, other: Renewed | None) -> Renewed:
        """Both, in the order in which they came about."""
        if other is None:
            return self
        everything = self.everything or other.everything
        series = [*other.series, *(one for one in self.series if one not in other.series)]
        count = 0 if everything else self.count + other.count
        return Renewed(f"{other.reason}; {self.reason}", count, series[:RENEWED_NAMED], everything)

    def entry(self) -> list[Any]:
        """Plain values."""
        return [self.reason, self.count, *(one.model_dump() for one in self.series)]

    @classmethod
    def of(cls, entry: Iterable[Any] | None) -> Renewed | None:
        """The inverse of `entry`; None: of none. Raises ValueError when it is broken."""
        if entry is None:
            return None
        reason, count, *series = entry
        if type(reason) is not str or type(count) is not int:
            raise ValueError("what learns anew: not a reason and a count")
        return cls(reason, count, [SeriesKey.model_validate(one) for one in series], everything=count == 0)
