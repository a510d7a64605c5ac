"""The peers of `inferwatch bench scoring`: Faust and Quix Streams with River, an event a message, on the job's core."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from benchmarks.peers import Peer, command_of
from benchmarks.scoring.made_telemetry import TelemetryMaker, one_by_one
from benchmarks.scoring.measured_process import MeasuredProcess
from benchmarks.scoring.pipeline_part import Pipeline
from benchmarks.scoring.storing import ReadBack, Stored, follow, read_back
from benchmarks.worker_process import failed
from infra.clock import SystemClock
from infra.kafka import KafkaTopicAdmin
from infra.topic_plan import CreateTopic
from schemas.tables import REQUESTS
from schemas.topics import HOUR_MS, MIB, PARTITIONS, Topic
from stream_jobs.features import SCALES
from stream_jobs.settings import JobSettings

FAUST, QUIX = "faust_river", "quix_river"
QUIX_PEER = Peer(
    "quix-streams",
    ("quixstreams==3.28.1",),
    "scoring/peer_rows.py",
    same=("river", "clickhouse-connect", "numpy"),
    bytes_needed=500_000_000,
)
TOPIC = Topic(
    "bench.requests.told",
    "A message for each request, flat JSON.",
    (),
    "none",
    retention_ms=24 * HOUR_MS,
    retention_bytes=512 * MIB,
)
REQUESTS_PER_EVENT = 500
INSERT_ROWS = 10_000
SEED = 6

Say = Callable[[str], None]


class Peers:
    """Peers that can run here, over one topic with a message for each of `rows` requests."""

    def __init__(self, pipeline: Pipeline, rows: int, say: Say) -> None:
        self._pipeline, self._say = pipeline, say
        self._rounds = 0
        self.absent: dict[str, str] = {}
        """Why one is not measured."""
        self._commands = {FAUST: [sys.executable, str(Path(__file__).with_name("peer_rows.py"))]}
        try:
            self._commands[QUIX] = command_of(QUIX_PEER, say)
        except (click.ClickException, OSError) as error:
            text = error.format_message() if isinstance(error, click.ClickException) else str(error)
            self.absent[QUIX] = f"{QUIX_PEER.name} cannot be installed: {text[-500:]}"
            say(self.absent[QUIX])
        self.rows = self._fill(rows)

    def names(self) -> list[str]:
        """Those that are measured."""
        return list(self._commands)

    def once(self, name: str) -> Stored:
        """Score and store all of the topic, in a group and a table of its own. Raises ClickException when it fails."""
        self._rounds += 1
        table = f"bench_{name}_{self._rounds}"
        tables = self._pipeline.tables
        tables.command(f"CREATE TABLE {table} AS {REQUESTS.name}")
        job = json.dumps(self._job(name, table)).encode()
        with MeasuredProcess(self._commands[name], os.environ, self._pipeline.cores, job) as process:
            found = follow(tables, table, 0, self.rows, process.watched())
        self._check(read_back(tables, table))
        tables.command(f"DROP TABLE {table}")
        return found

    def _fill(self, rows: int) -> int:
        # A whole number of inserts: what is left over would wait for ever where there is no timer.
        pipeline, each = self._pipeline, max(1, round(rows / PARTITIONS / INSERT_ROWS)) * INSERT_ROWS
        KafkaTopicAdmin(pipeline.cluster).carry_out(CreateTopic(TOPIC, PARTITIONS, 1, TOPIC.config()))
        for partition in range(PARTITIONS):
            maker = TelemetryMaker("bench", "told", partition, began_ms=SystemClock().now_ms(), seed=SEED)
            for event in maker.events(each, REQUESTS_PER_EVENT):
                for value in one_by_one(event):
                    pipeline.publisher.publish(TOPIC.name, value, partition=partition)
        pipeline.flush()
        return each * PARTITIONS

    def _job(self, name: str, table: str) -> dict[str, Any]:
        empty = {"Float64": 0.0, "Bool": False, "UInt32": 0, "UInt64": 0}
        return {
            "with": "faust" if name == FAUST else "quix",
            "kafka": self._pipeline.kafka.bootstrap_servers,
            "clickhouse": self._pipeline.clickhouse.url,
            "topic": TOPIC.name,
            "group": table,
            "table": table,
            "columns": [
                (one.name, one.type, None if one.type.startswith("Nullable") else empty.get(one.type, ""))
                for one in REQUESTS.columns
            ],
            "scales": SCALES,
            "row_window": JobSettings.model_fields["row_window"].default,
            "insert_rows": INSERT_ROWS,
        }

    def _check(self, found: ReadBack) -> None:
        if (found.rows, found.distinct) != (self.rows, self.rows) or found.scored_above_0 < 0.99 * found.scored:
            raise failed(f"{self.rows} messages were sent, and the table has {found}")
