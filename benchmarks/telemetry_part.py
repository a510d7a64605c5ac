"""Runs the accounted worker of `telemetry_cost` over a filled topic and takes a snapshot at both ends of a stretch."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.drain import WARM_SHARE, fill, wait_for_answers
from benchmarks.log_span import ends_of
from benchmarks.telemetry_cost import Snapshot, TelemetryCost, cost_between
from benchmarks.worker_process import ServedModel, WorkerProcesses, failed
from infra.kafka import KafkaCluster
from infra.settings import KafkaSettings
from schemas.topics import PREDICTIONS

COMMAND = (sys.executable, "-P", "-m", "benchmarks.telemetry_cost")
END_SHARE = 0.95
"""The last requests are left out: an idle worker looks around for work, which is no work."""


def telemetry_cost(kafka: KafkaSettings, served: ServedModel, texts: Sequence[str]) -> TelemetryCost:
    """See `telemetry_cost` for the method. Raises ClickException when the worker fails."""
    cluster = KafkaCluster(kafka)
    start = ends_of(cluster, PREDICTIONS.name)
    fill(kafka, texts)
    snapshots: list[tuple[int, Snapshot]] = []
    with WorkerProcesses(kafka, served, command=COMMAND, stdout=subprocess.PIPE) as processes:
        (process,) = processes.processes

        def look(done: int) -> None:
            due = WARM_SHARE if not snapshots else END_SHARE
            if len(snapshots) < 2 and done >= due * len(texts):
                process.send_signal(signal.SIGUSR1)
                assert process.stdout is not None
                line = process.stdout.readline()
                if not line:
                    raise failed(f"the accounted worker ended: {processes.last_words()}")
                snapshots.append((done, Snapshot(**json.loads(line))))

        wait_for_answers(cluster, processes, start, len(texts), look)
        assert process.stdout is not None
        process.stdout.close()
    if len(snapshots) < 2 or snapshots[1][0] <= snapshots[0][0]:
        raise failed(f"{len(texts)} requests were done before they could be watched: ask for more with --requests")
    (first_done, first), (last_done, last) = snapshots
    return cost_between(first, last, last_done - first_done)
