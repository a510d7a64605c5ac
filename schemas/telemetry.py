"""What workers tell about their work on `inference.telemetry`: columnar, an outcome for every consumed offset."""

from __future__ import annotations

from enum import StrEnum
from itertools import pairwise
from typing import Annotated, ClassVar, Self

from pydantic import Field, model_validator

from schemas.base import Count, EpochMs, Label, Message, Milliseconds, Part, Share, Slug
from schemas.predictions import ModelRef

SCRIPTS = (
    *("", "latin", "cyrillic", "greek", "arabic", "hebrew", "devanagari", "bengali", "tamil", "thai", "hangul"),
    *("kana", "han", "other"),
)
"""Writing systems that inputs are told by; the first stands for no letters at all. New ones come at the end."""
DIRECTIONS = 16
"""Parts of the space of output vectors, see `RequestColumns.direction`."""
REQUESTS_PER_EVENT_MAX = 2_000
"""Bounds an event's size (about 100 bytes a request) well below the topic's largest message."""


class Outcome(StrEnum):
    """How a consumed request ended."""

    ANSWERED = "answered"
    FAILED = "failed"
    SHED = "shed"
    DEAD_LETTERED = "dead_lettered"


class BatchReason(StrEnum):
    """Why a batch was closed."""

    FULL = "full"
    TIMEOUT = "timeout"
    DEADLINE = "deadline"


class BatchColumns(Part):
    """One entry per batch, parallel lists. Times in milliseconds, memory in bytes."""

    model: list[Annotated[int, Field(ge=0, le=255)]] = Field(description="Index into the event's `models`.")
    size: list[Count] = Field(description="Requests in the whole batch, also those of other partitions.")
    tokens: list[Count]
    padded_tokens: list[Count] = Field(description="Tokens computed, padding included.")
    tokenise_ms: list[Milliseconds] = Field(
        description="Preparing its requests, added up over them: tokenising texts, reading and decoding images."
    )
    compute_ms: list[Milliseconds]
    reason: list[BatchReason]
    queue_depth: list[Count] = Field(description="Requests waiting in the worker when the batch was closed.")
    memory_bytes: list[Count] = Field(description="Resident memory of the process, or device memory on CUDA.")
    post_ms: list[Milliseconds] = Field(
        default_factory=list, description="From the end of compute to the last answer handed over. Empty: not told."
    )
    computed: list[Count] = Field(
        default_factory=list, description="Inputs computed; the others were in the cache or twice in the batch."
    )


class RequestColumns(Part):
    """One entry per consumed offset, parallel lists, offsets rising. -1 in `batch` means: in no batch."""

    offset: list[Count]
    appended_ms: list[EpochMs] = Field(description="The broker's append time of the request.")
    outcome: list[Outcome]
    scenario: list[Annotated[int, Field(ge=-1, le=255)]] = Field(description="Index into `scenarios`; -1: not known.")
    batch: list[Annotated[int, Field(ge=-1, le=REQUESTS_PER_EVENT_MAX)]] = Field(description="Index into `batches`.")
    request_id: list[Annotated[str, Field(max_length=512)]]
    queue_ms: list[Milliseconds] = Field(
        description="From append to the start of its batch, without the time in which its images were read; to its end "
        "when it was in no batch."
    )
    total_ms: list[Milliseconds] = Field(description="From append to publishing the answer.")
    inputs: list[Count]
    input_bytes: list[Count]
    tokens: list[Count]
    unknown_share: list[Share] = Field(description="Share of tokens that the vocabulary does not know.")
    output_norm: list[Annotated[float, Field(ge=0.0, le=1e12)]] = Field(description="Mean length before normalising.")
    truncated: list[bool]
    error: list[Annotated[str, Field(max_length=200)]] = Field(
        description="Error class, shed reason or dead-letter reason; empty when answered."
    )
    model: list[Annotated[int, Field(ge=-1, le=255)]] = Field(
        default_factory=list,
        description="Index into `models`, also of what was in no batch; -1: reached none. Since 1.1.",
    )
    cached: list[Share] = Field(default_factory=list, description="Share of its inputs that the cache held.")
    confidence: list[Share] = Field(
        default_factory=list, description="Probability of the best label, item or tokens; 0 where there is none."
    )
    entropy: list[Share] = Field(
        default_factory=list, description="Entropy of the output, as a share of the largest possible."
    )
    margin: list[Share] = Field(default_factory=list, description="Best minus second best probability.")
    fingerprint: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=list, description="Hash of the normalised stack of a failure; empty without one."
    )
    script: list[Annotated[int, Field(ge=0, le=31)]] = Field(
        default_factory=list,
        description="Writing system of most of its letters, index into `SCRIPTS`; 0: none, or not told. Since 1.2.",
    )
    direction: list[Annotated[int, Field(ge=0, le=DIRECTIONS)]] = Field(
        default_factory=list,
        description="Which way its output vector points: 1 and the signs of four fixed projections, as bits (Charikar "
        "2002); 0: no vector, or not told. Since 1.2.",
    )


class WorkerRef(Part):
    """Which process it was and where it ran."""

    worker_id: Label
    host: Label
    pid: Count
    device: Label


class ProcessSample(Part):
    """How the worker's process and device were doing, sampled about once a second. None: not known here."""

    process_cpu_share: Annotated[float, Field(ge=0.0, le=100_000.0)] = Field(
        description="CPU seconds used per second; 1 is one core."
    )
    process_memory_bytes: Count
    publish_ms: Milliseconds | None = Field(
        default=None, description="Mean time from handing an answer over to its delivery."
    )
    device_utilisation: Share | None = None
    device_memory_bytes: Count | None = None
    power_watts: Annotated[float, Field(ge=0.0, le=100_000.0)] | None = None
    temperature_celsius: Annotated[float, Field(ge=-100.0, le=1_000.0)] | None = None


class InferenceServed(Message):
    """What one worker did for one request partition in the last second or less.

    Sent to the same-numbered partition of the telemetry topic. Request (`cluster_id`, `topic_id`, `partition`,
    `requests.offset[i]`) had outcome `requests.outcome[i]`.
    """

    KIND: ClassVar[str] = "inference.served"
    MINOR: ClassVar[int] = 2

    cluster_id: Label
    topic_id: Label
    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    worker: WorkerRef
    models: Annotated[list[ModelRef], Field(max_length=256)]
    scenarios: Annotated[list[Slug], Field(max_length=256)]
    batches: BatchColumns
    requests: RequestColumns
    sample: ProcessSample | None = Field(default=None, description="Since 1.1.")

    @model_validator(mode="after")
    def _columns_agree(self) -> Self:
        batches, requests = self.batches, self.requests
        n_batches, n = len(batches.model), len(requests.offset)
        if not 1 <= n <= REQUESTS_PER_EVENT_MAX:
            raise ValueError(f"requests: {n} rows, 1 to {REQUESTS_PER_EVENT_MAX} allowed")
        _same_length(batches, n_batches, "batches")
        _same_length(requests, n, "requests")
        offsets = requests.offset
        if any(a >= b for a, b in pairwise(offsets)):
            raise ValueError("requests.offset does not rise")
        if max(requests.batch) >= n_batches:
            raise ValueError("requests.batch points past the batches")
        if max(requests.scenario) >= len(self.scenarios):
            raise ValueError("requests.scenario points past the scenarios")
        if max((*batches.model, *requests.model), default=-1) >= len(self.models):
            raise ValueError("a model column points past the models")
        return self


MAY_BE_EMPTY = frozenset(
    {"post_ms", "computed", "model", "cached", "confidence", "entropy", "margin", "fingerprint", "script", "direction"}
)
"""Columns that may be empty: an older worker does not tell them, a newer one leaves some out that hold only zeros."""


def _same_length(columns: Part, length: int, name: str) -> None:
    for field in type(columns).model_fields:
        if field in MAY_BE_EMPTY and not getattr(columns, field):
            continue
        if len(getattr(columns, field)) != length:
            raise ValueError(f"{name}.{field}: {len(getattr(columns, field))} entries, {length} expected")


class TelemetryTicked(Message):
    """Nothing else: carries the broker's time on an idle telemetry partition so that its windows close."""

    KIND: ClassVar[str] = "telemetry.ticked"

    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]


TELEMETRY_KINDS: tuple[type[InferenceServed], type[TelemetryTicked]] = (InferenceServed, TelemetryTicked)
