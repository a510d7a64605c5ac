"""Faults on purpose: follows control.drills and says how many milliseconds a batch shall be held back."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from inference_workers.deployments.control import Tail, TopicWatch
from infra.ports import Clock, Record
from schemas.base import DecodeError, decode
from schemas.drills import DRILL_KINDS

LOG = logging.getLogger(__name__)
LOOK_BACK_MS = 3_600_000
"""The longest drill: one that began so long ago may still run when a worker starts."""
DRILLS_MAX = 1_000
"""Bounds the drills held at once; more are ignored, the newest first."""


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
    """Keeps a `DrillPlan` up to date from the drill topic, and holds batches back."""

    def __init__(
        self,
        open_tail: Callable[[int], Tail],
        clock: Clock,
        stop: threading.Event,
        on_broken: Callable[[Record, DecodeError], None],
    ) -> None:
        """`open_tail` opens the drill topic at a time in milliseconds; see `TopicWatch` for the rest."""
        self.plan = DrillPlan()
        self._clock, self._stop = clock, stop
        TopicWatch(
            "drills",
            lambda: open_tail(clock.now_ms() - LOOK_BACK_MS),
            lambda record: self.plan.apply(record, clock.now_ms()),
            clock,
            stop,
            on_broken,
        )

    def hold_back(self) -> None:
        """Wait as long as the drills that run now say; less when the worker is stopped."""
        delay = self.plan.delay_ms(self._clock.now_ms())
        if delay:
            self._stop.wait(delay / 1000)
