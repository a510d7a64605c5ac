"""The parts of `inferwatch bench worker`, in order, each giving its figures."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.embedding_job import BATCHES, SAMPLE, EmbeddingJob
from benchmarks.hot_swap_part import hot_swap
from benchmarks.latency_part import latency_rounds
from benchmarks.memory_part import memory_use
from benchmarks.our_engine import model_path, wait_limit_ms
from benchmarks.queries import Queries, texts_of_random_length
from benchmarks.random_encoder import write_random_encoder
from benchmarks.telemetry_part import telemetry_cost
from benchmarks.throughput_part import bare_once, peer_commands, run_rounds
from benchmarks.worker_figures import (
    Figures,
    hot_swap_figures,
    latency_figures,
    memory_figures,
    telemetry_figures,
    throughput_figures,
)
from benchmarks.worker_process import ServedModel
from inference_workers.spec import WorkerSettings
from infra.settings import KafkaSettings, load

DRAIN_SECONDS = 15.0
"""A drain should take so long: shorter ones are mostly noise."""
REQUESTS_LEAST, REQUESTS_MOST = 2_000, 300_000
PROBE_REQUESTS = 200
TELEMETRY_REQUESTS_MAX = 10_000
SEED = 1


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """What is asked for. `requests` of one drain: None for about 15 seconds of work."""

    parts: frozenset[str]
    model: str
    dtype: str
    threads: int
    workers: int
    requests: int | None
    repeat: int
    latency_seconds: float
    memory_requests: int


class WorkerBench:
    """One run on one Kafka."""

    def __init__(
        self, plan: BenchPlan, served: ServedModel, job: EmbeddingJob, queries: Queries, say: Callable[[str], None]
    ) -> None:
        self._plan, self._served, self._job, self._queries, self._say = plan, served, job, queries, say

    def all_parts(self, kafka: KafkaSettings) -> Figures:
        """Figures of every part that is asked for."""
        parts = self._plan.parts
        figures: Figures = {"model": self._served.name, "texts": self._queries.source}
        if "throughput" in parts:
            figures |= self._throughput(kafka)
        if "telemetry" in parts:
            self._say("what telemetry costs")
            texts = self._job.texts[:TELEMETRY_REQUESTS_MAX]
            costs = [telemetry_cost(kafka, self._served, texts) for _ in range(self._plan.repeat)]
            figures |= telemetry_figures(costs)
        if "latency" in parts:
            figures |= self._latency(kafka)
        if "memory" in parts:
            figures |= self._memory(kafka)
        if "swap" in parts:
            figures |= self._hot_swap(kafka, figures["kafka_to_kafka_per_second"] / self._plan.workers)
        return figures | {"settings": self._settings()}

    def _throughput(self, kafka: KafkaSettings) -> Figures:
        commands, absent = peer_commands(self._say) if "peers" in self._plan.parts else ({}, {})
        rounds = run_rounds(
            kafka,
            self._served,
            self._job,
            commands,
            workers=self._plan.workers,
            repeat=self._plan.repeat,
            say=self._say,
        )
        rounds.absent |= absent
        return throughput_figures(rounds)

    def _latency(self, kafka: KafkaSettings) -> Figures:
        self._say("latency at half load")
        found = latency_rounds(
            kafka,
            self._served,
            self._job.texts,
            repeat=self._plan.repeat,
            seconds=self._plan.latency_seconds,
            wait_limit_ms=wait_limit_ms(),
            seed=SEED,
            say=self._say,
        )
        return latency_figures(found)

    def _hot_swap(self, kafka: KafkaSettings, capacity_per_second: float) -> Figures:
        self._say("models swapped under load")
        found = hot_swap(
            kafka,
            self._served,
            self._job.texts,
            capacity_per_second=capacity_per_second,
            seconds=self._plan.latency_seconds,
            seed=SEED,
            say=self._say,
        )
        return hot_swap_figures(found)

    def _memory(self, kafka: KafkaSettings) -> Figures:
        count = self._plan.memory_requests
        self._say(f"memory over {count} requests of random length")
        words = [word for text in self._queries.texts for word in text.split()]
        return memory_figures(memory_use(kafka, self._served, texts_of_random_length(words, count, SEED), self._say))

    def _settings(self) -> dict[str, Any]:
        return {
            "device": self._job.device,
            "dtype": self._job.dtype,
            "threads": self._job.threads,
            "workers": self._plan.workers,
            "requests": len(self._job.texts),
            "repeat": self._plan.repeat,
            "seed": SEED,
        }


@contextmanager
def prepared(plan: BenchPlan, queries: Queries, say: Callable[[str], None]) -> Iterator[WorkerBench]:
    """A run ready to start: the model made where it has to be, and sized by what the bare loop does here in a moment,
    which also says what device and number type a worker gets."""
    settings = load(WorkerSettings)
    with tempfile.TemporaryDirectory(prefix="inferwatch-bench-model-") as scratch:
        name, path = settings.model_name, model_path(settings.model)
        if plan.model == "base110m":
            folder = Path(scratch, "model")
            say(f"writing {write_random_encoder(Path(path), folder) / 1e6:.0f} million random weights")
            name, path = "random-bert-base", str(folder)
        few = queries.choose(PROBE_REQUESTS, SEED)
        probe = bare_once(EmbeddingJob(path, "auto", plan.dtype, plan.threads, BATCHES["cpu"], few, few))
        device, dtype = str(probe.facts["device"]), str(probe.facts["dtype"])
        count = plan.requests or requests_for(probe.per_second * plan.workers)
        say(f"{name} on {probe.facts['description']}: {count} requests a drain")
        texts, sample = queries.choose(count, SEED + 1), queries.choose(min(count, SAMPLE), SEED)
        job = EmbeddingJob(path, device, dtype, plan.threads, BATCHES[device], sample, texts)
        yield WorkerBench(plan, ServedModel(path, name, dtype, plan.threads), job, queries, say)


def requests_for(per_second: float) -> int:
    """How many requests a drain needs at that rate, within bounds."""
    return max(REQUESTS_LEAST, min(REQUESTS_MOST, round(per_second * DRAIN_SECONDS)))


def with_what_they_need(parts: frozenset[str]) -> frozenset[str]:
    """The parts, and the throughput where one builds on it: peers are compared with it, half load is half of it."""
    return parts | {"throughput"} if parts & {"peers", "swap"} else parts
