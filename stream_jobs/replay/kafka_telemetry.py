"""The telemetry of a window from Kafka, and what the tables know beside it. The shell of `from_telemetry`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np

from infra.kafka import KafkaCluster, KafkaRangeReader
from infra.ports import Clock, Record
from infra.settings import KafkaSettings
from schemas.anomalies import InputRange
from schemas.topics import TELEMETRY
from stream_jobs.replay.from_telemetry import KnownRequests, Source, window_again
from stream_jobs.replay.recompute import AnomalyRow, NotReproducible
from stream_jobs.replay.stored import Tables, window_row
from stream_jobs.settings import JobSettings
from stream_jobs.window_rows import SeriesWindow, WindowId

CLIENT_ID = "inferwatch-replay"
SCORES = """
SELECT cluster_id, topic_id, `offset`, score, learning FROM requests WHERE `partition` = {partition:UInt32}
    AND served_at >= fromUnixTimestamp64Milli({start:Int64}, 'UTC')
    AND served_at < fromUnixTimestamp64Milli({end:Int64}, 'UTC')
"""
BEFORE = """
SELECT `offset` FROM requests WHERE cluster_id = {cluster:String} AND topic_id = {topic:String}
    AND `partition` = {partition:UInt32} AND `offset` >= {first:UInt64} AND `offset` <= {last:UInt64}
    AND served_at < fromUnixTimestamp64Milli({start:Int64}, 'UTC')
"""
REPEATS_REACH = 100_000
"""Offsets below the lowest that the window answered first, in which one told again is looked for: what a worker that
ended had in work is told again by the next within seconds."""


class KafkaTelemetry:
    """See `from_telemetry.Telemetry` and `report.Windows`."""

    def __init__(self, kafka: KafkaSettings, tables: Tables, settings: JobSettings, clock: Clock) -> None:
        self._tables, self._settings = tables, settings
        self._cluster = KafkaCluster(kafka, client_id=CLIENT_ID)
        self._reader = KafkaRangeReader(kafka, clock, client_id=CLIENT_ID)
        self._ranges: dict[int, tuple[int, int]] | None = None
        self._topic_id = ""
        self._records: dict[int, list[Record]] = {}

    def again(self, stored: AnomalyRow) -> SeriesWindow | None:
        """See `report.Windows.again`. Raises RetryLater, too."""
        self._check_topic(stored.window.topic_id)
        self._records = self._read(stored.inputs)
        length_ms = stored.window.end_ms - stored.window.start_ms
        settings = self._settings.model_copy(update={"window_seconds": length_ms / 1000})
        return window_again(stored.window, stored.key, stored.inputs, self, settings)

    def row(self, stored: AnomalyRow) -> Mapping[str, Any] | None:
        """See `report.Windows.row`."""
        labels = {name: stored.row[name] for name in ("scenario", "model", "model_version")}
        return window_row(self._tables, stored.window, labels)

    def records(self, partition: int, first_offset: int, next_offset: int) -> Sequence[Record]:
        """See `from_telemetry.Telemetry.records`: those that `again` has read."""
        return self._records[partition]

    def known(self, partition: int, window: WindowId) -> KnownRequests:
        """See `from_telemetry.Telemetry.known`. Raises RetryLater, ValueError."""
        asked = {"partition": partition, "start": window.start_ms, "end": window.end_ms}
        scores: dict[Source, dict[int, tuple[float, bool]]] = defaultdict(dict)
        for cluster_id, topic_id, offset, score, learning in self._tables.query(SCORES, asked)[1]:
            scores[cluster_id, topic_id][int(offset)] = (float(score), bool(learning))
        before = {}
        for (cluster_id, topic_id), found in scores.items():
            reach = {"first": max(0, min(found) - REPEATS_REACH), "last": max(found)}
            where = {**asked, **reach, "cluster": cluster_id, "topic": topic_id}
            offsets = [int(one) for (one,) in self._tables.query(BEFORE, where)[1]]
            before[cluster_id, topic_id] = np.array(sorted(offsets), dtype=np.int64)
        return KnownRequests(scores, before)

    def _read(self, inputs: Sequence[InputRange]) -> dict[int, list[Record]]:
        """All ranges at once, each through the record after it. Raises NotReproducible, RetryLater."""
        for one in inputs:
            self._check_kept(one)
        found: dict[int, list[Record]] = {one.partition: [] for one in inputs}
        ranges = {(TELEMETRY.name, one.partition): (one.first_offset, one.next_offset + 1) for one in inputs}
        for record in chain.from_iterable(self._reader.read(ranges)):
            found[record.partition].append(record)
        return found

    def _check_kept(self, one: InputRange) -> None:
        first, after = self._kept().get(one.partition, (0, 0))
        where = f"offsets {one.first_offset} to {one.next_offset} of {TELEMETRY.name}[{one.partition}]"
        if first > one.first_offset:
            raise NotReproducible(f"{where} have expired: the log begins at {first}")
        if after <= one.next_offset:
            raise NotReproducible(f"{where} are not all there: the log ends at {after}")

    def _check_topic(self, topic_id: str) -> None:
        self._topic_id = self._topic_id or self._cluster.topic_id(TELEMETRY.name)
        if self._topic_id != topic_id:
            raise NotReproducible(
                f"{TELEMETRY.name} was made anew: the telemetry was of topic {topic_id}, there is {self._topic_id}"
            )

    def _kept(self) -> dict[int, tuple[int, int]]:
        if self._ranges is None:
            self._ranges = self._cluster.ranges(TELEMETRY.name)
        return self._ranges
