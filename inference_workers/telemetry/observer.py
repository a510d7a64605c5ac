"""What the worker's loop tells about itself, in one place: readiness, metrics, samples and its pace come of it. No I/O.

The loop calls `turned` after a step when that is due, `folded` once a batch and `told` when there are telemetry events;
nothing is called for a single request, so that watching costs next to nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from inference_workers.deployments.routing import RoutingTable
from inference_workers.scaling.pace import Pace
from inference_workers.telemetry.metering import WorkerMeters
from inference_workers.telemetry.served_page import BatchFacts, Served
from infra import metrics
from infra.device_stats import DeviceReading, ProcessSampler, Usage
from infra.health import HealthPolicy, Readiness
from infra.outbox import Outbox
from infra.ports import Clock
from schemas.predictions import ModelRef
from schemas.telemetry import ProcessSample

TURN_MS = 250
METER_SECONDS = 1.0
METER_EVENTS_MAX = 200
"""Telemetry events and batches are counted together, once a second or when there are so many: each costs less."""


class Observer:
    """Used by the loop's thread; `readiness` and `pace.per_second` are read by others."""

    def __init__(
        self,
        policy: HealthPolicy,
        clock: Clock,
        usage: Usage,
        *,
        device: Callable[[], DeviceReading] = DeviceReading,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """`device`: how the device is doing, see `DeviceWatch.latest`. `is_stopping`: was the worker told to stop?"""
        self._clock, self._is_stopping = clock, is_stopping
        self.readiness = Readiness(policy, clock.monotonic())
        self.pace = Pace()
        self.details: Callable[[], dict[str, Any]] = dict
        """More facts for `/health/ready`: those of the scaler, when there is one."""
        self._meters = WorkerMeters()
        self._sampler = ProcessSampler(usage, clock, device=device, publish_ms=self._publish_ms)
        self._outbox: Outbox | None = None
        self._events: list[Served] = []
        self._batches: list[BatchFacts] = []
        self.look_ms = 0
        """Before then `turned` need not be called while something waits, unless the clock was set back: a look every
        TURN_MS shows the same. But a moment without anything waiting is never missed, for it is spare time."""
        self._meter_due = 0.0
        self._waiting = self._waiting_bytes = 0
        metrics.QUEUE_DEPTH.follow(lambda: self._waiting)
        metrics.QUEUE_BYTES.follow(lambda: self._waiting_bytes)
        metrics.OWED_REQUESTS.follow(lambda: self.readiness.answers.owed)
        metrics.OWED_OLDEST_SECONDS.follow(lambda: self.readiness.answers.oldest_seconds or 0.0)
        metrics.UNDELIVERED.follow(lambda: self.readiness.deliveries.owed)

    def follow_cache(self, held_bytes: Callable[[], int], evictions: Callable[[], int]) -> None:
        """Show the cache's own counts."""
        metrics.CACHE_BYTES.follow(held_bytes)
        metrics.CACHE_EVICTIONS.follow(evictions)

    def ready_to_join(self) -> None:
        """The worker's own model is loaded, so the group may be joined."""
        self.readiness.loaded()

    def joined(self) -> None:
        """The group gave partitions, perhaps none; in `Work.assigned`."""
        self.readiness.joined(self._clock.monotonic())

    def deployed(self, table: RoutingTable) -> None:
        """Which models answer from now on."""
        self._meters.deployed(table)

    def retired(self, model: ModelRef) -> None:
        """A model was unloaded, and nothing else of its name and version is served."""
        self._count_events()
        self._meters.retired(model)

    def turned(
        self,
        *,
        waiting: int,
        waiting_bytes: int,
        computing: int,
        oldest_seconds: float | None,
        outbox: Outbox,
        held: int = 0,
    ) -> None:
        """The loop came round. `waiting` requests need the model and wait, `computing` are in its batches, prefetched
        ones included; `held` were polled and may not be looked at until Kafka has told of their partitions; the oldest
        of all was taken so long ago. Others that were polled and not looked at yet do not count, nor those that the
        cache answers."""
        now = self._clock.monotonic()
        self.look_ms = self._clock.now_ms() + TURN_MS if waiting else 0
        self._outbox, self._waiting, self._waiting_bytes = outbox, waiting, waiting_bytes
        self.readiness.turn(now)
        if self._is_stopping():
            self.readiness.stopping()
        self.readiness.owed(waiting + computing, oldest_seconds, now, held=held)
        self.readiness.published(outbox.pending, outbox.delivered, now)
        self.pace.turn(waiting, now)
        self._sampler.sample()  # also while there is nothing to tell: the gauges are looked at all the time
        many = max(len(self._events), len(self._batches)) >= METER_EVENTS_MAX
        if many or (now >= self._meter_due and (self._events or self._batches)):
            self._count_events()
            self._meter_due = now + METER_SECONDS

    def folded(self, facts: BatchFacts) -> None:
        """A batch came back and is answered; `facts.post_ms` is known. Also when all its requests failed: the model
        works then, on inputs that it cannot use."""
        self.readiness.answered(self._clock.monotonic())
        self.pace.done(0, facts.compute_ms / 1000)
        self._batches.append(facts)

    def shadow_failed(self, model: ModelRef, error: str) -> None:
        """A shadow could not compute a request, for this error's code."""
        self._meters.shadow_failed(model, error)

    def told(self, events: Sequence[Served]) -> None:
        """Telemetry events were made."""
        self._events += events

    def sample(self) -> ProcessSample | None:
        """The newest sample of process and device, for telemetry events. Mostly it only looks at the clock."""
        return self._sampler.sample()

    def close(self) -> None:
        """The loop is done: count what is left."""
        self._count_events()

    def _count_events(self) -> None:
        events, self._events = self._events, []
        batches, self._batches = self._batches, []
        self._meters.batches(batches)
        if events:
            self.pace.done(self._meters.served(events))

    def _publish_ms(self) -> float | None:
        seconds = np.array([] if self._outbox is None else self._outbox.take_delivery_seconds())
        if not len(seconds):
            return None
        self._meters.published(seconds)
        return 1000 * float(seconds.mean())
