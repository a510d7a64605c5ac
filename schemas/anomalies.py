"""What the detectors say on `anomaly.events`: one event per anomalous window of a series' metric."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from schemas.base import Count, EpochMs, Label, Message, Part, Share
from schemas.windows import SeriesKey

Number = Annotated[float, Field(ge=-1e18, le=1e18)]


class AnomalyKind(StrEnum):
    """The closed list of what can be wrong. Each has its trigger and its page in the documentation."""

    TIMEOUT = "timeout"
    OOM = "oom"
    ERROR_BURST = "error_burst"
    STALL = "stall"
    LAG = "lag"
    LATENCY_SHIFT = "latency_shift"
    MEMORY_LEAK = "memory_leak"
    THROUGHPUT_DROP = "throughput_drop"
    SCORE_DRIFT = "score_drift"
    INPUT_DRIFT = "input_drift"
    EMPTY_RESULT = "empty_result"
    QUALITY_DROP = "quality_drop"
    DUPLICATE = "duplicate"
    SCHEMA_BREAK = "schema_break"
    COST = "cost"
    SECURITY = "security"


class InputRange(Part):
    """The telemetry an event was made from: offsets `first_offset` to `next_offset`, the latter not included."""

    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    first_offset: Count
    next_offset: Count


class Score(Part):
    """What a detector said of one metric in one window. Expected value and band are in the metric's unit."""

    score: Share
    confidence: Share
    actual: Number
    expected: Number
    lower: Number
    upper: Number
    detector: Label
    config_digest: Label


class AnomalyDetected(Message):
    """A series' metric left its expected band in one window. `anomaly_id` is a function of series, metric, window."""

    KIND: ClassVar[str] = "anomaly.detected"
    MINOR: ClassVar[int] = 1

    anomaly_id: Label
    kind: AnomalyKind
    series: SeriesKey
    metric: Label
    window_start_ms: EpochMs
    window_end_ms: EpochMs
    onset_ms: EpochMs = Field(description="Start of the first window of this run of anomalous windows.")
    score: Score
    contributors: dict[str, Share] = Field(default={}, description="Shares of the deviation; they sum to 1.")
    effects: dict[str, Number] = Field(
        default={},
        description="For drift, by histogram: PSI, and Cliff's delta from -1 to 1. For latency, milliseconds by cause. "
        "Since 1.1.",
    )
    inputs: list[InputRange] = []
    state_digest: Annotated[str, Field(max_length=128)] = Field(
        default="", description="SHA-256 of the detector's state just before this window."
    )


ANOMALY_KINDS: tuple[type[AnomalyDetected]] = (AnomalyDetected,)
