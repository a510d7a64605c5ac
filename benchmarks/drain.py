"""How fast a real worker drains a filled request topic: first to last prediction, with the warm part left out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.figures import steady_rate
from benchmarks.log_span import Answer, Offsets, answer_of, count_between, ends_of, read_span
from benchmarks.thread_times import BusiestThread, busiest_thread
from benchmarks.worker_process import ForeignLoad, ServedModel, Usage, WorkerProcesses, failed
from infra.kafka import KafkaCluster
from infra.settings import KafkaSettings
from producers.client import Producer
from schemas.topics import PREDICTIONS, REQUESTS

WARM_SHARE = 0.2
"""The first predictions pay for kernels, fetch buffers and a queue that is not full yet."""
LOOK_SECONDS = 0.25
FIRST_ANSWER_SECONDS_MAX = 180.0
SILENCE_SECONDS_MAX = 60.0
FLUSH_SECONDS = 130.0
KEYS = 997


@dataclass(frozen=True, slots=True)
class Drained:
    """A drained topic. `foreign_load` is the share of the machine that others used; None, as the processor time: it was
    over before it could be watched."""

    requests: int
    per_second: float
    cpu_us_per_request: float | None
    busiest: BusiestThread | None
    lost: int
    twice: int
    not_answered: int
    foreign_load: float | None


def fill(kafka: KafkaSettings, texts: Sequence[str]) -> None:
    """Put a request for each text on the request topic, with headers and keys as our own producers do."""
    with Producer(kafka, source="inferwatch-bench", block_seconds=FLUSH_SECONDS) as producer:
        for number, text in enumerate(texts):
            producer.send(text, key=f"user-{number % KEYS}")
        left = producer.flush(FLUSH_SECONDS)
        if left or producer.counts.failed:
            raise failed(f"{left} requests pending, {producer.counts.failed} refused while the topic was filled")


def drain(
    kafka: KafkaSettings, served: ServedModel, texts: Sequence[str], *, workers: int, say: Callable[[str], None]
) -> Drained:
    """Fill the topic, start workers, wait until every request is answered, stop them, and read the answers' times."""
    cluster = KafkaCluster(kafka)
    asked, answered = ends_of(cluster, REQUESTS.name), ends_of(cluster, PREDICTIONS.name)
    fill(kafka, texts)
    asked_end = ends_of(cluster, REQUESTS.name)
    with WorkerProcesses(kafka, served, workers) as processes:
        usages, load = _watch(cluster, processes, answered, len(texts), say)
    answers = [
        one
        for record in read_span(kafka, PREDICTIONS.name, answered, ends_of(cluster, PREDICTIONS.name))
        if (one := answer_of(record)) is not None
    ]
    return _drained(answers, count_between(asked, asked_end), usages, load)


def wait_for_answers(
    cluster: KafkaCluster,
    processes: WorkerProcesses,
    start: Offsets,
    count: int,
    look: Callable[[int], None],
) -> None:
    """Wait until `count` predictions came after `start`, calling `look(done)` on the way. Raises ClickException
    when none comes for a long time, or a worker ends."""
    heard, before = time.monotonic(), 0
    while before < count:
        time.sleep(LOOK_SECONDS)
        processes.check()
        done = count_between(start, ends_of(cluster, PREDICTIONS.name))
        look(done)
        patience = SILENCE_SECONDS_MAX if done else FIRST_ANSWER_SECONDS_MAX
        if done > before:
            heard, before = time.monotonic(), done
        elif time.monotonic() - heard > patience:
            raise failed(f"no prediction for {patience:.0f} s at {done} of {count}: {processes.last_words()}")


def _watch(
    cluster: KafkaCluster, processes: WorkerProcesses, start: Offsets, count: int, say: Callable[[str], None]
) -> tuple[list[tuple[int, Usage]], float | None]:
    usages: list[tuple[int, Usage]] = []
    loads: list[ForeignLoad] = []
    said = time.monotonic()

    def look(done: int) -> None:
        nonlocal said
        if done >= WARM_SHARE * count:
            usages.append((min(done, count), processes.usage()))
            if not loads:
                loads.append(ForeignLoad([os.getpid()]))
        if done and time.monotonic() - said > 5:
            said = time.monotonic()
            say(f"  {done} of {count} answered")

    wait_for_answers(cluster, processes, start, count, look)
    return usages, loads[0].share() if len(usages) > 1 else None


def _drained(
    answers: Sequence[Answer], asked: int, usages: Sequence[tuple[int, Usage]], foreign_load: float | None
) -> Drained:
    positions = {(one.partition, one.offset) for one in answers}
    return Drained(
        requests=asked,
        per_second=steady_rate([one.appended_ms for one in answers], WARM_SHARE),
        cpu_us_per_request=cpu_us_per_request(usages),
        busiest=_busiest(usages),
        lost=asked - len(positions),
        twice=len(answers) - len(positions),
        not_answered=sum(one.outcome != "answered" for one in answers),
        foreign_load=foreign_load,
    )


def cpu_us_per_request(usages: Sequence[tuple[int, Usage]]) -> float | None:
    """Processor microseconds a request between the first and the last look; None when nothing was done in between."""
    if len(usages) < 2 or usages[-1][0] <= usages[0][0]:
        return None
    (first_done, first), (last_done, last) = usages[0], usages[-1]
    return 1e6 * (last.cpu_seconds - first.cpu_seconds) / (last_done - first_done)


def _busiest(usages: Sequence[tuple[int, Usage]]) -> BusiestThread | None:
    if not usages:
        return None
    (first_done, first), (last_done, last) = usages[0], usages[-1]
    return busiest_thread(first.threads, last.threads, last.monotonic - first.monotonic, last_done - first_done)
