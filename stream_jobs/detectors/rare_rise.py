"""Rises of what is usually nothing or next to nothing: timeouts, empty answers, repeats."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

import orjson

from stream_jobs.detectors.clock import NOT_BELIEVED, Clock
from stream_jobs.detectors.forecast_residual import Judgement

Cases = tuple[float, int]
"""How many of how many requests; the latter at least 1."""
VALUE_MAX = 1e15
ZERO_WINDOWS = 6
"""That the usual value is 0 is taken to be known from so many windows that nobody saw."""


@dataclass(frozen=True, slots=True)
class RisePolicy:
    """What is worth an alarm. `deviation_min` in the metric's unit, times in seconds."""

    deviation_min: float
    """Smallest rise above the usual that can be anomalous: a share of requests, or a count of them."""
    usual_factor: float = 2.0
    """The rise must be so many times the usual value, too."""
    cases_min: int = 5
    """The rise of a share must be so many cases, too: one of twenty requests is 5 %, and chance."""
    usual_seconds: float = 86_400.0
    """Memory of the usual value. A day: a fault of an hour teaches little of itself."""
    learning_windows: int = 6
    """Windows that a new series is only watched; 0 where one case is one too many from the first."""
    gap_seconds: float = 60.0
    """Longer pauses count as so long."""

    @property
    def name(self) -> str:
        """The detector's."""
        return "rare_rise"

    def detector(self) -> RareRise:
        """A new one."""
        return RareRise(self)

    def digest(self) -> str:
        """Hash of the configuration, 16 hexadecimal characters."""
        return hashlib.sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


class RareRise:
    """An online detector of rises above a usual value that is near 0, with River's `score_one` and `learn_one`.

    Takes the usual value for 0 until it has seen otherwise: a mean with a memory of `usual_seconds`, over values that
    are cut at the end of the band, so that a fault moves it by at most the band's width times its share of the memory.
    Fails where the value is usually large (the band grows with it: use `ForecastResidual`), and on rises that come
    over days.

    `x` holds `value`, a number or `Cases` (missing, None, negative or not finite: no judgement, nothing learnt), and
    `time_ms`, which is believed as `passed_ms` says. Of cases the value is their share.

    Sixty windows without a timeout, then 30 of 100 requests:

    >>> from stream_jobs.detectors.rare_rise import RareRise, RisePolicy
    >>> trigger = RareRise(RisePolicy(deviation_min=0.05))
    >>> for number in range(60):
    ...     trigger.learn((0, 100), 10_000 * number)
    >>> judged = trigger.judge((30, 100), 600_000)
    >>> round(judged.score, 2), round(judged.upper, 2), judged.anomalous
    (0.86, 0.05, True)
    """

    __slots__ = ("_clock", "_count", "_usual", "policy")  # there are thousands of them

    def __init__(self, policy: RisePolicy) -> None:
        self.policy = policy
        self._count, self._usual = 0, 0.0
        self._clock = Clock(round(policy.gap_seconds * 1000))

    def score_one(self, x: Mapping[str, Any]) -> float:
        """0 at or below the usual value, 0.5 at the end of the band, towards 1 beyond; 0 while learning."""
        judged = self.judge(x.get("value"), x["time_ms"])
        return 0.0 if judged is None else judged.score

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """Take the value in."""
        self.learn(x.get("value"), x["time_ms"])

    def judge(self, value: float | Cases | None, time_ms: int) -> Judgement | None:
        """What to say of the value, without learning it; None when there is no usable value or its time is not
        believed."""
        value, least = _parted(value, self.policy.cases_min)
        if not _usable(value) or self._clock.passed_ms(time_ms) == NOT_BELIEVED:
            return None
        room = self._room(least)
        beyond = max(0.0, (min(value, VALUE_MAX) - self._usual) / room)
        learning = self._count < self.policy.learning_windows
        return Judgement(
            score=0.0 if learning else beyond / (1.0 + beyond),
            confidence=0.0 if learning else (self._count + 1) / (self._count + 1 + self.policy.learning_windows),
            expected=self._usual,
            lower=0.0,
            upper=self._usual + room,
            learning=learning,
        )

    def learn(self, value: float | Cases | None, time_ms: int) -> None:
        """Take the value in, unless its time is not believed."""
        value, least = _parted(value, self.policy.cases_min)
        if not _usable(value) or (passed_ms := self._clock.take(time_ms)) == NOT_BELIEVED:
            return
        self._count += 1
        if value == 0.0 and self._usual == 0.0:
            return
        seconds = min(passed_ms / 1000.0, self.policy.gap_seconds)
        cut = min(value, self._usual + self._room(least))
        share = max(1.0 / (self._count + ZERO_WINDOWS), seconds / (self.policy.usual_seconds + seconds))
        self._usual += share * (cut - self._usual)

    def state(self) -> list[Any]:
        """Plain numbers; exact through JSON."""
        return [self._count, self._usual, self._clock.state()]

    def restore(self, state: Any) -> None:
        """Take over what `state` gave. Raises ValueError when it is broken or not finite."""
        if not isinstance(state, list) or [type(one) for one in state[:2]] != [int, float] or len(state) != 3:
            raise ValueError("rare rise: not a count, a usual value and a clock")
        count, usual, clock = state
        if count < 0 or not math.isfinite(usual) or usual < 0.0:
            raise ValueError("rare rise: a number is negative or not finite")
        try:
            self._clock.restore(clock)
        except ValueError as error:
            raise ValueError(f"rare rise: {error}") from None
        self._count, self._usual = count, usual

    def _room(self, least: float) -> float:
        return max(self.policy.deviation_min, self.policy.usual_factor * self._usual, least, 1e-9)


def _parted(value: float | Cases | None, cases_min: int) -> tuple[float | None, float]:
    """The value, and the least rise that is enough cases."""
    if not isinstance(value, tuple):
        return value, 0.0
    cases, of = value
    return cases / of, cases_min / of


def _usable(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value) and value >= 0.0
