"""What a job tells of itself beside that it lives: what it holds of what it may, how old that is, what it waits for.

For `/metrics` and for a watchdog outside, on the threads of their port: everything is read from any thread.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from infra import metrics
from infra.ports import Clock
from stream_jobs.score_job import ScoreJob

CLICKHOUSE, KAFKA = "clickhouse", "kafka"
WAIT_SECONDS = 5.0
"""A barrier that has been in one step for so long waits for the server that the step needs. Usual are tenths."""
_SERVER_OF_STEP = {1: CLICKHOUSE, 2: KAFKA, 3: KAFKA, 4: KAFKA}


class JobHealth:
    """Reads one job."""

    def __init__(self, job: ScoreJob, clock: Clock) -> None:
        self._job, self._clock = job, clock

    def waiting_for(self) -> str:
        """The server that must take what was made before more is committed; empty when there is none."""
        job = self._job
        if not job.beats:
            return ""  # it has not begun
        step, since = job.barrier.step, job.barrier.step_since
        server = _SERVER_OF_STEP.get(step, "") if self._clock.monotonic() - since > WAIT_SECONDS else ""
        if job.sink.is_full or server == CLICKHOUSE:
            # With nothing on its way to the server, it is not the server that is waited for.
            return CLICKHOUSE if job.sink.is_storing else ""
        return KAFKA if job.outbox.is_full else server

    def oldest_seconds(self) -> float | None:
        """Age of the oldest record that was taken and is not committed; 0 when all are, None before it has begun."""
        if not self._job.beats:
            return None
        oldest_ms = self._job.owned.oldest_ms()
        return 0.0 if oldest_ms is None else max(0.0, (self._clock.now_ms() - oldest_ms) / 1000.0)

    def details(self) -> dict[str, Any]:
        """For `/health/ready`."""
        return {"waiting_for": self.waiting_for(), "uncommitted_oldest_seconds": self.oldest_seconds()}

    def follow(self) -> None:
        """Let the gauges of this process read it."""
        metrics.UNCOMMITTED_OLDEST_SECONDS.follow(self.oldest_seconds)
        metrics.BEHIND_RECORDS.follow(lambda: float(self._job.behind) if self._job.beats else None)
        for server in (CLICKHOUSE, KAFKA):
            metrics.WAITING_FOR.labels(server).follow(partial(self._is_waiting_for, server))
        for queue in ("rows", "events", "event_bytes"):
            metrics.HELD.labels(queue).follow(partial(self._held, queue, 0))
            metrics.HELD_MAX.labels(queue).follow(partial(self._held, queue, 1))

    def _is_waiting_for(self, server: str) -> float:
        return float(self.waiting_for() == server)

    def _held(self, queue: str, which: int) -> float | None:
        if not self._job.beats:
            return None
        held = {"rows": self._job.sink.held, **self._job.outbox.held}
        return float(held[queue][which])
