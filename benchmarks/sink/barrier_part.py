"""What the barrier costs the job at its default interval with many live series, in the job's processor time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.embedded_clickhouse import own_clickhouse
from benchmarks.embedded_kafka import own_kafka
from benchmarks.sink.live_feed import LiveFeed
from benchmarks.sink.running_job import running_job
from benchmarks.worker_process import failed
from infra.clickhouse import ClickHouse
from infra.kafka import KafkaCluster, KafkaPublisher
from infra.metrics import BARRIER_CPU_SECONDS, BARRIER_SECONDS
from infra.settings import ClickHouseSettings, KafkaSettings
from schemas.tables import WINDOWS

NEVER_SECONDS = 600
"""The longest interval that can be set: no barrier falls into a measurement."""
WARM_WINDOWS = 2
START_SECONDS_MAX = 180.0

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class JobCost:
    """What a job used while it was measured."""

    seconds: float
    cpu_seconds: float
    barrier_cpu_seconds: float
    """Of that, what the barriers counted as their own: pages made, framed and handed over."""
    barriers: int
    rss_bytes: int

    @property
    def share(self) -> float:
        """The barriers' part of the job's processor time."""
        return self.barrier_cpu_seconds / self.cpu_seconds


@dataclass(frozen=True, slots=True)
class BarrierRounds:
    """By round: with barriers at the default interval, and with none."""

    usual: list[JobCost]
    never: list[JobCost]


def measure(series: int, rate: float, seconds: float, repeat: int, say: Say) -> BarrierRounds:
    """Each round runs both jobs, one after the other, on the same servers, under the same traffic."""
    found = BarrierRounds([], [])
    with own_kafka(say) as kafka, own_clickhouse() as clickhouse:
        for number in range(1, repeat + 1):
            sides = [
                (found.usual, None),
                (found.never, {"INFERWATCH_JOBS_BARRIER_INTERVAL_SECONDS": str(NEVER_SECONDS)}),
            ]
            for costs, more in sides if number % 2 else reversed(sides):
                costs.append(_once(kafka, clickhouse, series, rate, seconds, more))
            say(
                f"round {number} of {repeat}: {found.usual[-1].share:.1%} of the job's processor time in "
                f"{found.usual[-1].barriers} barriers; {found.usual[-1].cpu_seconds:.1f} s with, "
                f"{found.never[-1].cpu_seconds:.1f} s without"
            )
    return found


def _once(
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    series: int,
    rate: float,
    seconds: float,
    more: dict[str, str] | None,
) -> JobCost:
    cluster, publisher = KafkaCluster(kafka), KafkaPublisher(kafka, client_id="inferwatch-bench")
    tables = ClickHouse(clickhouse)
    try:
        with (
            running_job(kafka, clickhouse, more) as job,
            LiveFeed(cluster, publisher, rate=rate, series=series),
        ):
            before = _windows(tables)
            deadline = time.monotonic() + START_SECONDS_MAX
            while _windows(tables) < before + WARM_WINDOWS * series:
                if time.monotonic() > deadline:
                    raise failed(f"not within {START_SECONDS_MAX:.0f} s: {WARM_WINDOWS} windows of {series} series")
                time.sleep(1.0)
                job.cpu_seconds()  # says so when it has ended
            name, count = BARRIER_CPU_SECONDS.description.name, BARRIER_SECONDS.description.name + "_count"
            first = (time.monotonic(), job.cpu_seconds(), job.metric(name), job.metric(count))
            time.sleep(seconds)
            last = (time.monotonic(), job.cpu_seconds(), job.metric(name), job.metric(count))
            spent = [after - start for start, after in zip(first, last, strict=True)]
            return JobCost(spent[0], spent[1], spent[2], round(spent[3]), job.rss_bytes())
    finally:
        publisher.close()
        tables.close()


def _windows(tables: ClickHouse) -> int:
    _, ((rows,),) = tables.query(f"SELECT count() FROM {WINDOWS.view}")
    return int(rows)
