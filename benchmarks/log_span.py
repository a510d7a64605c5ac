"""A stretch of a topic, from offsets to offsets, and the answers in it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain

import orjson

from infra.clock import SystemClock
from infra.kafka import KafkaCluster, KafkaRangeReader
from infra.ports import Record
from infra.settings import KafkaSettings
from schemas.predictions import InferenceAnswered, InferenceFailed, RequestShed

OUTCOMES = {
    InferenceAnswered.event_type().encode(): "answered",
    InferenceFailed.event_type().encode(): "failed",
    RequestShed.event_type().encode(): "shed",
}

Offsets = dict[int, int]
"""Partition to offset."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer and the position of the request that it answers. `outcome`: answered, failed or shed."""

    partition: int
    offset: int
    appended_ms: int
    outcome: str


def ends_of(cluster: KafkaCluster, topic: str) -> Offsets:
    """The next offset of every partition. Raises RetryLater."""
    return {partition: after for partition, (_, after) in cluster.ranges(topic).items()}


def count_between(first: Mapping[int, int], after: Mapping[int, int]) -> int:
    """How many offsets lie between two snapshots of a topic."""
    return sum(after[partition] - first.get(partition, 0) for partition in after)


def read_span(kafka: KafkaSettings, topic: str, first: Mapping[int, int], after: Mapping[int, int]) -> Iterator[Record]:
    """Every record from `first` up to and without `after`. Raises RetryLater when the broker falls silent."""
    ranges = {(topic, partition): (begin, after.get(partition, 0)) for partition, begin in first.items()}
    reader = KafkaRangeReader(kafka, SystemClock(), client_id="inferwatch-bench")
    return chain.from_iterable(reader.read(ranges))


def answer_of(record: Record) -> Answer | None:
    """The answer in a record of the prediction topic; None for what is none. Cheap: the vectors are not checked."""
    kinds = [value for name, value in record.headers if name == "ce_type"]
    outcome = OUTCOMES.get(kinds[0] or b"") if kinds else None
    if outcome is None:
        return None
    request = orjson.loads(record.value or b"{}")["request"]
    return Answer(request["partition"], request["offset"], record.timestamp_ms, outcome)
