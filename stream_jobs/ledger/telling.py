"""When the ledger tells stage 2 of what: each second while something waits, else twice a window. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.base import encode, headers_for
from schemas.owed import PARTITIONS_PER_EVENT_MAX, PartitionOwed, RequestsOwed
from schemas.topics import WINDOWS
from schemas.windows import SeriesKey
from stream_jobs.partial_events import target_of
from stream_jobs.stage import Outgoing

SOURCE = "inferwatch/jobs/ledger"
ROWS_PER_EVENT_MAX = 2_000
"""Accounts of scenarios in one event: half a megabyte at most."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`interval_seconds` between two events while something waits, `calm_seconds` while nothing does."""

    interval_seconds: float
    calm_seconds: float


class Telling:
    """Makes events for every partition of the windows topic. One a process."""

    def __init__(self, cluster_id: str, topic_id: str, owner: str, targets: int, pace: Pace) -> None:
        """`owner` names this process in the events' ids."""
        self._cluster_id, self._topic_id, self._owner = cluster_id, topic_id, owner
        self._targets, self._pace = targets, pace
        self._told_at: dict[int, float] = {}
        self._waited: dict[int, bool] = {}
        self._number = 0

    def events(self, books: Sequence[PartitionOwed], now: float, now_ms: int) -> list[Outgoing]:
        """What to say now. `now`: monotonic seconds; `now_ms`: wall clock, to see what waits."""
        found: list[Outgoing] = []
        for target, partitions in self._by_target(books).items():
            least_ms = now_ms - round(2000 * self._pace.interval_seconds)
            waits = any(
                one.oldest_ms is not None and one.oldest_ms <= least_ms for book in partitions for one in book.scenarios
            )
            due = now - self._told_at.get(target, float("-inf")) >= self._pace.calm_seconds
            if waits or self._waited.get(target) or due:
                self._told_at[target], self._waited[target] = now, waits
                found.extend(self._event(target, some, now_ms) for some in _in_pieces(partitions))
        return found

    def _by_target(self, books: Iterable[PartitionOwed]) -> Mapping[int, list[PartitionOwed]]:
        found: dict[int, list[PartitionOwed]] = {}
        for book in books:
            shares: dict[int, list[int]] = {}
            for at, one in enumerate(book.scenarios):
                series = SeriesKey(model="", version="", scenario=one.scenario)
                shares.setdefault(target_of(series, self._targets), []).append(at)
            for target, places in shares.items():
                share = book.model_copy(update={"scenarios": [book.scenarios[at] for at in places]})
                found.setdefault(target, []).append(share)
        return found

    def _event(self, target: int, partitions: list[PartitionOwed], now_ms: int) -> Outgoing:
        self._number += 1
        message = RequestsOwed(cluster_id=self._cluster_id, topic_id=self._topic_id, partitions=partitions)
        headers = headers_for(
            message,
            event_id=f"{self._owner}/{self._number}",
            source=SOURCE,
            time=datetime.fromtimestamp(now_ms / 1000, UTC),
        )
        return Outgoing(WINDOWS.name, encode(message), partition=target, headers=headers)


def _in_pieces(partitions: list[PartitionOwed]) -> list[list[PartitionOwed]]:
    pieces: list[list[PartitionOwed]] = [[]]
    rows = 0
    for one in partitions:
        if pieces[-1] and (
            rows + len(one.scenarios) > ROWS_PER_EVENT_MAX or len(pieces[-1]) >= PARTITIONS_PER_EVENT_MAX
        ):
            pieces.append([])
            rows = 0
        pieces[-1].append(one)
        rows += len(one.scenarios)
    return pieces
