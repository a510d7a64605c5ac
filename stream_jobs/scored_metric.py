"""A metric that stage 2 scores for each series: what it reads of a window, its trigger, and when it alerts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from stream_jobs.decide import AlertPolicy
from stream_jobs.detectors.forecast_residual import Judgement
from stream_jobs.detectors.histogram_drift import DriftJudgement
from stream_jobs.detectors.memory_trend import TrendJudgement
from stream_jobs.window_rows import SeriesWindow

CONFIRMING_SHARE = 0.75
"""How far into the band's upper half the median must be: 0 at the expected value, 1 at the band's end."""

Value = Any
"""What a metric reads of a window: a number, cases and requests, or histograms by name."""


class Trigger(Protocol):
    """Says whether a metric of a series is outside its band. Pure; its state is plain values, exact through JSON."""

    def judge(self, value: Value, time_ms: int) -> Judgement | None:
        """What to say of a window's value before it is learnt. None: nothing can be said, or not yet."""
        ...

    def learn(self, value: Value, time_ms: int) -> None:
        """Take the value in. What lies before the last one is ignored."""
        ...

    def state(self) -> Any:
        """Everything learnt."""
        ...

    def restore(self, state: Any) -> None:
        """Take over what `state` gave. Raises ValueError when it is broken."""
        ...


class Policy(Protocol):
    """A trigger's configuration, frozen."""

    @property
    def name(self) -> str:
        """The trigger's name, as scores carry it where there is no detector beside."""
        ...

    def detector(self) -> Trigger:
        """A new one."""
        ...

    def digest(self) -> str:
        """Hash of the configuration, 16 hexadecimal characters."""
        ...


class Weight(StrEnum):
    """What a window must have enough of for a metric to be judged."""

    ANSWERED = "answered"
    COMPUTED = "computed"
    """Answers for which something was computed: those that latencies are kept of."""
    REQUESTS = "requests"
    TOLD = "told"
    """Requests, and outcomes told again."""
    OF_ALL = "of_all"
    """Requests of all series of the partitions concerned."""
    ANY = "any"


class Fact(StrEnum):
    """What of a metric's trigger is a fact that needs no score: it alerts whatever is usual, and whatever is spent."""

    ALWAYS = "always"
    CONFIRMED = "confirmed"
    """Most requests share it."""
    NOTHING_LEFT = "nothing_left"
    """The value is 0."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A column of `windows` (or histograms of it) that is scored. `absent_is` is its value in a window without the
    series, if it has one."""

    name: str
    weight: Weight
    weight_min: int
    policy: Policy
    alert: AlertPolicy
    absent_is: float | None = None
    confirmed_by: str | None = None
    """A column that confirms a rise when it reaches what this one usually is."""
    column: str = ""
    """The column that is read, where it is called otherwise."""
    cases: str = ""
    """The count that is read of the amount by which `weight` goes, instead of a column."""
    histograms: tuple[str, ...] = ()
    """The histograms that are read instead of a column."""
    is_rare: bool = False
    """Whether it is usually 0: then no score of it is stored, unless there just was an anomaly."""
    scored: bool = False
    """Whether the selected detector scores its values: the trigger says what is large, the score what is unusual."""
    fact: Fact = Fact.ALWAYS
    is_latency: bool = False
    """Whether the causes of latency explain it."""

    def value_of(self, window: SeriesWindow) -> Value | None:
        """The metric's value; None when the window holds too little to judge it."""
        if self.weight is not Weight.ANY and self._amount(window) < self.weight_min:
            return None
        if self.cases:
            cases = window.values.get(self.cases)
            return None if cases is None else (cases, max(1, self._amount(window)))
        if self.histograms:
            found = {name: window.histograms.get(name, ()) for name in self.histograms}
            return found if any(found.values()) else None
        return window.values.get(self.column or self.name)

    def confirmed(self, window: SeriesWindow | None, expected: float, upper: float) -> bool:
        """Whether most requests share the anomaly: half of them are slower than the slowest usually are."""
        if self.confirmed_by is None or window is None:
            return True
        return window.values[self.confirmed_by] >= expected + CONFIRMING_SHARE * (upper - expected)

    def is_fact(self, confirmed: bool, actual: float) -> bool:
        """Whether what is outside the trigger's band needs no score."""
        if self.fact is Fact.CONFIRMED:
            return confirmed
        return self.fact is Fact.ALWAYS or actual == 0.0

    def _amount(self, window: SeriesWindow) -> int:
        if self.weight is Weight.ANSWERED:
            return window.answered
        if self.weight is Weight.COMPUTED:
            return window.answered - window.uncomputed
        if self.weight is Weight.OF_ALL:
            return window.of_requests
        return window.requests + (window.repeated if self.weight is Weight.TOLD else 0)


def actual_of(judgement: Judgement, value: Value) -> float:
    """What a judgement is about: the value, unless the detector made another number of it."""
    if isinstance(judgement, DriftJudgement | TrendJudgement):
        return judgement.actual
    return value[0] / value[1] if isinstance(value, tuple) else float(value)


def is_nothing(value: Value | None) -> bool:
    """Whether it is 0, or no cases."""
    return value == 0.0 or (isinstance(value, tuple) and value[0] == 0.0)


def contributors_of(judgement: Judgement, metric: str) -> dict[str, float]:
    """Shares of the deviation; they sum to 1."""
    if isinstance(judgement, DriftJudgement) and judgement.contributors:
        return dict(judgement.contributors)
    return {metric: 1.0}


def effects_of(judgement: Judgement) -> dict[str, float]:
    """How large a drift is, by histogram; empty for other metrics."""
    return dict(judgement.effects) if isinstance(judgement, DriftJudgement) else {}
