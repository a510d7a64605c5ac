"""Events about bounds that leave something out: with the window in which one is reached, then once an hour. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from schemas.anomalies import LimitReached
from schemas.base import encode, headers_for
from schemas.topics import ANOMALIES
from stream_jobs.partial_events import SOURCE, moment
from stream_jobs.stage import Limit, Outgoing

QUIET_MS = 3_600_000
"""Between two events about one bound, in the log's time: once reached it is reached in every window, and events of it
would push the anomalies out of their topic."""
TOLD = frozenset(
    {
        Limit.WINDOW_SERIES,
        Limit.ROW_MODELS,
        Limit.OFFSET_HOLES,
        Limit.REQUEST_TOPICS,
        Limit.OPEN_WINDOWS,
        Limit.ALERT_BUDGET,
    }
)
"""Those that have no event of their own."""


class BoundNotices:
    """Of one partition of the topic that a stage folds. What is counted is told sooner or later, and once."""

    def __init__(self, topic: str, partition: int) -> None:
        self._topic, self._partition = topic, partition
        self._counts: dict[Limit, int] = {}
        self._told_ms: dict[Limit, int] = {}

    def reached(self, limits: Mapping[Limit, int]) -> None:
        """What a record made bounds leave out."""
        for what, count in limits.items():
            if what in TOLD:
                self._counts[what] = self._counts.get(what, 0) + count

    def events(self, at_ms: int) -> list[Outgoing]:
        """What is to be said with the window that ends at `at_ms`."""
        due = [what for what in sorted(self._counts) if abs(at_ms - self._told_ms.get(what, -QUIET_MS)) >= QUIET_MS]
        return [self._event(what, at_ms) for what in due]

    def entries(self) -> list[list[Any]]:
        """The state as rows of plain values; none when nothing was reached."""
        names = sorted(self._counts.keys() | self._told_ms.keys())
        return [[what.value, self._counts.get(what, 0), self._told_ms.get(what, -QUIET_MS)] for what in names]

    def restore(self, entries: Iterable[Any]) -> None:
        """Take over what `entries` gave. Raises ValueError when it is broken."""
        for name, count, told_ms in entries:
            if type(count) is not int or type(told_ms) is not int:
                raise ValueError(f"bound {name!r}: not a count and a time")
            what = Limit(name)
            if count:
                self._counts[what] = count
            if told_ms != -QUIET_MS:
                self._told_ms[what] = told_ms

    def _event(self, what: Limit, at_ms: int) -> Outgoing:
        self._told_ms[what] = at_ms
        event = LimitReached(
            topic=self._topic, partition=self._partition, at_ms=at_ms, limit=what.value, count=self._counts.pop(what)
        )
        key = f"limits/{self._topic}/{self._partition}"
        headers = headers_for(
            event, event_id=f"{key}/{what.value}/{at_ms}", source=SOURCE, time=moment(at_ms), subject=key
        )
        return Outgoing(ANOMALIES.name, encode(event), key=key.encode(), headers=headers)
