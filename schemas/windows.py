"""What stage 1 of the stream jobs hands to stage 2 on `inference.windows`: one source partition's partial windows.

One message per (source partition, window, target partition), also without any series: it is the watermark too.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas.base import Count, EpochMs, Label, Message, Part

SERIES_PER_EVENT_MAX = 500
"""Bounds a message: a partial series is below 2 KB, so 500 stay below the topic's largest message."""
Total = Annotated[float, Field(ge=0.0, le=1e18)]
SeriesText = Annotated[str, Field(max_length=200)]


class SeriesKey(Part):
    """What a series is called: the labels of its windows. Empty text where a label is not known."""

    model: SeriesText
    version: SeriesText
    scenario: SeriesText

    def __str__(self) -> str:
        return f"{self.scenario}/{self.model}/{self.version}"


class Sketch(Part):
    """A quantile sketch with a bounded relative error: counts of values per bucket, mergeable by adding.

    Bucket `i` holds the values in (gamma^(i-1), gamma^i] times the smallest value, as DDSketch does
    (Masson, Rim, Lee, VLDB 2019). `sum`, `min` and `max` are those of the values.
    """

    bucket: Annotated[list[Annotated[int, Field(ge=0, le=4_096)]], Field(max_length=4_097)] = []
    count: Annotated[list[Count], Field(max_length=4_097)] = []
    sum: Total = 0.0
    min: Total = 0.0
    max: Total = 0.0

    @model_validator(mode="after")
    def _buckets_rise(self) -> Self:
        if len(self.bucket) != len(self.count):
            raise ValueError(f"{len(self.bucket)} buckets but {len(self.count)} counts")
        if any(a >= b for a, b in pairwise(self.bucket)):
            raise ValueError("bucket does not rise")
        return self


class PartialSeries(Part):
    """One series' share of a window, from one source partition. Everything merges by adding or by maximum."""

    key: SeriesKey
    answered: Count = 0
    failed: Count = 0
    shed: Count = 0
    dead_lettered: Count = 0
    inputs: Count = 0
    tokens: Count = 0
    padded_tokens: Count = 0
    truncated: Count = 0
    unknown_share_sum: Total = 0.0
    row_score_sum: Total = 0.0
    row_score_max: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    queue_depth_max: Count = 0
    memory_bytes_max: Count = 0
    total_ms: Sketch = Sketch()
    queue_ms: Sketch = Sketch()
    compute_ms: Sketch = Sketch()


class PartialWindowsClosed(Message):
    """One source partition has closed a window. Message ids are a function of source, window and target."""

    KIND: ClassVar[str] = "windows.partial_closed"

    source_topic_id: Label
    source_partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    window_start_ms: EpochMs
    window_end_ms: EpochMs
    closed_through_ms: EpochMs = Field(description="Every window of this source that ends at or before it is complete.")
    first_offset: Count = Field(description="First telemetry offset that this window may hold.")
    next_offset: Count = Field(description="The telemetry offset after the last one this window holds.")
    chunk: Count = Field(default=0, description="Number of this message within (source, window, target).")
    chunks: Annotated[int, Field(ge=1, le=10_000)] = 1
    series: Annotated[list[PartialSeries], Field(max_length=SERIES_PER_EVENT_MAX)] = []


WINDOW_KINDS: tuple[type[PartialWindowsClosed]] = (PartialWindowsClosed,)
