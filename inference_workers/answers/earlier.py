"""Answers that Kafka holds of requests that come again: their worker died, or lost them, before it told of them.

For whoever reads predictions the first answer of a request counts, so telemetry must say the same of it: a request that
was answered in time must not be told as shed, because it is late when it comes again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Protocol

from infra.ports import RangeReader, Record
from schemas.base import DecodeError, decode
from schemas.predictions import PREDICTION_KINDS, InferenceFailed, RequestShed
from schemas.telemetry import Outcome
from schemas.topics import PREDICTIONS

LOG = logging.getLogger(__name__)
RECORDS_MAX = 10_000
"""Of a partition's end, so many are looked at. What is answered and not committed is what one worker holds of it (2,000
requests) and what it answered in a second, between two commits."""
READ_SECONDS_MAX = 10.0
"""Longest time for them all: the group waits for the next poll."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """The first answer of a request: what it says, and when it was appended, epoch milliseconds."""

    outcome: Outcome
    error: str
    at_ms: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request partition that begins to be worked on: its topic's id, its first record and when that was appended."""

    topic_id: str
    offset: int
    since_ms: int


EarlierAnswers = Callable[[Mapping[int, Wanted]], Mapping[int, Mapping[int, Earlier]]]
"""First answers by request partition and offset, of the requests from the wanted offset on. Blocks for some hundred
milliseconds; raises RetryLater."""


class Cluster(Protocol):
    """What is asked of Kafka; see `infra.kafka.KafkaCluster`."""

    def since(self, topic: str, times_ms: Mapping[int, int]) -> dict[int, tuple[int, int]]:
        """By partition, (offset of the first record appended then or later, next offset). Raises RetryLater."""


class KafkaEarlierAnswers:
    """An `EarlierAnswers` that reads the end of the prediction topic."""

    def __init__(self, cluster: Cluster, reader: RangeReader) -> None:
        """`reader` must give up after READ_SECONDS_MAX: no poll comes meanwhile."""
        self._cluster, self._reader = cluster, reader

    def __call__(self, wanted: Mapping[int, Wanted]) -> dict[int, dict[int, Earlier]]:
        """See `EarlierAnswers`."""
        found: dict[int, dict[int, Earlier]] = {partition: {} for partition in wanted}
        ranges = self._cluster.since(PREDICTIONS.name, {number: one.since_ms for number, one in wanted.items()})
        topic = PREDICTIONS.name
        ends = {(topic, number): (max(start, end - RECORDS_MAX), end) for number, (start, end) in ranges.items()}
        for record in chain.from_iterable(self._reader.read(ends)):
            _fold(record, wanted[record.partition], found[record.partition])
        return found


def _fold(record: Record, wanted: Wanted, found: dict[int, Earlier]) -> None:
    try:
        answer = decode(record.headers, record.value, PREDICTION_KINDS).data
    except DecodeError as error:
        LOG.warning("%s[%d]@%d is no answer: %s", record.topic, record.partition, record.offset, error)
        return
    asked = answer.request
    if asked.topic_id != wanted.topic_id or asked.partition != record.partition or asked.offset < wanted.offset:
        return
    if isinstance(answer, InferenceFailed):
        earlier = Earlier(Outcome.FAILED, answer.error, record.timestamp_ms)
    elif isinstance(answer, RequestShed):
        earlier = Earlier(Outcome.SHED, answer.reason, record.timestamp_ms)
    else:
        earlier = Earlier(Outcome.ANSWERED, "", record.timestamp_ms)
    found.setdefault(asked.offset, earlier)


def none_earlier(wanted: Mapping[int, Wanted]) -> dict[int, dict[int, Earlier]]:
    """An `EarlierAnswers` that knows of none."""
    return {}
