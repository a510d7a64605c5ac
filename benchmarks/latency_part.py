"""Latency of one worker at a share of its capacity, Poisson arrivals, and whether it stays within its promise."""

from __future__ import annotations

import statistics
import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import orjson

from benchmarks.drain import FIRST_ANSWER_SECONDS_MAX, drain
from benchmarks.load_exchange import LoadExchange
from benchmarks.log_span import ends_of, read_span
from benchmarks.step_log import StepMeasure
from benchmarks.worker_process import ServedModel, WorkerProcesses, failed
from infra.kafka import KafkaCluster
from infra.ports import Record
from infra.settings import KafkaSettings
from schemas.telemetry import InferenceServed
from schemas.topics import TELEMETRY

LOAD_SHARE = 0.5
WARM_SECONDS = 5.0
FIRST_RATE, FIRST_SECONDS = 5.0, 1.0
DRAIN_SECONDS_MAX = 60.0
COMPUTE_FACTOR = 3.0
"""p99 may be so many times the median batch's computation, plus the waiting limit."""


@dataclass(frozen=True, slots=True)
class Latency:
    """What a worker with half its load does. `bound_ms`: what p99 must not be above."""

    offered_per_second: float
    measure: StepMeasure
    median_batch_compute_ms: float
    wait_limit_ms: int
    bound_ms: float

    @property
    def share_of_bound(self) -> float:
        """p99 over what it must not be above."""
        return self.measure.p99_ms / self.bound_ms


def latency_rounds(
    kafka: KafkaSettings,
    served: ServedModel,
    texts: Sequence[str],
    *,
    repeat: int,
    seconds: float,
    wait_limit_ms: int,
    seed: int,
    say: Callable[[str], None],
) -> list[Latency]:
    """Find out what a worker can do, and its latency at half of that; again and again. What it can do is measured anew
    each time, on half of the texts: a machine that others use too is not as fast in one minute as in the next."""
    found = []
    for number in range(1, repeat + 1):
        say(f"  round {number} of {repeat}")
        capacity = drain(kafka, served, texts[: max(1, len(texts) // 2)], workers=1, say=say).per_second
        one = latency(
            kafka,
            served,
            texts,
            capacity_per_second=capacity,
            seconds=seconds,
            wait_limit_ms=wait_limit_ms,
            seed=seed + number,
            say=say,
        )
        say(f"  p99 {one.measure.p99_ms:.0f} ms, bound {one.bound_ms:.0f} ms")
        found.append(one)
    return found


def latency(
    kafka: KafkaSettings,
    served: ServedModel,
    texts: Sequence[str],
    *,
    capacity_per_second: float,
    seconds: float,
    wait_limit_ms: int,
    seed: int,
    say: Callable[[str], None],
) -> Latency:
    """Start a worker, wait for its first answers, send at half the capacity, measure after a warm-up."""
    rate = max(1.0, LOAD_SHARE * capacity_per_second)
    cluster = KafkaCluster(kafka)
    run = uuid.uuid4().hex[:12]
    requests = [{"input": text} for text in texts]
    with WorkerProcesses(kafka, served) as processes, LoadExchange(kafka, requests, run=run) as exchange:
        first = exchange.run_step("constant", FIRST_RATE, FIRST_SECONDS, 0)
        if exchange.wait_answered(first.count, FIRST_ANSWER_SECONDS_MAX).owed:
            raise failed(f"the worker did not answer: {processes.last_words()}")
        before = ends_of(cluster, TELEMETRY.name)
        say(f"  {rate:.0f} requests/s for {WARM_SECONDS + seconds:.0f} s")
        sent = exchange.run_step("poisson", rate, WARM_SECONDS + seconds, seed)
        log = exchange.wait_answered(sent.count - exchange.refused, DRAIN_SECONDS_MAX)
        processes.check()
    measure = log.measure(first_number=int(WARM_SECONDS * rate))
    events = read_span(kafka, TELEMETRY.name, before, ends_of(cluster, TELEMETRY.name))
    median = median_compute_ms(events, measure.window_ms)
    return Latency(rate, measure, median, wait_limit_ms, COMPUTE_FACTOR * median + wait_limit_ms)


def median_compute_ms(events: Iterable[Record], window_ms: tuple[int, int]) -> float:
    """The median computation of the batches told of within the window. A batch is told of once for each partition that
    it has requests of, so equal ones count once. Raises ClickException without any."""
    begin, end = window_ms
    kind = InferenceServed.event_type().encode()
    seen = set()
    for record in events:
        if begin <= record.timestamp_ms <= end and ("ce_type", kind) in record.headers:
            batches = orjson.loads(record.value or b"{}")["batches"]
            seen |= set(zip(batches["compute_ms"], batches["size"], batches["tokens"], strict=True))
    if not seen:
        raise failed("no telemetry was found for the measured time")
    return float(statistics.median(compute_ms for compute_ms, _, _ in seen))
