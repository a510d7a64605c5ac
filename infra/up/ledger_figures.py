"""What the ledger says of itself, from its last reports on the windows topic. Pure; reading is done elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from infra.ports import Record
from schemas.base import DecodeError, decode
from schemas.owed import OWED_KINDS, PartitionOwed, RequestsOwed, ScenarioOwed

COUNTS = ("asked", "answered", "failed", "shed", "dead_lettered", "expired", "owed", "late")
HEADINGS = ("partition", "scenario", *COUNTS, "oldest owed")
ROWS_SHOWN_MAX = 40
_TYPE = RequestsOwed.event_type().encode()


@dataclass(slots=True)
class LedgerFigures:
    """The newest word on each partition and scenario of one request topic."""

    topic_id: str
    heard_ms: int = 0
    """Append time of the newest report; 0: none."""
    rows: dict[tuple[int, str], tuple[int, PartitionOwed, ScenarioOwed]] = field(default_factory=dict)

    def fold(self, records: Iterable[Record]) -> None:
        """Take records of the windows topic in, whatever they are."""
        for record in records:
            if not any(name == "ce_type" and raw == _TYPE for name, raw in record.headers):
                continue
            try:
                event = decode(record.headers, record.value, OWED_KINDS).data
            except DecodeError:
                continue
            if event.topic_id == self.topic_id:
                self._take(event, record.timestamp_ms)

    def _take(self, event: RequestsOwed, at_ms: int) -> None:
        self.heard_ms = max(self.heard_ms, at_ms)
        for book in event.partitions:
            for one in book.scenarios:
                known = self.rows.get((book.partition, one.scenario))
                if known is None or (known[1].epoch, known[0]) <= (book.epoch, at_ms):
                    self.rows[book.partition, one.scenario] = (at_ms, book, one)

    def expired(self) -> int:
        """Requests that retention took before they had an end."""
        return sum(one.expired for _, _, one in self.rows.values())

    def as_json(self, now_ms: int) -> dict[str, Any]:
        """For a program. Ages in seconds."""
        return {
            "heard_seconds_ago": _age(self.heard_ms, now_ms),
            "partitions": [
                {
                    "partition": number,
                    "scenario": scenario,
                    **{name: getattr(one, name) for name in COUNTS},
                    "oldest_owed_offset": one.oldest_offset,
                    "oldest_owed_seconds": None if one.oldest_ms is None else _age(one.oldest_ms, now_ms),
                    "first_offset": book.first_offset,
                    "next_offset": book.next_offset,
                    "unread": book.unread,
                    "absent": book.absent,
                    "repeated_answers": book.repeated,
                }
                for (number, scenario), (_, book, one) in sorted(self.rows.items())
            ],
        }

    def as_text(self, now_ms: int) -> list[str]:
        """For people: a table, the rows that owe or lost something first when there are many."""
        rows = sorted(self.rows.items(), key=lambda row: (not (row[1][2].owed or row[1][2].expired), row[0]))
        shown = sorted(rows[:ROWS_SHOWN_MAX])
        cells = [list(HEADINGS)]
        for (number, scenario), (_, _, one) in shown:
            oldest = (
                "-" if one.oldest_ms is None else f"{_age(one.oldest_ms, now_ms):.1f} s (offset {one.oldest_offset})"
            )
            cells.append([str(number), scenario or "(unreadable)", *(f"{getattr(one, n):,}" for n in COUNTS), oldest])
        widths = [max(len(row[at]) for row in cells) for at in range(len(HEADINGS))]
        lines = ["  ".join(text.rjust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
        if len(rows) > ROWS_SHOWN_MAX:
            lines.append(f"and {len(rows) - ROWS_SHOWN_MAX} more rows, which --json shows")
        ago = f"{_age(self.heard_ms, now_ms):.0f} s ago, since its books began"
        return [f"the ledger, {ago} (answers may be read a moment before their requests):", *lines]


def _age(then_ms: int, now_ms: int) -> float:
    return max(0.0, (now_ms - then_ms) / 1000)
