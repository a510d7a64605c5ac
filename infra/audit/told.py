"""What telemetry told of one partition's requests: the first word on each, span of offsets by span. Pure, bounded.

A worker holds 2,000 requests of it at most, so what it tells of is out of order by little: two spans are kept open, and
an older one is handed out to be compared once telemetry is a whole span past it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infra.audit.fingerprint import Prints
from infra.offset_set import OffsetSet

SPAN = 262_144
"""Request offsets of a span: 6 MB."""
SPANS_OPEN = 2
LATE_MAX = 100_000
HOLES_PAGES_MAX = 4_096
"""Pages of 8,192 offsets with holes that are remembered of spans handed out: 32 MB. What is told of older ones counts
as told again."""
Ints = NDArray[np.int64]


@dataclass(slots=True)
class Span:
    """Offsets from `first` on. `told_at` is the telemetry offset that told of each first; -1: none did."""

    first: int
    told_at: Ints
    prints: Prints
    served_ms: Ints

    @classmethod
    def empty(cls, first: int, after: int) -> Span:
        """Nothing told yet of the offsets from `first` to below `after`."""
        n = after - first
        return cls(first, np.full(n, -1, dtype=np.int64), np.zeros(n, dtype=np.uint64), np.zeros(n, dtype=np.int64))

    @property
    def after(self) -> int:
        """The offset behind its last."""
        return self.first + len(self.told_at)


class Told:
    """Folds events of one partition in their order. Offsets outside `start` to `end` are left out."""

    def __init__(self, start: int, end: int) -> None:
        self.start, self.end = start, max(start, end)
        self.repeats = 0
        """Outcomes told again: the first counts."""
        self.too_late: list[int] = []
        """Offsets first told after their span was handed out, the first `LATE_MAX` of them."""
        self._spans: dict[int, Span] = {}
        self._next = 0
        """Number of the first span that was not handed out."""
        self._handed_out = OffsetSet(start)
        """What was told of spans that were handed out."""

    def add(self, offsets: Ints, prints: Prints, telemetry_offset: int, served_ms: int) -> Iterator[Span]:
        """Take an event's requests in, rising offsets. Yields spans that are done, in order."""
        inside = (offsets >= self.start) & (offsets < self.end)
        offsets, prints = offsets[inside], prints[inside]
        numbers = (offsets - self.start) // SPAN
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            if number < self._next:
                self._add_late(offsets[chosen])
                continue
            span = self._spans.get(number)
            if span is None:
                first = self.start + number * SPAN
                span = self._spans[number] = Span.empty(first, min(first + SPAN, self.end))
            self._fill(span, offsets[chosen], prints[chosen], telemetry_offset, served_ms)
        if len(numbers):
            yield from self._hand_out(int(numbers[-1]) - SPANS_OPEN + 1)

    def rest(self) -> Iterator[Span]:
        """All that is left, in order, to the end of the range: there is no more telemetry."""
        yield from self._hand_out(-(-(self.end - self.start) // SPAN))

    def _fill(self, span: Span, offsets: Ints, prints: Prints, telemetry_offset: int, served_ms: int) -> None:
        index = offsets - span.first
        new = span.told_at[index] < 0
        self.repeats += int(np.count_nonzero(~new))
        index = index[new]
        span.told_at[index], span.served_ms[index] = telemetry_offset, served_ms
        span.prints[index] = prints[new]

    def _add_late(self, offsets: Ints) -> None:
        new = self._handed_out.add(offsets)
        self.repeats += int(np.count_nonzero(~new))
        self.too_late += offsets[new].tolist()[: LATE_MAX - len(self.too_late)]

    def _hand_out(self, before: int) -> Iterator[Span]:
        """The spans before that number; ones that nothing was told of are there too."""
        while self._next < before:
            first = self.start + self._next * SPAN
            span = self._spans.pop(self._next, None) or Span.empty(first, min(first + SPAN, self.end))
            self._next += 1
            self._handed_out.add(span.first + np.flatnonzero(span.told_at >= 0))
            self._handed_out.bound(HOLES_PAGES_MAX)
            yield span
