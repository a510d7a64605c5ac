"""How far a metric is from where it usually is: a slow level, the usual relative deviation, a band, a score."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

import orjson

from stream_jobs.detectors.clock import NOT_BELIEVED, Clock

NAME = "forecast_residual"
BAND_SCORE = 0.5
"""The score at the end of the band: above it a value is anomalous."""
VALUE_MAX = 1e15
UNSURE = 4.0
"""A scale learnt from n windows is taken to be (1 + UNSURE / n) times as large: few windows know little."""
YOUNG = 3
"""For so many times `learning_windows` the level is the median of all values, later a moving mean."""


@dataclass(frozen=True, slots=True)
class ResidualPolicy:
    """What is usual for a metric, and what is worth an alarm. Values in the metric's own unit, times in seconds."""

    direction: int
    """1: only rises are anomalous; -1: only falls."""
    deviation_min: float
    """Smallest deviation that can be anomalous."""
    deviation_share_min: float
    """The same as a share of the level; the larger of the two counts."""
    unit_min: float
    """Deviations are learnt as shares of max(level, this): keeps a level of zero from making all of them huge."""
    learning_windows: int = 6
    band_scales: float = 3.0
    """Half the band's width, in usual deviations (root mean square)."""
    scale_share_min: float = 0.1
    """Floor of the usual deviation, as a share: without it one flat series would alarm at every wiggle."""
    level_seconds: float = 300.0
    scale_seconds: float = 86_400.0
    adapt_seconds: float = 1_800.0
    gap_seconds: float = 60.0
    """After so long without a value the next `learning_windows // 2` cannot alarm: starts are slow."""

    @property
    def name(self) -> str:
        """The detector's."""
        return NAME

    def detector(self) -> ForecastResidual:
        """A new one."""
        return ForecastResidual(self)

    def digest(self) -> str:
        """Hash of the configuration, 16 hexadecimal characters."""
        return hashlib.sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What the detector says of a value, before it learns it. `score` is above BAND_SCORE outside the band."""

    score: float
    confidence: float
    expected: float
    lower: float
    upper: float
    learning: bool

    @property
    def anomalous(self) -> bool:
        """Outside the band, on the side that matters, judged by a detector that has learnt."""
        return not self.learning and self.score > BAND_SCORE


@dataclass(slots=True)
class _State:
    first: list[float]
    count: int = 0
    level: float = 0.0
    square: float = 0.0
    warm_up: int = 0
    shift_since_ms: int = -1
    shift_count: int = 0
    shift_level: float = 0.0


_BEFORE = ("count", "level", "square")
_AFTER = tuple(one.name for one in fields(_State) if one.name not in ("first", *_BEFORE))
"""Numbers of the state before and after the clock's, which has kept its place: states are stored without names."""


class ForecastResidual:
    """An online detector of shifts of one metric of one series, with River's `score_one` and `learn_one`.

    Assumes a metric that is at least 0 and stays around a slowly moving level. The first `learning_windows` values
    give the level (their median: a cold start does not spoil it); later ones move it with a memory of
    `level_seconds`. Values outside the band are not learnt, so that a fault does not become normal while it lasts;
    after `adapt_seconds` of nothing else their mean is the new level. Time without values counts for nothing. It
    fails on metrics with a strong daily rhythm on a scale of minutes, and on faults that creep more slowly than
    `level_seconds`.

    `x` holds `value` (missing, None or not finite: no judgement, nothing learnt) and `time_ms`, the window's end,
    which is believed as `passed_ms` says.

    Windows of ten seconds with a usual latency, and two that it is asked about:

    >>> import math
    >>> from stream_jobs.detectors.forecast_residual import ForecastResidual, ResidualPolicy
    >>> policy = ResidualPolicy(direction=1, deviation_min=20.0, deviation_share_min=0.5, unit_min=20.0)
    >>> trigger = ForecastResidual(policy)
    >>> for number in range(60):
    ...     trigger.learn(100.0 + 5.0 * math.sin(number**2), 10_000 * number)
    >>> [round(trigger.score_one({"value": value, "time_ms": 600_000}), 2) for value in (105.0, 400.0)]
    [0.1, 0.86]
    >>> round(trigger.judge(400.0, 600_000).upper)
    150
    """

    def __init__(self, policy: ResidualPolicy) -> None:
        self.policy = policy
        self._state, self._clock = _State([]), Clock(round(policy.gap_seconds * 1000))

    def score_one(self, x: Mapping[str, Any]) -> float:
        """0 at or better than the level, 0.5 at the end of the band, towards 1 beyond; 0 while learning."""
        judged = self.judge(x.get("value"), x["time_ms"])
        return 0.0 if judged is None or judged.learning else judged.score

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """Take the value in."""
        self.learn(x.get("value"), x["time_ms"])

    def judge(self, value: float | None, time_ms: int) -> Judgement | None:
        """What to say of the value now, without learning it; None when there is no usable value or its time is not
        believed."""
        if value is None or not math.isfinite(value):
            return None
        passed_ms = self._clock.passed_ms(time_ms)
        if passed_ms == NOT_BELIEVED:
            return None
        state, value = self._state, _clip(value)
        if state.count == 0:
            return Judgement(0.0, 0.0, value, value, value, True)
        half = self._half_band()
        beyond = max(0.0, self.policy.direction * (value - state.level) / half)
        learning = state.warm_up > 0 or self._is_gap(self._clock.last_ms, passed_ms)
        return Judgement(
            score=0.0 if learning else beyond / (1.0 + beyond),
            confidence=0.0 if learning else state.count / (state.count + self.policy.learning_windows),
            expected=state.level,
            lower=max(0.0, state.level - half),
            upper=state.level + half,
            learning=learning,
        )

    def learn(self, value: float | None, time_ms: int) -> None:
        """Take the value in, unless its time is not believed."""
        if value is None or not math.isfinite(value):
            return
        state, value, last_ms = self._state, _clip(value), self._clock.last_ms
        passed_ms = self._clock.take(time_ms)
        if passed_ms == NOT_BELIEVED:
            return
        if state.count == 0:
            self._learn_first(value)
            return
        is_gap = self._is_gap(last_ms, passed_ms)
        if is_gap:
            state.warm_up = self.policy.learning_windows // 2
        # Time without values is no evidence, neither that a shift lasted nor of a level or a scale; nor is a jump.
        seconds = min(passed_ms / 1000.0, self.policy.gap_seconds)
        if state.shift_count:
            state.shift_since_ms += time_ms - last_ms - (0 if is_gap else passed_ms)
        warm, state.warm_up = state.warm_up > 0, max(0, state.warm_up - 1)
        half = self._half_band()
        if self.policy.direction * (value - state.level) <= half:
            self._learn_normal(value, half, seconds)
        elif not warm:
            self._learn_shift(value, time_ms)

    @property
    def usual(self) -> float:
        """The level; of one that has none yet the largest of its first values, 0 before those."""
        return self._state.level if self._state.count else max(self._state.first, default=0.0)

    def is_outside(self, value: float) -> bool:
        """Whether the value is beyond the band, on the side that matters, also while no alarm would be heard."""
        state = self._state
        return state.count > 0 and self.policy.direction * (value - state.level) > self._half_band()

    def move(self, level: float) -> None:
        """Expect this from now on, for a reason that is known: no shift of the metric. What varies as a share of the
        level goes on to. One that has learnt nothing yet has learnt as much as it must."""
        state = self._state
        state.level, state.first = _clip(level), []
        state.count = max(state.count, self.policy.learning_windows)
        state.shift_since_ms, state.shift_count, state.shift_level = -1, 0, 0.0

    def state(self) -> dict[str, Any]:
        """Plain numbers; exact through JSON."""
        state = self._state
        # Asked of every series at each barrier: `asdict` takes ten times as long.
        before, after = ({name: getattr(state, name) for name in names} for names in (_BEFORE, _AFTER))
        return {"first": [*state.first], **before, "seen_ms": self._clock.state(), **after}

    def restore(self, state: Any) -> None:
        """Take over what `state` gave. Raises ValueError when it is broken or not finite."""
        clock = Clock(round(self.policy.gap_seconds * 1000))
        try:
            named = {**state}
            clock.restore(named.pop("seen_ms"))
            taken = replace(_State(**named), first=list(state["first"]))
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(f"forecast residual: {error}") from None
        whole = (taken.count, taken.warm_up, taken.shift_since_ms, taken.shift_count)
        numbers = (*taken.first, taken.level, taken.square, taken.shift_level)
        if any(type(number) is not int for number in whole):
            raise ValueError("forecast residual: counts are not whole numbers")
        if any(type(number) is not float or not math.isfinite(number) for number in numbers) or taken.square < 0:
            raise ValueError("forecast residual: numbers are missing or not finite")
        self._state, self._clock = taken, clock

    def _learn_first(self, value: float) -> None:
        """Level and scale of the first values, over and over: one slow start cannot outweigh the others."""
        state = self._state
        state.first.append(value)
        if len(state.first) < self.policy.learning_windows:
            return
        # The lower median: of six windows three may be spoilt by a cold start.
        state.level = _lower_median(state.first)
        spread = 1.4826 * _lower_median([abs(one - state.level) for one in state.first]) / self._unit()
        state.square = spread * spread
        state.count = len(state.first)
        if state.count >= YOUNG * self.policy.learning_windows:
            state.first = []

    def _learn_normal(self, value: float, half: float, seconds: float) -> None:
        state, policy = self._state, self.policy
        state.shift_since_ms, state.shift_count, state.shift_level = -1, 0, 0.0
        if state.first:
            self._learn_first(value)
            return
        residual = max(-half, value - state.level)
        if policy.direction < 0:
            residual = min(half, value - state.level)
        share = residual / self._unit()
        young = 1.0 / (state.count + 1)
        state.square += max(young, seconds / (policy.scale_seconds + seconds)) * (share * share - state.square)
        state.level += max(young, seconds / (policy.level_seconds + seconds)) * residual
        state.count += 1

    def _learn_shift(self, value: float, time_ms: int) -> None:
        state = self._state
        if state.shift_count == 0:
            state.shift_since_ms = time_ms
        state.shift_count += 1
        state.shift_level += (value - state.shift_level) / state.shift_count
        if time_ms - state.shift_since_ms >= self.policy.adapt_seconds * 1000:
            state.level, state.first = state.shift_level, []
            state.shift_since_ms, state.shift_count, state.shift_level = -1, 0, 0.0

    def _is_gap(self, last_ms: int, passed_ms: int) -> bool:
        return last_ms < 0 or passed_ms > self.policy.gap_seconds * 1000

    def _unit(self) -> float:
        return max(self._state.level, self.policy.unit_min)

    def _half_band(self) -> float:
        policy, state = self.policy, self._state
        scale = max(policy.scale_share_min, math.sqrt(state.square)) * (1.0 + UNSURE / state.count) * self._unit()
        return max(policy.band_scales * scale, policy.deviation_share_min * state.level, policy.deviation_min, 1e-9)


def _clip(value: float) -> float:
    return min(max(value, -VALUE_MAX), VALUE_MAX)


def _lower_median(values: list[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]
