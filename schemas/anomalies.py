"""What the detectors say on `anomaly.events`: anomalous windows, and what changed of windows and detectors since."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any, ClassVar

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


class ScoreKind(StrEnum):
    """On which scale a `score` is. Scores of different kinds are not to be compared with each other."""

    RANK = "rank"
    """The share of the series' own past windows that were less severe: 0.99 is about 1 in 100 of them."""
    STRENGTH = "strength"
    """The trigger's: 0.5 at the end of its band, towards 1 beyond. Says how far off, and not how rare that is."""


class InputRange(Part):
    """The telemetry an event was made from: offsets `first_offset` to `next_offset`, the latter not included.

    Of a stall or lag it is requests: from the oldest owed on.
    """

    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    first_offset: Count
    next_offset: Count


class Score(Part):
    """What a detector said of one metric in one window. Expected value and band are in the metric's unit.

    `score` is calibrated where `score_kind` is `rank`: the share of the series' own past windows that were less severe.
    Of a metric that a trigger alone looks at it is the event's `strength`, and `score_kind` says so.
    """

    score: Share
    confidence: Share
    actual: Number
    expected: Number
    lower: Number
    upper: Number
    detector: Label
    config_digest: Label
    severity: Annotated[float, Field(ge=0, le=1e18)] = Field(
        default=0.0, description="How far off, in the detector's own measure, comparable between series. Since 1.2."
    )
    score_kind: ScoreKind | None = Field(
        default=None,
        description="rank: 0.99 is about 1 in 100 of this series' own past windows. strength: the trigger's, 0.5 at "
        "the end of its band, and no share of anything. Since 1.3; null in events of before.",
    )


class AnomalyDetected(Message):
    """A series' metric left its expected band in one window. `anomaly_id` is a function of series, metric, window."""

    KIND: ClassVar[str] = "anomaly.detected"
    MINOR: ClassVar[int] = 3

    anomaly_id: Label
    kind: AnomalyKind
    series: SeriesKey
    metric: Label
    window_start_ms: EpochMs
    window_end_ms: EpochMs
    onset_ms: EpochMs = Field(description="Start of the first window of this run of anomalous windows.")
    score: Score
    contributors: dict[str, Share] = Field(
        default={},
        description="Shares of the deviation; they sum to 1. By cause of a latency, by histogram of a drift, or the "
        "metric.",
    )
    effects: dict[str, Number] = Field(
        default={},
        description="For drift, by histogram: PSI, and Cliff's delta from -1 to 1. For latency, milliseconds by cause. "
        "Since 1.1.",
    )
    strength: Share = Field(
        default=0.0, description="Of the trigger: 0.5 at the end of its band, towards 1 beyond. Since 1.2."
    )
    inputs: list[InputRange] = []
    state_digest: Annotated[str, Field(max_length=128)] = Field(
        default="", description="SHA-256 of the detector's state just before this window."
    )


def anomaly_row(event: AnomalyDetected) -> dict[str, Any]:
    """An anomaly as a row of the table `anomalies`, where nothing is kept that could recompute it."""
    names = ("anomaly_id", "metric", "strength", "state_digest")
    scores = ("score", "confidence", "severity", "actual", "expected", "lower", "upper", "detector", "config_digest")
    kind = event.score.score_kind or ScoreKind.STRENGTH  # whoever told none, before 1.3, was no selected detector
    return {
        **{name: getattr(event, name) for name in names},
        **{name: getattr(event.score, name) for name in scores},
        "score_kind": kind.value,
        "kind": event.kind.value,
        "source_topic_id": "",
        "window_start": event.window_start_ms,
        "window_end": event.window_end_ms,
        "scenario": event.series.scenario,
        "model": event.series.model,
        "model_version": event.series.version,
        "onset": event.onset_ms,
        "contributors": list(event.contributors),
        "contributions": list(event.contributors.values()),
        "source_partitions": [one.partition for one in event.inputs],
        "source_first_offsets": [one.first_offset for one in event.inputs],
        "source_next_offsets": [one.next_offset for one in event.inputs],
        "state": "",
        "scored_input": "",
        "scored_config": "",
        "scoring_format": 0,
    }


class WindowCorrected(Message):
    """Data came after the allowed lateness: what a closed window of a series really held. It was scored without, and
    is not scored or learnt again; the highest `revision` counts."""

    KIND: ClassVar[str] = "window.corrected"

    series: SeriesKey
    window_start_ms: EpochMs
    window_end_ms: EpochMs
    revision: Annotated[int, Field(ge=1, le=2**31 - 1)]
    requests: Count
    values: dict[str, Number] = Field(description="The scored columns of `windows`, by name, as they are now.")
    inputs: list[InputRange] = []


class DetectorsRenewed(Message):
    """Detectors or triggers of a partition's series, or its row models, could not take over what was learnt, and learn
    anew: no score till then. So do all where the whole state was cut, altered, or of another version."""

    KIND: ClassVar[str] = "detectors.renewed"
    MINOR: ClassVar[int] = 1

    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    at_ms: EpochMs = Field(description="End of the first window since (log time).")
    detector: Label
    config_digest: Label
    reason: Annotated[str, Field(max_length=1_000)] = Field(description="What was wrong with the first of them.")
    count: Count = Field(description="Detectors, one a series and metric, or row models; 0: all there were. Since 1.1.")
    series: list[SeriesKey] = Field(description="The first of their series, at most 20.")


class SeriesBoundReached(Message):
    """A partition knows more series than it keeps in memory. Those at rest are parked in the state topic and come back
    exact. Told when the first is parked, when one must rest early, and when one is forgotten."""

    KIND: ClassVar[str] = "series.bound_reached"

    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    at_ms: EpochMs = Field(description="End of the window (log time).")
    live_max: Count = Field(description="Series that are kept in memory.")
    live: Count = Field(description="Series in memory after the window.")
    parked: Count = Field(description="Series parked after the window.")
    parked_now: Count = Field(description="Series that this window parked.")
    rested_early: Count = Field(description="Of these, series that were not at rest: their silence is not noticed.")
    forgotten: Count = Field(description="Series whose learnt state is lost, because too many are parked.")
    series: list[SeriesKey] = Field(description="The first of them, at most 20: forgotten ones first.")


class LimitReached(Message):
    """A bound of the stream jobs left something out. Told with the first window in which it did, then once an hour of
    the log's time as long as it does. Bounds on series in memory have `series.bound_reached`."""

    KIND: ClassVar[str] = "limit.reached"

    topic: Label = Field(description="The topic whose records it met.")
    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    at_ms: EpochMs = Field(description="End of the window (log time).")
    limit: Label = Field(description="Which, as in `inferwatch_limits_reached_total`.")
    count: Count = Field(description="What it left out since it was told last.")


ANOMALY_KINDS: tuple[type[Message], ...] = (
    AnomalyDetected,
    WindowCorrected,
    DetectorsRenewed,
    SeriesBoundReached,
    LimitReached,
)
