"""Whether a worker's memory stays flat over many requests of random length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.drain import fill, wait_for_answers
from benchmarks.figures import growth
from benchmarks.log_span import ends_of
from benchmarks.worker_process import ServedModel, WorkerProcesses
from infra.kafka import KafkaCluster
from infra.settings import KafkaSettings
from schemas.topics import PREDICTIONS

SAY_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Resident memory of one worker. `growth_bytes` has the warm part left out; None when it was over too soon."""

    requests: int
    growth_bytes: int | None
    most_bytes: int


def memory_use(
    kafka: KafkaSettings, served: ServedModel, texts: Sequence[str], say: Callable[[str], None]
) -> MemoryUse:
    """Fill the topic, let one worker drain it, look at its memory a few times a second."""
    cluster = KafkaCluster(kafka)
    start = ends_of(cluster, PREDICTIONS.name)
    fill(kafka, texts)
    samples: list[tuple[int, int]] = []
    told = 0.0
    with WorkerProcesses(kafka, served) as processes:

        def look(done: int) -> None:
            nonlocal told
            rss = processes.usage().rss_bytes
            samples.append((done, rss))
            if done >= told * len(texts):
                say(f"  {done} of {len(texts)} answered, {rss / 1e6:.0f} MB")
                told += SAY_EVERY

        wait_for_answers(cluster, processes, start, len(texts), look)
    return MemoryUse(len(texts), growth(samples, len(texts)), max(rss for _, rss in samples))
