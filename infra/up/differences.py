"""Every difference of the books, explained: which offsets, how many, and what they have and lack."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.ports import Record, TableReader
from infra.up.books import Books, other_outcome
from infra.up.outcomes import Codes, FirstWords, Ints, NamedOffsets, codes_of
from infra.up.ranges import in_words, ranges_of, without
from infra.up.request_heads import scenario_of
from schemas import tables

ROWS_AT_ONCE = 200_000
"""Offsets of rows asked of the table at a time: a few megabytes."""
LOOKED_AT_MAX = 200
"""Owed requests of a partition that are read, to say whose they are."""
READ_MAX = 5_000
"""How far from the oldest the others may be, in records: they are read one after the other."""
Ranges = list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Difference:
    """One kind of difference in one partition. `ranges`: offsets, each first and one after the last."""

    kind: str
    partition: int
    count: int
    ranges: Ranges
    text: str
    more: Mapping[str, Any] | None = None

    def as_json(self, limit: int) -> dict[str, Any]:
        """For a program: the first ranges."""
        found = {"kind": self.kind, "partition": self.partition, "count": self.count, "offsets": self.ranges[:limit]}
        return {**found, "text": self.text, **(self.more or {})}


def owed_differences(
    books: Books, ends: Mapping[int, int], read: Callable[[int, int, int], list[Record]], now_ms: int, limit: int
) -> list[Difference]:
    """Requests without an end, with scenario and age. `read(partition, first, after)` gives request records."""
    found = []
    for number, ranges in books.owed(ends).items():
        count = _count(ranges)
        scenarios: dict[str, int] = {}
        oldest = None
        wanted = {
            offset
            for first, after in ranges[:LOOKED_AT_MAX]
            for offset in range(first, min(after, first + LOOKED_AT_MAX))
        }
        nearby = [offset for offset in wanted if offset < ranges[0][0] + READ_MAX]
        for record in read(number, ranges[0][0], max(nearby) + 1):
            if record.offset in wanted:
                name = scenario_of(record.value) or "(unreadable)"
                scenarios[name] = scenarios.get(name, 0) + 1
                oldest = oldest or record
        text = f"no answer and no dead letter for {in_words(ranges, limit)}: {count:,} owed"
        more: dict[str, Any] = {"scenarios": scenarios}
        if oldest is not None:
            age = max(0.0, (now_ms - oldest.timestamp_ms) / 1000)
            whose = ", ".join(f"{name} {times}" for name, times in sorted(scenarios.items()))
            text += f", the oldest (offset {oldest.offset}) for {age:.1f} s; the first of them: {whose}"
            more |= {"oldest_offset": oldest.offset, "oldest_seconds": age}
        found.append(Difference("owed", number, count, ranges, text, more))
    return found


def log_differences(books: Books, ends: Mapping[int, int], limit: int) -> list[Difference]:
    """What predictions and dead letters say and telemetry does not, the other way round, and what was said twice."""
    found = []
    owed, silent = books.owed(ends), books.unobserved(ends)
    for number in sorted(books.starts):
        unsaid = without(silent.get(number, []), owed.get(number, []))
        if unsaid:
            text = f"an answer or dead letter, and no telemetry, for {in_words(unsaid, limit)}"
            found.append(Difference("no_telemetry", number, _count(unsaid), unsaid, text))
        told = without(owed.get(number, []), silent.get(number, []))
        if told:
            text = f"telemetry, and no answer or dead letter, for {in_words(told, limit)}"
            found.append(Difference("telemetry_without_answer", number, _count(told), told, text))
        if again := books.repeated_offsets(number):
            ranges = ranges_of(again)
            text = f"answered again (the first counts): {in_words(ranges, limit)}"
            found.append(Difference("answered_again", number, len(again), ranges, text))
        for (said, seen), count, offsets in books.unlike(number):
            more, ranges = {"first_answer": said, "telemetry": seen}, ranges_of(offsets)
            text = other_outcome(said, f"{seen} by telemetry", ranges, count, limit)
            found.append(Difference("other_outcome", number, count, ranges, text, more))
    return found


def row_differences(
    reader: TableReader, books: Books, words: FirstWords, ends: Mapping[int, int], limit: int
) -> list[Difference]:
    """Answers without a row, rows without an answer, rows of another outcome than the first answer's, and rows that
    readers see twice. Raises as `TableReader.query`."""
    found: list[Difference] = []
    for number, start in sorted(books.starts.items()):
        alone, unlike = NamedOffsets(), NamedOffsets()
        end = ends.get(number, start)
        for first in range(start, end, ROWS_AT_ONCE):
            after = min(end, first + ROWS_AT_ONCE)
            said = words.between(number, first, after)
            times, rows = _rows(reader, books, number, first, after)
            here = {
                "no_row": (said > 0) & (times == 0),
                "row_without_answer": (said == 0) & (times > 0),
                "row_twice": times > 1,
            }
            for kind, is_so in here.items():
                alone.add((kind, ""), first + np.flatnonzero(is_so))
            unlike.add_unlike(np.arange(first, after), said, rows)
        for (kind, _), count, offsets in alone:
            ranges = ranges_of(offsets)
            text = f"{_ROWS[kind]} {in_words(ranges, limit)}: {count:,}"
            found.append(Difference(kind, number, count, ranges, text))
        for (before, now), count, offsets in unlike:
            more, ranges = {"first_answer": before, "row": now}, ranges_of(offsets)
            text = other_outcome(before, f"{now} in the table", ranges, count, limit)
            found.append(Difference("row_other_outcome", number, count, ranges, text, more))
    return found


_ROWS = {
    "no_row": "settled, and no row in the table, for",
    "row_without_answer": "a row in the table, and no answer or dead letter, for",
    "row_twice": "readers of the table see twice",
}


def _rows(reader: TableReader, books: Books, partition: int, first: int, after: int) -> tuple[Ints, Codes]:
    """How many rows readers see of each offset from `first` to below `after`, and with which outcome."""
    _, rows = reader.query(
        f"SELECT offset, count(), any(outcome) FROM {tables.REQUESTS.view} WHERE cluster_id = {{cluster:String}}"
        " AND topic_id = {topic:String} AND partition = {partition:UInt32}"
        " AND offset >= {first:UInt64} AND offset < {after:UInt64} GROUP BY offset",
        {
            "cluster": books.cluster_id,
            "topic": books.topic_id,
            "partition": partition,
            "first": first,
            "after": after,
        },
    )
    times, outcomes = np.zeros(after - first, dtype=np.int64), np.zeros(after - first, dtype=np.uint8)
    if rows:
        offsets, counts, names = zip(*rows, strict=True)
        index = np.array(offsets, dtype=np.int64) - first
        times[index], outcomes[index] = np.array(counts, dtype=np.int64), codes_of(map(str, names))
    return times, outcomes


def _count(ranges: Ranges) -> int:
    return sum(after - first for first, after in ranges)
