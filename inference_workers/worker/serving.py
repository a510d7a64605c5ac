"""Puts a worker together from its parts: nothing is decided here, and nothing runs until `loop.run()`."""

from __future__ import annotations

import os
import random
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from inference_workers.admission.admit import Admission
from inference_workers.admission.image_reading import ImageReading
from inference_workers.admission.lanes import Lanes
from inference_workers.answers.earlier import EarlierAnswers, none_earlier
from inference_workers.answers.newcomers import IdentityOf, Newcomers
from inference_workers.answers.outcomes import Outcomes
from inference_workers.answers.records import Answers
from inference_workers.batching.cache import ResultCache
from inference_workers.batching.compute import Compute
from inference_workers.deployments.routing import RoutingTable
from inference_workers.images.pool import ImagePool
from inference_workers.spec import WorkerSettings
from inference_workers.telemetry.accumulator import TelemetryAccumulator
from inference_workers.telemetry.observer import Observer
from inference_workers.worker.loop import DELIVERIES_PER_RECORD, InferenceWork, Models, WorkLimit
from infra.batch_loop import BatchLoop, LoopLimit, OpenLog, Work
from infra.dead_letters import DeadLetters
from infra.metrics import HELD, HELD_MAX, UNCOMMITTED_OLDEST_SECONDS
from infra.outbox import Outbox
from infra.ports import Clock, Publisher
from infra.traces import RandomBits
from schemas.telemetry import WorkerRef


@dataclass(frozen=True, slots=True)
class Outside:
    """What a worker needs of the world."""

    clock: Clock
    publisher: Publisher
    dead_letters: DeadLetters
    identity_of: IdentityOf
    earlier: EarlierAnswers = none_earlier
    random_bits: RandomBits = random.Random().getrandbits


def new_work(
    settings: WorkerSettings,
    table: RoutingTable,
    compute: Compute,
    outside: Outside,
    models: Models | None = None,
    observer: Observer | None = None,
) -> InferenceWork:
    """What is done with records."""
    worker_id = settings.name_of_worker()
    ref = WorkerRef(
        worker_id=worker_id, host=socket.gethostname()[:200], pid=os.getpid(), device=table.own.servable.device
    )
    outcomes = Outcomes(
        Answers(worker_id, outside.random_bits),
        TelemetryAccumulator(ref, settings.telemetry_flush_ms),
        outside.dead_letters,
        outside.clock,
    )
    cache = ResultCache(settings.cache_bytes_max)
    if observer is not None:
        observer.deployed(table)
        observer.follow_cache(lambda: cache.bytes_held, lambda: cache.evictions)
        outcomes.on_shadow_failure = observer.shadow_failed
    work = InferenceWork(
        Admission(
            table,
            outside.clock,
            ImageReading(
                ImagePool(
                    outside.clock,
                    threads=settings.image_threads,
                    timeout_seconds=settings.image_timeout_ms / 1000,
                )
            ),
            head_starts_ms=settings.head_starts_ms,
            on_shadow_refused=outcomes.shadow_refused,
            request_tokens_max=settings.request_tokens_max,
        ),
        Lanes(settings.batch_limit),
        compute,
        cache,
        outcomes,
        Newcomers(outside.identity_of, outside.clock, outside.earlier),
        outside.clock,
        WorkLimit(settings.queue_requests_max, settings.queue_bytes_max),
        models=models,
        observer=observer,
    )
    _show("requests", work.waiting, settings.queue_requests_max)
    _show("request_bytes", work.held_bytes, settings.queue_bytes_max)
    return work


def new_loop(
    settings: WorkerSettings,
    open_log: OpenLog,
    work: Work,
    outside: Outside,
    stop: threading.Event,
    *,
    wait: Callable[[float], object],
) -> BatchLoop:
    """The consume loop, not yet a member of the group. `wait`: see `ComputeThread.wait`."""
    outbox = Outbox(outside.publisher, outside.clock)
    _show("answers", lambda: outbox.pending, outbox.pending_max)
    _show("answer_bytes", lambda: outbox.pending_bytes, outbox.bytes_max)
    loop = BatchLoop(
        open_log,
        outbox,
        work,
        outside.clock,
        LoopLimit(deliveries_per_record=DELIVERIES_PER_RECORD, held_records_max=settings.queue_requests_max),
        stop=stop,
        wait=wait,
    )
    UNCOMMITTED_OLDEST_SECONDS.follow(loop.oldest_seconds)
    return loop


def _show(queue: str, held: Callable[[], int], most: int) -> None:
    """Let the gauges read a bounded queue, on the thread of their port."""
    HELD.labels(queue).follow(lambda: float(held()))
    HELD_MAX.labels(queue).set(float(most))
