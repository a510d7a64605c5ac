"""What stage 1 of the stream jobs hands to stage 2 on `inference.windows`: one source partition's partial windows.

One message per (source partition, window, target partition), also without any series: it is the watermark too.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas.base import Count, EpochMs, Label, Message, Part

SERIES_PER_EVENT_MAX = 500
"""Bounds a message beside its bytes, which do so where a partial series is above 2 KB."""
Total = Annotated[float, Field(ge=0.0, le=1e18)]
Bins = Annotated[list[Count], Field(max_length=32)]
"""Counts by bin of a histogram; bins at the end that are 0 are left out."""
TOKEN_EDGES: tuple[float, ...] = tuple(float(2**power) for power in range(15))
"""Bin i holds the values from edge i-1 to below edge i; bin 0 what is below the first, the last what is not below the
last. Tokens by octaves: a text half as long again moves more than half of its mass."""
FERTILITY_EDGES: tuple[float, ...] = (0.1, 0.12, 0.14, 0.17, 0.2, 0.24, 0.28, 0.34, 0.4, 0.48, 0.57)
"""Tokens a byte of text, by quarters of an octave. A tokeniser's fertility is how many pieces it cuts a word into (Acs
2019; Rust et al., "How Good is Your Tokenizer?", ACL 2021): a language that the vocabulary was not made for is cut into
more, though none of them is unknown. Of bytes, because telemetry counts no words."""
SPECIAL_TOKENS_BYTES = 10
"""Added to a text's bytes before its tokens are divided by them: what the two special tokens of BERT's kind come to at
0.2 tokens a byte, as of English. Without them short texts would look like another language."""
UNKNOWN_EDGES: tuple[float, ...] = (0.001, 0.02, 0.05, 0.1, 0.2, 0.4, 0.7)
CONFIDENCE_EDGES: tuple[float, ...] = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
NORM_EDGES: tuple[float, ...] = (
    *(0.1, 0.15, 0.25, 0.4, 0.6, 0.8, 1.0, 1.25, 1.6, 2.0, 2.5, 3.2, 4.0, 5.0, 6.3, 8.0, 10.0, 12.5, 16.0),
    *(20.0, 25.0, 32.0, 50.0, 100.0, 1_000.0),
)
"""Lengths of vectors in tenths of a decade where models have them, coarser beyond."""
SCRIPT_EDGES: tuple[float, ...] = tuple(float(number) for number in range(1, 32))
DIRECTION_EDGES: tuple[float, ...] = tuple(float(number) for number in range(1, 17))
"""Bin i holds number i of `schemas.telemetry`'s scripts and directions: names, of which none is more than another."""
HISTOGRAMS: dict[str, tuple[float, ...]] = {
    "token_bins": TOKEN_EDGES,
    "unknown_bins": UNKNOWN_EDGES,
    "confidence_bins": CONFIDENCE_EDGES,
    "norm_bins": NORM_EDGES,
    "script_bins": SCRIPT_EDGES,
    "direction_bins": DIRECTION_EDGES,
    "fertility_bins": FERTILITY_EDGES,
}
"""The edges of each histogram of `PartialSeries`. Changing any of them is a new major version."""
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


FACTORS: tuple[str, ...] = ("queue", "tokens", "padding", "batch_size", "cache", "memory")
"""What latency is laid to: waiting, real and padding tokens of the request's batch, requests in it, the share of the
request's inputs that the cache held, and the worker's memory. Changing or reordering them is a new major version."""
FACTOR_UNITS: tuple[float, ...] = (1 / 16, 1 / 16, 1.0, 1.0, 1.0, 1 / 256, 2.0**24)
"""What one is worth in `LatencySums`: of latency and of each factor, in milliseconds, tokens, requests, a share, bytes.
They are counted in whole numbers, so that sums are exact in any order."""
WORKERS_PER_SERIES_MAX = 8
_VARIABLES = 1 + len(FACTORS)
_PRODUCTS = _VARIABLES * (_VARIABLES + 1) // 2
Sums = Annotated[list[Annotated[int, Field(ge=0, le=2**62)]], Field(min_length=_VARIABLES, max_length=_VARIABLES)]


class LatencySums(Part):
    """What a regression of latency needs of the answered requests: everything adds up.

    A request is a vector of whole numbers: latency, then each of `FACTORS`, in `FACTOR_UNITS`.
    """

    workers: Annotated[list[SeriesText], Field(max_length=WORKERS_PER_SERIES_MAX + 1)] = Field(
        default=[], description="Workers' names, rising; empty text stands for those above the bound."
    )
    counts: Annotated[list[Count], Field(max_length=WORKERS_PER_SERIES_MAX + 1)] = Field(
        default=[], description="Requests of each worker."
    )
    sums: Annotated[list[Sums], Field(max_length=WORKERS_PER_SERIES_MAX + 1)] = Field(
        default=[], description="Sum of the vectors of each worker's requests."
    )
    products: Annotated[list[Annotated[int, Field(ge=0, le=2**62)]], Field(max_length=_PRODUCTS)] = Field(
        default=[], description="Sums of products of two numbers of a vector, row by row from the diagonal on."
    )

    @model_validator(mode="after")
    def _lengths_agree(self) -> Self:
        if not len(self.workers) == len(self.counts) == len(self.sums):
            raise ValueError(f"{len(self.workers)} workers, {len(self.counts)} counts, {len(self.sums)} sums")
        if len(self.products) != (_PRODUCTS if self.workers else 0):
            raise ValueError(f"{len(self.products)} products for {len(self.workers)} workers")
        if any(a >= b for a, b in pairwise(self.workers)) or 0 in self.counts:
            raise ValueError("workers do not rise, or one has no requests")
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
    total_ms: Sketch = Field(
        default=Sketch(), description="Latency of answers for which something was computed; until 1.1 of all answers."
    )
    queue_ms: Sketch = Sketch()
    compute_ms: Sketch = Sketch()
    timed_out: Count = Field(default=0, description="Shed as too late, or failed with a timeout. Since 1.1.")
    out_of_memory: Count = Field(default=0, description="Failed for want of memory.")
    schema_broken: Count = Field(default=0, description="Dead-lettered because they are not what the topic carries.")
    empty: Count = Field(default=0, description="Answered with an output of neither length nor probability.")
    repeated: Count = Field(
        default=0, description="Outcomes told again, and requests whose id another of the same event has."
    )
    uncomputed: Count = Field(
        default=0,
        description="Answers for which nothing was computed: from the cache, or of ready-made vectors. Since 1.2.",
    )
    of_requests: Count = Field(
        default=0, description="Requests of all series of this source and window, where `schema_broken` is not 0."
    )
    token_bins: Bins = Field(default=[], description="Requests by tokens, see `TOKEN_EDGES`. Empty: none.")
    unknown_bins: Bins = Field(default=[], description="Requests by share of unknown tokens, see `UNKNOWN_EDGES`.")
    confidence_bins: Bins = Field(default=[], description="Answers by confidence, where one is told.")
    norm_bins: Bins = Field(default=[], description="Answers by output norm, where there is one.")
    script_bins: Bins = Field(default=[], description="Requests by writing system, where one is told. Since 1.3.")
    direction_bins: Bins = Field(default=[], description="Answers by the way their vector points, where there is one.")
    fertility_bins: Bins = Field(
        default=[],
        description="Requests of one input, and that whole, by tokens a byte, see `FERTILITY_EDGES`. Since 1.4.",
    )
    latency: LatencySums = Field(default=LatencySums(), description="For the causes of latency. Since 1.2.")


class PartialWindowsClosed(Message):
    """One source partition has closed a window. Message ids are a function of source, window and target."""

    KIND: ClassVar[str] = "windows.partial_closed"
    MINOR: ClassVar[int] = 4

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
