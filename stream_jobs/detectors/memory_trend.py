"""Memory that grows for hours and never gives back: the slope of its floor, not its level."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

import numpy as np
import orjson

from stream_jobs.detectors.clock import NOT_BELIEVED, Clock
from stream_jobs.detectors.forecast_residual import Judgement

UNIT_BYTES = 65_536
"""Floors are kept in whole units of 64 KiB: fewer digits, and finer than any allocator."""
VALUE_MAX = 1e18
HOUR_MS = 3_600_000.0


@dataclass(frozen=True, slots=True)
class TrendPolicy:
    """What growth is worth an alarm."""

    bucket_seconds: int = 600
    """The lowest value of so long is one point: what garbage collectors and caches give back is not growth."""
    points_min: int = 12
    """Points to judge by: two hours."""
    points_max: int = 24
    """Points that are kept: four hours."""
    rise_bytes_min: float = 128 * 2**20
    """Smallest growth over the points that can be anomalous."""
    rise_share_min: float = 0.1
    """The same as a share of the first points' level; the larger of the two counts."""
    tau_min: float = 0.8
    """Least Kendall's tau of the points: 1 when each is above all before it."""
    third_share_min: float = 0.2
    """Least share of the whole growth between the medians of one third and the next: a step has none in one of them."""
    slowing_share_min: float = 0.5
    """Least growth from the second third to the last, as a share of that before it: a cache that fills slows down."""
    fall_share: float = 0.3
    """A fall by such a share below the last floor is a new process: what was before says nothing of it."""

    @property
    def name(self) -> str:
        """The detector's."""
        return "memory_trend"

    def detector(self) -> MemoryTrend:
        """A new one."""
        return MemoryTrend(self)

    def digest(self) -> str:
        """Hash of the configuration, 16 hexadecimal characters."""
        return hashlib.sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


class MemoryTrend:
    """An online detector of steady growth, with River's `score_one` and `learn_one`.

    Keeps the floor of each ten minutes for four hours. Growth is Theil and Sen's slope over them (the median of the
    slopes of all pairs), steadiness is Kendall's tau (Mann 1945, Kendall 1975), and no third may go without growth.
    Speaks once for each finished bucket, when the first value of the next comes. Fails on a leak of one of several
    workers as long as another holds more (the value is the largest of them), and on growth that a restart every two
    hours hides.

    `x` holds `value`, bytes (missing, None, not above 0 or not finite: nothing is known), and `time_ms`. A bucket's
    time is believed as `passed_ms` says: a clock that jumps, in its third bucket.

    Three hours in which a process of 1 GiB grows by 100 MiB an hour, minute by minute:

    >>> from stream_jobs.detectors.memory_trend import MemoryTrend, TrendPolicy
    >>> trigger, said = MemoryTrend(TrendPolicy()), []
    >>> for minute in range(180):
    ...     used = 2**30 + minute * 100 * 2**20 / 60
    ...     said.append(trigger.judge(used, 60_000 * minute))
    ...     trigger.learn(used, 60_000 * minute)
    >>> judged = [one for one in said if one is not None][-1]
    >>> round(judged.actual / 2**20), round(judged.upper / 2**20), judged.anomalous
    (100, 48, True)
    """

    __slots__ = ("_at", "_bucket", "_clock", "_floor", "_floors", "policy")  # there are thousands of them

    def __init__(self, policy: TrendPolicy) -> None:
        self.policy = policy
        self._bucket, self._floor = -1, 0
        self._clock = Clock(policy.bucket_seconds * 1000)
        self._at: list[int] = []
        self._floors: list[int] = []

    def score_one(self, x: Mapping[str, Any]) -> float:
        """0.5 where the growth is just worth an alarm, towards 1 beyond; 0 while learning or where none ended."""
        judged = self.judge(x.get("value"), x["time_ms"])
        return 0.0 if judged is None else judged.score

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """Take the value in."""
        self.learn(x.get("value"), x["time_ms"])

    def judge(self, value: float | None, time_ms: int) -> Judgement | None:
        """What to say when this value ends a bucket; None when it ends none, or is not usable.

        `expected` is no growth and `upper` the growth that is allowed, bytes an hour.
        """
        bucket = self._bucket_of(time_ms)
        if not _usable(value) or self._bucket < 0 or bucket <= self._bucket:
            return None
        if self._clock.passed_ms(self._start_of(bucket)) == NOT_BELIEVED:
            return None
        at, floors = self._with_open()
        learning = len(at) < self.policy.points_min
        growth, allowed, ratio = (0.0, 0.0, 0.0) if learning else self._growth(at, floors)
        return TrendJudgement(
            score=ratio / (1.0 + ratio),
            confidence=0.0 if learning else len(at) / self.policy.points_max,
            expected=0.0,
            lower=0.0,
            upper=allowed,
            learning=learning,
            actual=growth,
        )

    def learn(self, value: float | None, time_ms: int) -> None:
        """Take the value in, unless its bucket's time is not believed."""
        if not _usable(value):
            return
        bucket, units = self._bucket_of(time_ms), max(1, round(min(value, VALUE_MAX) / UNIT_BYTES))
        if bucket == self._bucket:
            self._floor = min(self._floor, units)
            self._clock.confirm()
            return
        if self._clock.take(self._start_of(bucket)) == NOT_BELIEVED:
            return
        if self._bucket >= 0:
            self._at, self._floors = self._with_open()
        # After a clock that was set back, what is later is of the clock before.
        kept = [k for k, one in enumerate(self._at) if bucket - self.policy.points_max < one < bucket]
        self._at, self._floors = [self._at[k] for k in kept], [self._floors[k] for k in kept]
        self._bucket, self._floor = bucket, units

    def state(self) -> list[Any]:
        """Plain numbers; exact through JSON. Points are told from the open bucket backwards; the clock where it is
        more than the open bucket's start."""
        state = [self._bucket, self._floor, [self._bucket - one for one in self._at], self._floors]
        clock = self._clock.state()
        return state if type(clock) is int else [*state, clock]

    def restore(self, state: Any) -> None:
        """Take over what `state` gave. Raises ValueError when it is broken."""
        try:
            bucket, floor, before, floors, *clock = state
            numbers = [bucket, floor, *before, *floors]
        except (TypeError, ValueError):
            raise ValueError("memory trend: not a bucket, a floor and two lists") from None
        if any(type(number) is not int for number in numbers) or len(before) != len(floors):
            raise ValueError("memory trend: numbers are not whole, or points without a floor")
        if (
            before != sorted(set(before), reverse=True)
            or min([1, *before, *floors]) < 1
            or max([0, *floors]) > VALUE_MAX / UNIT_BYTES
        ):
            raise ValueError("memory trend: points out of order, or not above 0")
        restored, start_ms = Clock(self.policy.bucket_seconds * 1000), self._start_of(bucket) if bucket >= 0 else -1
        try:
            restored.restore(*clock or [start_ms])
        except (ValueError, TypeError) as error:
            raise ValueError(f"memory trend: {error}") from None
        if restored.last_ms != start_ms:
            raise ValueError("memory trend: the clock is not at the open bucket's start")
        self._bucket, self._floor, self._clock = bucket, floor, restored
        self._at, self._floors = [bucket - one for one in before], list(floors)

    def _with_open(self) -> tuple[list[int], list[int]]:
        """The points, the open bucket's among them."""
        if self._floors and self._floor < (1.0 - self.policy.fall_share) * self._floors[-1]:
            return [self._bucket], [self._floor]
        at, floors = [*self._at, self._bucket], [*self._floors, self._floor]
        return at[-self.policy.points_max :], floors[-self.policy.points_max :]

    def _growth(self, at: list[int], floors: list[int]) -> tuple[float, float, float]:
        """Growth and allowed growth, bytes an hour, and how the one is to the other; 0 where it is not steady."""
        policy = self.policy
        times = np.array(at, dtype=np.float64) * (policy.bucket_seconds * 1000 / HOUR_MS)
        values = np.array(floors, dtype=np.float64) * UNIT_BYTES
        first, second = np.triu_indices(len(times), 1)
        slopes = (values[second] - values[first]) / (times[second] - times[first])
        slope = float(np.median(slopes))
        tau = float(np.sign(slopes).mean())
        hours = float(times[-1] - times[0])
        third = len(values) // 3
        low, middle, high = (float(np.median(part)) for part in (values[:third], values[third:-third], values[-third:]))
        needed = max(policy.rise_bytes_min, policy.rise_share_min * low)
        steps = middle - low, high - middle
        steady = (
            tau >= policy.tau_min
            and min(steps) >= policy.third_share_min * slope * hours
            and steps[1] >= policy.slowing_share_min * steps[0]
        )
        ratio = max(0.0, slope * hours / needed)
        # Growth that is not steady stays inside the band, whatever it comes to.
        return slope, needed / hours, ratio if steady else min(ratio, 0.5)

    def _start_of(self, bucket: int) -> int:
        return bucket * self.policy.bucket_seconds * 1000

    def _bucket_of(self, time_ms: int) -> int:
        return time_ms // (self.policy.bucket_seconds * 1000)


@dataclass(frozen=True, slots=True)
class TrendJudgement(Judgement):
    """Of growth: `actual` is bytes an hour, and not the value that was given."""

    actual: float


def _usable(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value) and value > 0.0
