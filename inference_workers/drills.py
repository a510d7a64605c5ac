"""Faults on purpose: follows control.drills and says how many milliseconds a batch shall be held back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from infra.ports import Clock, Record, RetryLater
from schemas.base import DecodeError, decode
from schemas.drills import DRILL_KINDS

LOG = logging.getLogger(__name__)
LOOK_BACK_MS = 3_600_000
"""The longest drill: one that began so long ago may still run when a worker starts."""
DRILLS_MAX = 1_000
"""Bounds the drills held at once; more are ignored, the newest first."""


class Tail(Protocol):
    """Reads a topic without a group."""

    def poll(self, count_max: int, timeout_seconds: float) -> list[Record]:
        """See `KafkaTail.poll`."""

    def close(self) -> None:
        """Release the connection."""


class DrillPlan:
    """Which drills run, by the log's time. Pure; thread-safe as one writer and readers of one tuple are."""

    def __init__(self) -> None:
        self._delays: tuple[tuple[int, int, int], ...] = ()  # (from ms, until ms, delay ms)

    def apply(self, record: Record, now_ms: int) -> None:
        """Take a record of the drill topic. Raises DecodeError for one that cannot be used; nothing changes then."""
        drill = decode(record.headers, record.value, DRILL_KINDS).data
        began_ms = min(record.timestamp_ms, now_ms)  # a time in the future is no time: the drill would not end
        until = began_ms + drill.duration_ms
        running = [one for one in self._delays if one[1] > now_ms]
        if until > now_ms and len(running) < DRILLS_MAX:  # LATENCY is the only kind
            LOG.warning(
                "drill %s: batches are held back %d ms for %d ms", drill.drill_id, drill.delay_ms, until - now_ms
            )
            running.append((began_ms, until, drill.delay_ms))
        self._delays = tuple(running)

    def delay_ms(self, now_ms: int) -> int:
        """How long a batch shall be held back now: the longest of the drills that run."""
        return max((delay for _, until, delay in self._delays if now_ms < until), default=0)


class DrillWatch:
    """Keeps a `DrillPlan` up to date on a thread of its own, and holds batches back."""

    def __init__(
        self,
        open_tail: Callable[[int], Tail],
        clock: Clock,
        stop: threading.Event,
        on_broken: Callable[[Record, DecodeError], None],
    ) -> None:
        """`open_tail` opens the drill topic at a time in milliseconds; may raise RetryLater. `on_broken` gets what
        cannot be used and came after this watch began: what came before is its predecessors'."""
        self.plan = DrillPlan()
        self._open_tail, self._clock, self._stop, self._on_broken = open_tail, clock, stop, on_broken
        self._began_ms = clock.now_ms()
        threading.Thread(target=self._run, name="drills", daemon=True).start()

    def hold_back(self) -> None:
        """Wait as long as the drills that run now say; less when the worker is stopped."""
        delay = self.plan.delay_ms(self._clock.now_ms())
        if delay:
            self._stop.wait(delay / 1000)

    def _run(self) -> None:
        tail: Tail | None = None
        while not self._stop.is_set():
            try:
                if tail is None:
                    tail = self._open_tail(self._clock.now_ms() - LOOK_BACK_MS)
                for record in tail.poll(100, 0.5):
                    self._take(record)
            except RetryLater as error:
                LOG.info("the drill topic is away, trying again: %s", error)
                self._stop.wait(2.0)
        if tail is not None:
            tail.close()

    def _take(self, record: Record) -> None:
        try:
            self.plan.apply(record, self._clock.now_ms())
        except DecodeError as error:
            LOG.warning("a drill at offset %d cannot be used: %s", record.offset, error)
            if record.timestamp_ms >= self._began_ms:
                self._on_broken(record, error)
