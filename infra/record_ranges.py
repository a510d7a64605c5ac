"""Ranges of a log's offsets: what of them is still to be read, and short ways to ask a `RangeReader`. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing

from infra.ports import Place, RangeReader, Ranges, Record


class Unread:
    """Which ranges are not read to their ends yet.

    A range is over when a record at or after its end came, or when the log is said to be read so far: its last offsets
    may hold nothing, such as a transaction's marker, and then no record tells.
    """

    def __init__(self, ranges: Ranges) -> None:
        """Empty ranges are over at once."""
        self._next = {place: first for place, (first, after) in ranges.items() if after > first}
        self._after = {place: ranges[place][1] for place in self._next}

    def __bool__(self) -> bool:
        return bool(self._next)

    @property
    def places(self) -> set[Place]:
        """Whose ranges are not over."""
        return set(self._next)

    def take(self, records: Sequence[Record]) -> list[Record]:
        """Those of these records that are in a range; records of a partition must come in order."""
        found = []
        for record in records:
            place = record.topic, record.partition
            if place in self._next:
                if record.offset < self._after[place]:
                    found.append(record)
                self.reached(place, record.offset + 1)
        return found

    def reached(self, place: Place, next_offset: int) -> None:
        """Everything below `next_offset` was read, whether it held records or not."""
        if place not in self._next:
            return
        if next_offset >= self._after[place]:
            del self._next[place]
        else:
            self._next[place] = max(next_offset, self._next[place])

    def __str__(self) -> str:
        places = sorted(self._next)
        more = f", and {len(places) - 1} more" if len(places) > 1 else ""
        topic, number = places[0]
        return f"{topic}[{number}]: read up to offset {self._next[places[0]]} of {self._after[places[0]]}{more}"


def records_between(reader: RangeReader, topic: str, partition: int, first: int, after: int) -> Iterator[Record]:
    """The records of one range, one by one. Raises RetryLater."""
    for records in reader.read({(topic, partition): (first, after)}):
        yield from records


def first_record(reader: RangeReader, topic: str, partition: int, first: int, after: int) -> Record | None:
    """The first record of one range; None when the log holds none of it. Raises RetryLater."""
    with closing(reader.read({(topic, partition): (first, after)})) as batches:
        return next((records[0] for records in batches), None)
