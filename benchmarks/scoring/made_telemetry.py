"""Telemetry for the scoring benchmark: from seeded facts, by the worker's own accumulator, so in its own format."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from inference_workers.answers.records import Answers
from inference_workers.ports import Place
from inference_workers.tasks.statistics import Statistics
from inference_workers.telemetry.accumulator import Line, TelemetryAccumulator
from inference_workers.telemetry.served_page import BatchFacts
from infra.outbox import Outgoing
from infra.progress import Progress, Receipt
from infra.unique_ids import RANDOM_BYTES, uuid7
from schemas.base import INT64_MAX
from schemas.predictions import ModelRef
from schemas.telemetry import DIRECTIONS, BatchReason, Outcome, WorkerRef

BATCH_REQUESTS = 32
MODELS = (ModelRef(name="all-MiniLM-L6-v2", version="1", digest="0" * 64), ModelRef(name="ranker", version="3"))
SCENARIOS = ("search", "recommend")
WORKER = WorkerRef(worker_id="bench-worker-1", host="bench", pid=1, device="cpu")
FAILED_SHARE = 0.005


@dataclass(frozen=True, slots=True)
class _Asked:
    """A `Consumed` of the accumulator."""

    receipt: Receipt
    identity: Place
    appended_ms: int
    scenario: str
    model: ModelRef
    request_id: str
    inputs: int
    input_bytes: int


class TelemetryMaker:
    """Events of one request partition, one after the other, as a worker sends them. The same seed, the same events."""

    def __init__(self, cluster_id: str, topic_id: str, partition: int, *, began_ms: int, seed: int) -> None:
        """`began_ms`: append time of the first request; the others follow a millisecond apart. Lately, for rows have an
        end: the table drops them after 30 days."""
        self._began_ms = began_ms
        self._place = (cluster_id, topic_id, partition)
        self._random = random.Random(seed * 1_000 + partition)
        self._answers = Answers(WORKER.worker_id, self._random.getrandbits)
        self.next_offset = 0

    def events(self, requests: int, requests_per_event: int) -> Iterator[Outgoing]:
        """Records for the telemetry topic that tell of the next so many requests."""
        while requests > 0:
            count = min(requests, requests_per_event)
            requests -= count
            yield self._event(count)

    def _event(self, count: int) -> Outgoing:
        accumulator = TelemetryAccumulator(WORKER, flush_ms=500)
        progress = Progress("inference.requests", self._place[2], 1)
        now_ms = self._began_ms + self.next_offset
        for first in range(0, count, BATCH_REQUESTS):
            kind = (self.next_offset // BATCH_REQUESTS) % 2
            self._batch(accumulator, progress, kind, min(BATCH_REQUESTS, count - first), now_ms)
        ((event, _),) = accumulator.take(now_ms, everything=True)
        return self._answers.telemetry(event, now_ms)

    def _batch(self, accumulator: TelemetryAccumulator, progress: Progress, kind: int, size: int, now_ms: int) -> None:
        draw = self._random
        tokens = [1 + int(draw.expovariate(0.16)) for _ in range(size)]
        batch = BatchFacts(
            model=MODELS[kind],
            size=size,
            tokens=sum(tokens),
            padded_tokens=max(tokens) * size,
            tokenise_ms=draw.uniform(0.5, 1.5),
            compute_ms=draw.lognormvariate(3.0, 0.3),
            reason=BatchReason.FULL,
            queue_depth=draw.randrange(200),
            memory_bytes=1_500_000_000 + draw.randrange(1 << 24),
            computed=size,
            post_ms=draw.uniform(0.2, 2.0),
        )
        for number in tokens:
            failed = draw.random() < FAILED_SHARE
            queue_ms = draw.expovariate(0.05)
            appended_ms = self._began_ms + self.next_offset
            asked = _Asked(
                receipt=Receipt(progress, self.next_offset),
                identity=Place(*self._place, self.next_offset),
                appended_ms=appended_ms,
                scenario=SCENARIOS[kind],
                model=MODELS[kind],
                request_id=uuid7(appended_ms, draw.randbytes(RANDOM_BYTES)),
                inputs=1,
                input_bytes=5 * number + draw.randrange(5),
            )
            self.next_offset += 1
            accumulator.add_all(
                [
                    Line(
                        asked,
                        Outcome.FAILED if failed else Outcome.ANSWERED,
                        now_ms,
                        total_ms=queue_ms + batch.compute_ms + 2.0,
                        queue_ms=queue_ms,
                        batch=batch,
                        tokens=number,
                        unknown_share=0.0 if draw.random() < 0.7 else draw.random(),
                        output_norm=0.0 if failed else draw.gauss(5.0, 0.4),
                        statistics=Statistics(draw.random(), draw.random(), draw.random()),
                        error="ValueError" if failed else "",
                        fingerprint="5f2b" if failed else "",
                        script=1 + number % 3,
                        direction=0 if failed else 1 + self.next_offset % DIRECTIONS,
                    )
                ]
            )


LEFT_OUT = frozenset({"batch", "model", "script", "direction"})


def one_by_one(event: Outgoing) -> Iterator[bytes]:
    """The same facts as a message for each request, flat JSON, as a pipeline without columns would send them; but for
    those that only histograms of windows are made of, which nobody else keeps."""
    told: dict[str, Any] = orjson.loads(event.value)
    requests, batches = told["requests"], told["batches"]
    common = {"cluster_id": told["cluster_id"], "topic_id": told["topic_id"], "partition": told["partition"]}
    for row in range(len(requests["offset"])):
        batch, model = requests["batch"][row], told["models"][requests["model"][row]]
        yield orjson.dumps(
            common
            | {name: column[row] for name, column in requests.items() if column and name not in LEFT_OUT}
            | {
                "worker_id": told["worker"]["worker_id"],
                "scenario": told["scenarios"][requests["scenario"][row]],
                "model": model["name"],
                "model_version": model["version"],
                "model_digest": model["digest"],
                "version": INT64_MAX,
                "batch_size": batches["size"][batch],
                "batch_tokens": batches["tokens"][batch],
                "batch_padded_tokens": batches["padded_tokens"][batch],
                "batch_reason": batches["reason"][batch],
                "batch_computed": batches["computed"][batch],
                **{
                    name: batches[name][batch]
                    for name in ("tokenise_ms", "compute_ms", "queue_depth", "memory_bytes", "post_ms")
                },
            }
        )
