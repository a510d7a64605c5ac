"""Differences that an audit found: counted in full, named up to a bound. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

RANGES_MAX = 20
"""Ranges of offsets named for a kind and partition; the rest is counted."""
DETAILS_MAX = 5


class Kind(StrEnum):
    """What can differ. Each is a fault: the audit has failed."""

    MISSING = "missing"
    EXTRA = "extra"
    DOUBLED = "doubled"
    ALTERED = "altered"
    UNKNOWN = "unknown"
    TOO_LATE = "too_late"
    SILENT = "silent"
    WINDOW_COUNTS = "window_counts"
    WINDOW_DOUBLED = "window_doubled"
    UNCOUNTED = "uncounted"


IN_WORDS = {
    Kind.MISSING: "told by telemetry, without a row",
    Kind.EXTRA: "with a row that no telemetry tells",
    Kind.DOUBLED: "seen more than once",
    Kind.ALTERED: "with a row that says something else than telemetry",
    Kind.UNKNOWN: "with a row, but the request topic has no such offset",
    Kind.TOO_LATE: "told so late that they were not compared",
    Kind.SILENT: "of telemetry: not readable, and not among the dead letters",
    Kind.WINDOW_COUNTS: "windows count something else than their rows",
    Kind.WINDOW_DOUBLED: "windows are seen more than once",
    Kind.UNCOUNTED: "of telemetry: with rows that no window counts",
}
_OF_WINDOWS = (Kind.WINDOW_COUNTS, Kind.WINDOW_DOUBLED)


@dataclass(slots=True)
class Difference:
    """One kind in one partition (-1: of all). `ranges` are [first, after) offsets, the first `RANGES_MAX` of them."""

    kind: Kind
    partition: int
    count: int = 0
    named: int = 0
    """How many of `count` are in `ranges`."""
    ranges: list[tuple[int, int]] = field(default_factory=list)
    details: list[str] = field(default_factory=list)

    def add(self, offsets: NDArray[np.int64]) -> None:
        """Take rising offsets in."""
        self.count += len(offsets)
        cuts = np.flatnonzero(np.diff(offsets) != 1) + 1
        firsts, lasts = np.concatenate(([0], cuts)), np.concatenate((cuts, [len(offsets)])) - 1
        for first, last in zip(offsets[firsts].tolist(), offsets[lasts].tolist(), strict=True):
            if self.ranges and self.ranges[-1][1] == first:
                self.ranges[-1] = (self.ranges[-1][0], last + 1)
            elif len(self.ranges) < RANGES_MAX:
                self.ranges.append((first, last + 1))
            else:
                return
            self.named += last + 1 - first

    def __str__(self) -> str:
        details = "".join(f"; {text}" for text in self.details)
        if self.kind in _OF_WINDOWS:
            return f"{self.count:,} {IN_WORDS[self.kind]}{details}" + self._more(len(self.details))
        shown = ", ".join(str(first) if after == first + 1 else f"{first}-{after - 1}" for first, after in self.ranges)
        return (
            f"partition {self.partition}: {self.count:,} offsets {IN_WORDS[self.kind]}: {shown}"
            f"{self._more(self.named)}{details}"
        )

    def _more(self, shown: int) -> str:
        return f" and {self.count - shown:,} more" if self.count > shown else ""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {
            "kind": self.kind.value,
            "partition": self.partition,
            "count": self.count,
            "ranges": [list(one) for one in self.ranges],
            "named": len(self.details) if self.kind in _OF_WINDOWS else self.named,
            "details": list(self.details),
        }


class Findings:
    """All differences of an audit, in bounded memory: at most one entry a kind and partition."""

    def __init__(self) -> None:
        self._found: dict[tuple[Kind, int], Difference] = {}

    def add(self, kind: Kind, partition: int, offsets: Iterable[int] | NDArray[np.int64]) -> None:
        """Offsets of a partition that differ, rising."""
        array = np.asarray(offsets if isinstance(offsets, np.ndarray) else list(offsets), dtype=np.int64)
        if len(array):
            self._entry(kind, partition).add(array)

    def window(self, kind: Kind, detail: str) -> None:
        """One window that differs, and how."""
        entry = self._entry(kind, -1)
        entry.count += 1
        if len(entry.details) < DETAILS_MAX:
            entry.details.append(detail)

    def detail(self, kind: Kind, partition: int, text: str) -> None:
        """More about offsets that were added."""
        entry = self._entry(kind, partition)
        if len(entry.details) < DETAILS_MAX:
            entry.details.append(text)

    def _entry(self, kind: Kind, partition: int) -> Difference:
        return self._found.setdefault((kind, partition), Difference(kind, partition))

    def all(self) -> list[Difference]:
        """By kind, then partition."""
        order = list(Kind)
        return sorted(self._found.values(), key=lambda one: (order.index(one.kind), one.partition))

    def counts(self) -> dict[str, int]:
        """How many there are of every kind, also of those of which there are none."""
        counts = dict.fromkeys((kind.value for kind in Kind), 0)
        for one in self._found.values():
            counts[one.kind.value] += one.count
        return counts
