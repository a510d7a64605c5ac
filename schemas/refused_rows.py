"""Rows that the table of requests refused of a telemetry record: how a dead letter names them, and how they come back.

The rows' own words are kept, because they must come back as they would have been: under which telemetry offset, and at
which time of the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from schemas.base import INT64_MAX

ROWS_HEADER = "inferwatch.requeued.rows"
"""On telemetry that was put back for its refused rows: which these are, as `RefusedRows.text`."""
RANGES_CHARACTERS_MAX = 1_200
"""Of a dead letter's detail, which holds 2,000. Ranges of neighbours are short: this takes 60 apart."""
LAST_MS = 253_402_300_799_999
"""The end of the year 9999."""
_DETAIL = re.compile(
    r"\w+ refused [0-9]+ of [0-9]+ rows \(requests ([0-9,-]+) told at ([0-9]{1,19}), served at ([0-9]{1,15})\)"
)
_TEXT = re.compile(r"([0-9]{1,19}) ([0-9]{1,15}) ([0-9,-]+)")
_RANGE = re.compile(r"([0-9]{1,19})(?:-([0-9]{1,19}))?")


@dataclass(frozen=True, slots=True)
class RefusedRows:
    """`telemetry_offset` and `served_ms` (epoch milliseconds, log time) are the rows' columns; `ranges` are the offsets
    of their requests, both ends included, rising."""

    telemetry_offset: int
    served_ms: int
    ranges: tuple[tuple[int, int], ...]

    def __post_init__(self) -> None:
        """Raises ValueError when no row can have such numbers."""
        if self.telemetry_offset > INT64_MAX or self.served_ms > LAST_MS:
            raise ValueError(f"no row was told at {self.telemetry_offset} or served at {self.served_ms}")

    @classmethod
    def of_offsets(cls, offsets: Iterable[int], telemetry_offset: int, served_ms: int) -> Self:
        """The rows of these requests."""
        ranges: list[tuple[int, int]] = []
        for offset in sorted(set(offsets)):
            if ranges and offset == ranges[-1][1] + 1:
                ranges[-1] = (ranges[-1][0], offset)
            else:
                ranges.append((offset, offset))
        return cls(telemetry_offset, served_ms, tuple(ranges))

    @classmethod
    def of_detail(cls, detail: str) -> Self | None:
        """As a dead letter names them; None when it does not name them all. Raises ValueError when it is broken."""
        match = _DETAIL.match(detail)
        return None if match is None else cls(int(match[2]), int(match[3]), _ranges(match[1]))

    @classmethod
    def of_text(cls, text: str) -> Self:
        """The inverse of `text`. Raises ValueError."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise ValueError(f"no refused rows: {text[:100]!r}")
        return cls(int(match[1]), int(match[2]), _ranges(match[3]))

    def detail(self) -> str:
        """For the detail of a dead letter; without the requests when they are too many to be named."""
        text = self._offsets()
        if len(text) > RANGES_CHARACTERS_MAX:
            return f"({len(self.ranges)} ranges of requests from {self.ranges[0][0]} on)"
        return f"(requests {text} told at {self.telemetry_offset}, served at {self.served_ms})"

    def text(self) -> str:
        """For the header."""
        return f"{self.telemetry_offset} {self.served_ms} {self._offsets()}"

    def has(self, offsets: Sequence[int]) -> list[bool]:
        """Which of these requests are among them."""
        return [any(first <= offset <= last for first, last in self.ranges) for offset in offsets]

    def _offsets(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)


def _ranges(text: str) -> tuple[tuple[int, int], ...]:
    """Raises ValueError when they are no rising ranges."""
    found: list[tuple[int, int]] = []
    for part in text.split(","):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, -1)
        if last < first or (found and first <= found[-1][1]):
            raise ValueError(f"no rising ranges of offsets: {text[:100]!r}")
        found.append((first, last))
    return tuple(found)
