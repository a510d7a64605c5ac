"""Live telemetry for benchmarks: so many requests a second over so many series, published by a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

import orjson

from infra.clock import SystemClock
from infra.kafka import KafkaCluster, KafkaPublisher
from schemas.base import headers_for
from schemas.telemetry import InferenceServed
from schemas.topics import PARTITIONS, REQUESTS, TELEMETRY

REQUESTS_PER_EVENT = 500
NAMES_MAX = 100
"""Models, and scenarios: series are pairs of them."""
TICK_SECONDS = 0.05


def series_of(partition: int, count: int) -> list[tuple[int, int]]:
    """Which (model, scenario) pairs a partition has: each series is on one partition, as requests of one key are."""
    if count > NAMES_MAX**2:
        raise ValueError(f"{count} series, at most {NAMES_MAX**2} can be made")
    return [divmod(number, NAMES_MAX) for number in range(count) if number % PARTITIONS == partition]


@dataclass
class PartitionFeed:
    """Events of one partition, one after the other."""

    cluster_id: str
    topic_id: str
    partition: int
    series: Sequence[tuple[int, int]]
    next_offset: int = 0
    _turn: int = 0
    _head: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        self._head = {
            "cluster_id": self.cluster_id,
            "topic_id": self.topic_id,
            "partition": self.partition,
            "worker": {"worker_id": "bench-worker-1", "host": "bench", "pid": 1, "device": "cpu"},
            "models": [{"name": f"model-{number}", "version": "1", "digest": ""} for number in range(NAMES_MAX)],
            "scenarios": [f"scenario-{number}" for number in range(NAMES_MAX)],
        }

    def event(self, count: int, now_ms: int) -> bytes:
        """The next event: `count` requests, the series by turns, answered in one batch a model would be in."""
        first, n = self.next_offset, count
        chosen = [self.series[(self._turn + i) % len(self.series)] for i in range(n)]
        self._turn, self.next_offset = (self._turn + n) % len(self.series), first + n
        total = [20.0 + (first + i) % 17 for i in range(n)]
        value = self._head | {
            "batches": {
                "model": [0], "size": [n], "tokens": [6 * n], "padded_tokens": [8 * n], "tokenise_ms": [1.0],
                "compute_ms": [12.0], "reason": ["full"], "queue_depth": [n], "memory_bytes": [10**9],
            },
            "requests": {
                "offset": list(range(first, first + n)), "appended_ms": [now_ms] * n, "outcome": ["answered"] * n,
                "scenario": [scenario for _, scenario in chosen], "batch": [0] * n,
                "request_id": [f"live-{self.partition}-{first + i}" for i in range(n)], "queue_ms": [5.0] * n,
                "total_ms": total, "inputs": [1] * n, "input_bytes": [30] * n, "tokens": [6] * n,
                "unknown_share": [0.01] * n, "output_norm": [5.0] * n, "truncated": [False] * n, "error": [""] * n,
                "model": [model for model, _ in chosen],
            },
        }  # fmt: skip
        return orjson.dumps(value)


class LiveFeed:
    """A context manager: publishes from entry to `stop` or exit."""

    def __init__(self, cluster: KafkaCluster, publisher: KafkaPublisher, *, rate: float, series: int) -> None:
        """`rate`: requests a second in all; `series`: how many are live."""
        name = (cluster.cluster_id, cluster.topic_id(REQUESTS.name))
        ends = {number: after for number, (_, after) in cluster.ranges(REQUESTS.name).items()}
        self._feeds = [
            PartitionFeed(*name, number, series_of(number, series), next_offset=ends[number])
            for number in range(min(PARTITIONS, series))
        ]
        self._publisher, self._rate = publisher, rate
        self._headers = headers_for(
            InferenceServed, event_id="live", source="bench", time=datetime.fromtimestamp(0, UTC)
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live-feed", daemon=True)
        self.told = 0
        """Requests published so far."""
        self.error: Exception | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Publish no more; what was published is delivered. Raises what went wrong meanwhile."""
        self._stopping.set()
        self._thread.join()
        self._publisher.flush(60.0)
        if self.error is not None:
            raise self.error

    def _run(self) -> None:
        began, turn = time.monotonic(), 0
        try:
            while not self._stopping.wait(TICK_SECONDS):
                due = self._rate * (time.monotonic() - began)
                while self.told + REQUESTS_PER_EVENT <= due and not self._stopping.is_set():
                    self._publish(self._feeds[turn % len(self._feeds)])
                    turn += 1
        except Exception as error:
            self.error = error

    def _publish(self, feed: PartitionFeed) -> None:
        for _ in range(REQUESTS_PER_EVENT):
            self._publisher.publish(REQUESTS.name, b"{}", partition=feed.partition)
        value = feed.event(REQUESTS_PER_EVENT, SystemClock().now_ms())
        self._publisher.publish(TELEMETRY.name, value, partition=feed.partition, headers=self._headers)
        self.told += REQUESTS_PER_EVENT
