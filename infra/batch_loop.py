"""The only consume loop outside Faust: poll, hand over, wait for deliveries, store, commit. At least once.

Owns the order of those steps, back-pressure, rebalances and the orderly stop. What is done with a record is its `Work`.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from infra.outbox import Outbox
from infra.ports import Clock, Log, Record, RetryLater
from infra.progress import Progress, Receipt

LOG = logging.getLogger(__name__)
PartitionSet = set[tuple[str, int]]
OpenLog = Callable[[Callable[[PartitionSet], None], Callable[[PartitionSet], None]], Log]
"""Joins the group: gets what to call on (assigned, revoked), returns the log."""
POLL_SECONDS_MAX = 0.1
"""Longest poll: how soon a stop is noticed."""
BACK_OFF_SECONDS = (0.1, 5.0)
"""First and longest wait after broker trouble; doubles in between."""


class Work(Protocol):
    """What an application does with records. Called by the loop's thread only; no method may block for long."""

    def assigned(self, partitions: PartitionSet) -> None:
        """These partitions are ours now. Inside a poll."""

    def dropped(self, partitions: PartitionSet) -> None:
        """These partitions went to somebody else: forget what is not started; what is under way may still finish."""

    def accept(self, records: Sequence[tuple[Record, Receipt]]) -> None:
        """Take records over. Each receipt must be settled, through the outbox, as often as the loop was told."""

    def step(self, outbox: Outbox, *, start: bool) -> float:
        """Go on: fold finished work, start new work when `start` says so, publish. Returns the seconds until it wants
        to be called again, at most. An exception ends the process; nothing unfinished is acknowledged."""

    def is_full(self) -> bool:
        """True while no more records may be handed over."""

    def under_way(self) -> int:
        """Started and not yet handed to the outbox, whatever it is."""

    def waiting(self) -> int:
        """Accepted and not started."""

    def gathers(self) -> bool:
        """True while a record that comes now could not be started anyway: then records are taken together when `step`
        wants to be called again, which costs less than one by one as they come."""


@dataclass(frozen=True, slots=True)
class LoopLimit:
    """Bounds of the loop. `deliveries_per_record`: how often each receipt is settled before its record is done."""

    deliveries_per_record: int
    poll_records_max: int = 256
    held_records_max: int = 2_000
    """Records of which nothing is delivered yet, of all partitions together. Each partition gets an equal share, so
    that one with a backlog cannot keep the others' records out."""
    window_records_max: int = 2_000
    """Records of one partition from the first that is not done to the last that was taken: so many are worked on again
    after a death, and so far out of order are answers."""
    revoke_seconds_max: float = 2.0
    """What is under way may finish for so long while a rebalance waits: well below a session timeout."""
    stop_seconds_max: float = 8.0
    """What was accepted may finish for so long after a stop: below the 10 s that most supervisors grant."""


class BatchLoop:
    """Runs `Work` over a group's share of topics until stopped.

    In this order, and nowhere else: 1 publish everything a record gives, 2 every delivery is confirmed, 3 the offset
    after the contiguous done prefix is stored, 4 it is committed. A record whose delivery fails is published again.
    """

    def __init__(
        self,
        open_log: OpenLog,
        outbox: Outbox,
        work: Work,
        clock: Clock,
        limit: LoopLimit,
        *,
        stop: threading.Event,
        wait: Callable[[float], object],
    ) -> None:
        """`wait` waits for so many seconds, or less when there is something to do; a test gives one that does not."""
        self._open_log = open_log
        self._outbox = outbox
        self._work = work
        self._clock = clock
        self._limit = limit
        self._stop = stop
        self._wait = wait
        self._progress: dict[tuple[str, int], Progress] = {}
        self._paused: PartitionSet = set()
        self._left_paused: PartitionSet = set()
        self._troubles = 0
        self._closing = False

    def run(self) -> None:
        """Join, work until `stop` is set, finish in order, leave. Raises what the work raises, and Fatal when a client
        is broken for good, with the group left."""
        log = self._open_log(self._assigned, self._revoked)
        self._log = log
        try:
            while not self._stop.is_set():
                self._turn()
            self._finish()
        finally:
            # What is under way is done, or the work is broken: callbacks of the closing log must not touch it. They may
            # come on another thread, and late.
            self._closing = True
            log.close()

    def oldest_seconds(self) -> float:
        """Age of the oldest record that was taken and is not done; 0 when all are. From any thread."""
        found = [progress.oldest_ms for progress in tuple(self._progress.values())]
        oldest_ms = min((one for one in found if one is not None), default=None)
        return 0.0 if oldest_ms is None else max(0.0, (self._clock.now_ms() - oldest_ms) / 1000)

    def _turn(self) -> None:
        seconds = self._work.step(self._outbox, start=not self._outbox.is_full())
        self._outbox.collect()
        self._store()
        self._press_back()
        seconds = min(seconds, POLL_SECONDS_MAX)
        if seconds > 0 and self._work.gathers():
            self._wait(seconds)
            seconds = 0.0
        try:
            records = self._log.poll(self._limit.poll_records_max, seconds)
        except RetryLater as error:
            first, longest = BACK_OFF_SECONDS
            seconds = min(longest, first * 2 ** min(self._troubles, 10))
            self._troubles += 1
            LOG.warning("Kafka is away, trying again in %.1f s: %s", seconds, error)
            self._rest(seconds)
            return
        self._troubles = 0
        if records:
            self._work.accept([(record, self._begin(record)) for record in records])

    def _rest(self, seconds: float) -> None:
        """Wait before the next poll; what is under way goes on, and a stop is noticed."""
        until = self._clock.monotonic() + seconds
        while self._clock.monotonic() < until and not self._stop.is_set():
            self._work.step(self._outbox, start=not self._outbox.is_full())
            self._outbox.collect()
            self._wait(0.05)

    def _begin(self, record: Record) -> Receipt:
        where = record.topic, record.partition
        progress = self._progress.get(where)
        if progress is not None and not progress.follows(record.offset):
            LOG.warning("%s[%d] went back to offset %d: it was made again", *where, record.offset)
            self._work.dropped({where})
            self._work.assigned({where})
            progress.close()
            progress = None
        if progress is None:
            progress = self._progress[where] = Progress(*where, self._limit.deliveries_per_record)
        return progress.begin(record.offset, record.timestamp_ms)

    def _store(self) -> None:
        for (topic, partition), progress in self._progress.items():
            next_offset = progress.take_next_offset()
            if next_offset is not None:
                self._log.store(topic, partition, next_offset)

    def _press_back(self) -> None:
        owned = self._log.assignment()
        full = self._work.is_full() or self._outbox.is_full()
        share = max(1, self._limit.held_records_max // max(1, len(owned)))
        window = self._limit.window_records_max
        more = {where for where in owned - self._paused if full or not self._is_below(where, share, window)}
        # Resumed at half of it and not sooner: each pause throws away what was fetched ahead.
        half = share // 2 + 1, window // 2 + 1
        less = {where for where in self._paused if not full and self._is_below(where, *half)}
        if more:
            self._log.pause(sorted(more))
        if less:
            self._log.resume(sorted(less))
        self._paused = (self._paused | more) - less

    def _is_below(self, where: tuple[str, int], share: int, window: int) -> bool:
        progress = self._progress.get(where)
        return progress is None or (progress.untouched < share and progress.unfinished < window)

    def _assigned(self, partitions: PartitionSet) -> None:
        if not self._closing:
            LOG.info("assigned %s", _text(partitions))
            # The client goes on pausing what was paused when it was taken away: the next turn resumes it. Nothing else:
            # to resume what is just being assigned can keep the client from ever fetching it.
            self._paused |= partitions & self._left_paused
            self._left_paused -= partitions
            self._work.assigned(partitions)

    def _revoked(self, partitions: PartitionSet) -> None:
        """Inside a poll: finish what is under way, store it, forget the rest. Nothing while the log is closed."""
        if self._closing:
            return
        LOG.info("giving up %s", _text(partitions))
        self._work.dropped(partitions)
        self._drain(self._limit.revoke_seconds_max)
        for where in partitions:
            progress = self._progress.pop(where, None)
            if progress is not None:
                progress.close()
        self._left_paused |= self._paused & partitions
        self._paused -= partitions

    def _finish(self) -> None:
        deadline = self._clock.monotonic() + self._limit.stop_seconds_max
        LOG.info("stopping: %d waiting, %d under way", self._work.waiting(), self._work.under_way())
        while self._work.waiting() and self._clock.monotonic() < deadline:
            self._work.step(self._outbox, start=not self._outbox.is_full())
            self._outbox.collect()
            self._wait(0.002)
        self._drain(max(1.0, deadline - self._clock.monotonic()))

    def _drain(self, seconds: float) -> None:
        deadline = self._clock.monotonic() + seconds
        while True:
            self._work.step(self._outbox, start=False)
            self._outbox.collect()
            busy = self._work.under_way() or self._outbox.pending
            if not busy or self._clock.monotonic() >= deadline:
                break
            self._wait(0.002)
        self._store()
        try:
            self._log.commit()
        except RetryLater as error:
            LOG.warning("the last offsets are not committed, so some records will be worked on again: %s", error)


def _text(partitions: PartitionSet) -> str:
    return ", ".join(f"{topic}[{partition}]" for topic, partition in sorted(partitions)) or "nothing"
