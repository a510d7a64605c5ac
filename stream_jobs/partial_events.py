"""Closed windows of stage 1 as messages: who gets which series, in pieces that fit, under names that repeat."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from schemas.base import encode, headers_for
from schemas.topics import WINDOWS
from schemas.windows import SERIES_PER_EVENT_MAX, PartialSeries, PartialWindowsClosed, SeriesKey
from stream_jobs.stage import Outgoing

SOURCE = "inferwatch/jobs/score"
"""`ce_source` of everything that the score job publishes."""
CHUNK_BYTES_MAX = 786_432
"""A message stays well below the topic's largest."""


@dataclass(frozen=True, slots=True)
class ClosedWindow:
    """A window that one telemetry partition has closed; the offsets are the telemetry's."""

    topic_id: str
    partition: int
    start_ms: int
    end_ms: int
    closed_through_ms: int
    first_offset: int
    next_offset: int


def target_of(key: SeriesKey, partitions: int) -> int:
    """The partition of the windows topic that owns a series, and all versions of its model in its scenario: what one
    has no more may be found at another. The same in every process; changed once, see decision 0018."""
    owner = f"{key.scenario}/{key.model}" if key.model else f"{key.scenario}//"  # without a model as ever
    return zlib.crc32(owner.encode()) % partitions


def moment(ms: int) -> datetime:
    """Epoch milliseconds as a time in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def partial_events(window: ClosedWindow, series: Sequence[PartialSeries], partitions: int) -> list[Outgoing]:
    """One message or more for every partition, also where it has no series: it is the watermark too."""
    shares: list[list[PartialSeries]] = [[] for _ in range(partitions)]
    for one in series:
        shares[target_of(one.key, partitions)].append(one)
    return [event for target, share in enumerate(shares) for event in _for_target(window, target, share)]


def _for_target(window: ClosedWindow, target: int, share: Sequence[PartialSeries]) -> list[Outgoing]:
    chunks = _chunks(share)
    events = []
    for number, chunk in enumerate(chunks):
        message = PartialWindowsClosed.model_construct(
            source_topic_id=window.topic_id,
            source_partition=window.partition,
            window_start_ms=window.start_ms,
            window_end_ms=window.end_ms,
            closed_through_ms=window.closed_through_ms,
            first_offset=window.first_offset,
            next_offset=window.next_offset,
            chunk=number,
            chunks=len(chunks),
            series=chunk,
        )
        headers = headers_for(
            PartialWindowsClosed,
            event_id=f"{window.topic_id}/{window.partition}/{window.start_ms}/{target}/{number}",
            source=SOURCE,
            time=moment(window.end_ms),
        )
        events.append(Outgoing(WINDOWS.name, encode(message), partition=target, headers=headers))
    return events


def _chunks(share: Sequence[PartialSeries]) -> list[list[PartialSeries]]:
    chunks: list[list[PartialSeries]] = [[]]
    room = CHUNK_BYTES_MAX
    for one in share:
        size = len(one.__pydantic_serializer__.to_json(one)) + 1
        if chunks[-1] and (size > room or len(chunks[-1]) >= SERIES_PER_EVENT_MAX):
            chunks.append([])
            room = CHUNK_BYTES_MAX
        chunks[-1].append(one)
        room -= size
    return chunks
