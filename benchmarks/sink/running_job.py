"""The real score job under a live feed: its memory, its processor time, its own metrics."""

from __future__ import annotations

import os
import re
import socket
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import psutil

from benchmarks.scoring.measured_process import MeasuredProcess
from benchmarks.scoring.pipeline_part import JOB
from benchmarks.scoring.storing import Watched
from infra.settings import ClickHouseSettings, KafkaSettings

GROUP = "stream-jobs-score"


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job that runs."""

    process: Watched
    memory: psutil.Process
    metrics_port: int

    def rss_bytes(self) -> int:
        """Resident memory."""
        return int(self.memory.memory_info().rss)

    def cpu_seconds(self) -> float:
        """Of all its threads. Raises ClickException when it has ended."""
        return self.process.cpu_seconds()

    def metric(self, name: str) -> float:
        """The sum of a metric over its labels; 0 where there is none yet."""
        url = f"http://127.0.0.1:{self.metrics_port}/metrics"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(url, timeout=10) as answer:
            return metric_of(answer.read().decode(), name)


def metric_of(text: str, name: str) -> float:
    """The sum of a metric's samples in the Prometheus text format."""
    found = re.findall(rf"^{re.escape(name)}(?:\{{[^}}]*\}})? (\S+)$", text, re.MULTILINE)
    return sum(float(one) for one in found)


@contextmanager
def running_job(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, more: Mapping[str, str] | None = None
) -> Iterator[RunningJob]:
    """Started on entry, stopped in order on exit. `more`: settings of the job, by variable."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("INFERWATCH_JOBS_")},
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers or "",
        "INFERWATCH_KAFKA_SESSION_TIMEOUT_MS": str(kafka.session_timeout_ms),
        "INFERWATCH_CLICKHOUSE_URL": clickhouse.url or "",
        **(more or {}),
    }
    with MeasuredProcess((*JOB, "--metrics-port", str(port)), environment, None) as process:
        yield RunningJob(process.watched(), psutil.Process(process.pid), port)
