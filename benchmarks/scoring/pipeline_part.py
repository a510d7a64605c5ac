"""The pipeline's part of `inferwatch bench scoring`: a filled telemetry topic, and the real job on one core."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.embedded_clickhouse import own_clickhouse
from benchmarks.embedded_kafka import own_kafka
from benchmarks.scoring.made_telemetry import TelemetryMaker
from benchmarks.scoring.measured_process import MeasuredProcess
from benchmarks.scoring.pinning import Cores, on
from benchmarks.scoring.storing import ReadBack, Stored, count_rows, follow, read_back
from benchmarks.worker_process import failed
from infra.clickhouse import ClickHouse
from infra.clock import SystemClock
from infra.kafka import KafkaCluster, KafkaPublisher
from infra.settings import ClickHouseSettings, KafkaSettings
from schemas.tables import REQUESTS as REQUESTS_TABLE
from schemas.topics import PARTITIONS, REQUESTS

JOB = (sys.executable, "-P", "-m", "infra.cli", "jobs", "score")
FLUSH_SECONDS = 120.0
SEED = 5
BEGAN_BEFORE_MS = 3_600_000
"""An hour of requests, one each millisecond and partition, lies behind when they are told."""

Say = Callable[[str], None]


@dataclass
class Pipeline:
    """Servers of the benchmark's own, and what was put on their topics so far."""

    kafka: KafkaSettings
    clickhouse: ClickHouseSettings
    cores: Cores | None
    tables: ClickHouse
    publisher: KafkaPublisher
    cluster: KafkaCluster
    makers: list[TelemetryMaker] = field(default_factory=list)

    def job_environment(self) -> dict[str, str]:
        """For the job: the caller's environment, with these servers."""
        return {
            **os.environ,
            "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers or "",
            "INFERWATCH_KAFKA_SESSION_TIMEOUT_MS": str(self.kafka.session_timeout_ms),
            "INFERWATCH_CLICKHOUSE_URL": self.clickhouse.url or "",
        }

    def fill(self, rows: int, requests_per_event: int) -> int:
        """Put telemetry of about so many requests on its topic, and as many requests on theirs, for telemetry of
        requests that do not exist is refused. Returns how many."""
        each = max(1, round(rows / PARTITIONS))
        for partition, maker in enumerate(self.makers):
            for event in maker.events(each, requests_per_event):
                self.publisher.publish(event.topic, event.value, partition=event.partition, headers=event.headers)
            for _ in range(each):
                self.publisher.publish(REQUESTS.name, b"{}", partition=partition)
        self.flush()
        return each * PARTITIONS

    def flush(self) -> None:
        """Wait until all of it is on its topic."""
        if left := self.publisher.flush(FLUSH_SECONDS):
            raise failed(f"{left} records still on their way to Kafka after {FLUSH_SECONDS:.0f} s")

    def score_once(self, rows: int, requests_per_event: int) -> Stored:
        """Fill the topic, then let the job store it all."""
        before = count_rows(self.tables, REQUESTS_TABLE.name)
        filled = self.fill(rows, requests_per_event)
        with MeasuredProcess(JOB, self.job_environment(), self.cores) as job:
            return follow(self.tables, REQUESTS_TABLE.name, before, filled, job.watched())

    def check(self) -> ReadBack:
        """Read all rows back. Raises ClickException when one is missing, twice there or not scored."""
        asked = sum(maker.next_offset for maker in self.makers)
        found = read_back(self.tables, REQUESTS_TABLE.view)
        learning = found.rows - found.scored
        if (found.rows, found.distinct) != (asked, asked) or found.scored_above_0 < 0.99 * found.scored or not learning:
            raise failed(f"{asked} requests were told, and the table has {found}")
        return found


@contextmanager
def pipeline(cores: Cores | None, say: Say) -> Iterator[Pipeline]:
    """Servers off the job's core, topics and tables made, everything deleted on exit."""
    with (
        on(None if cores is None else cores.others),
        own_kafka(say) as kafka,
        own_clickhouse() as clickhouse,
    ):
        tables, publisher = ClickHouse(clickhouse), KafkaPublisher(kafka, client_id="inferwatch-bench")
        cluster = KafkaCluster(kafka)
        name = (cluster.cluster_id, cluster.topic_id(REQUESTS.name))
        began_ms = SystemClock().now_ms() - BEGAN_BEFORE_MS
        makers = [TelemetryMaker(*name, one, began_ms=began_ms, seed=SEED) for one in range(PARTITIONS)]
        try:
            yield Pipeline(kafka, clickhouse, cores, tables, publisher, cluster, makers)
        finally:
            publisher.close()
            tables.close()
            cluster.close()
