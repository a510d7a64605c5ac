"""How many workers the group needs, and why: from its lag, what arrives, and what one worker can do. Pure.

A worker serves mu requests a second at most. To keep pace with lambda a second and stay at a share h of its time, so
that bursts find room, lambda / (mu h) workers are needed. To be done with a lag within the target T while more arrives,
lambda / mu + lag / (mu T). The larger of the two counts.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from enum import StrEnum

HISTORY_MAX = 10_000
"""Bounds what is remembered whatever the times are; at a look every 5 s it is half a day."""


@dataclass(frozen=True, slots=True)
class ScalingPolicy:
    """What is aimed at. Why these defaults: see `ScalingSettings`."""

    target_seconds: float = 2.0
    workers_min: int = 1
    workers_max: int = 1_000
    utilisation: float = 0.8
    tolerance: float = 0.1
    grow_seconds: float = 15.0
    shrink_seconds: float = 300.0
    commit_seconds: float = 1.0
    """How often the group commits: what arrives within it is counted as lag and is none."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What is known at a moment; None: not known. `lag` in requests, rates per second; `service` is one worker's."""

    lag: int | None
    arrivals: float | None
    service: float | None
    workers: int
    partitions: int


class Reason(StrEnum):
    """Why so many: a closed list, for a label."""

    IDLE = "idle"
    ARRIVALS = "arrivals"
    LAG = "lag"
    AT_MINIMUM = "at_minimum"
    AT_MAXIMUM = "at_maximum"
    AT_PARTITIONS = "at_partitions"
    GROWING_SOON = "growing_soon"
    SHRINKING_SOON = "shrinking_soon"
    LAG_UNKNOWN = "lag_unknown"
    RATE_UNKNOWN = "rate_unknown"


@dataclass(frozen=True, slots=True)
class Wanted:
    """So many workers, why as a code, and why in words."""

    workers: int
    reason: Reason
    words: str


@dataclass(slots=True)
class ScalingState:
    """Remembers what was needed, so that the answer does not flap.

    It grows to the least that was needed at every look of the last `grow_seconds`, and shrinks to the most that was
    needed at any look of the last `shrink_seconds`: a peak is over when it has been over for a while.
    """

    policy: ScalingPolicy
    _wanted: int | None = None
    _is_new: bool = True  # nothing was known at the last look
    _history: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=HISTORY_MAX))

    def update(self, demand: Demand, now: float) -> Wanted:
        """The answer at `now`, in monotonic seconds."""
        before = self._capped(demand.workers if self._wanted is None else self._wanted, demand)[0]
        self._wanted = before
        unknown = _unknown(demand)
        if unknown is not None:
            self._is_new = True
            return Wanted(before, unknown[0], f"{_workers(before)} as before: {unknown[1]}")
        if self._is_new:  # one look is no reason to grow, also the first one after an outage
            self._history.append((now, before))
            self._is_new = False
        needed, reason, words = self._needed(demand)
        capped, cap = self._capped(needed, demand)
        self._remember(capped, now)
        wanted = self._capped(self._steady(now), demand)[0]
        self._wanted = wanted
        if wanted < capped:
            hold = f"{_workers(capped)} when that holds for {self.policy.grow_seconds:.0f} s"
            return Wanted(wanted, Reason.GROWING_SOON, f"{_workers(wanted)} now, {hold}: {words}")
        if wanted > capped:
            hold = f"{_workers(capped)} when nothing more was needed for {self.policy.shrink_seconds:.0f} s"
            return Wanted(wanted, Reason.SHRINKING_SOON, f"{_workers(wanted)} still, {hold}: {words}")
        if cap is not None and reason is not Reason.IDLE:
            return Wanted(wanted, cap[0], f"{_workers(wanted)}: {words}; {cap[1]}")
        return Wanted(wanted, reason, f"{_workers(wanted)}: {words}")

    def _needed(self, demand: Demand) -> tuple[int, Reason, str]:
        """How many would do, without bounds and memory."""
        policy, arrivals, service = self.policy, demand.arrivals or 0.0, demand.service
        lag = max(0.0, (demand.lag or 0) - arrivals * policy.commit_seconds)
        if not arrivals and not lag:
            return 0, Reason.IDLE, "nothing arrives and nothing waits"
        if service is None or service <= 0:
            raise ValueError("a demand without a service rate")
        pace = arrivals / (service * policy.utilisation)
        drain = arrivals / service + lag / (service * policy.target_seconds)
        each = f"one does {_rate(service)}"
        if drain > pace:
            reason = Reason.LAG
            words = f"{lag:,.0f} requests wait and {_rate(arrivals)} arrive, {each}"
            words += f": {drain:.2f} are done with them in {policy.target_seconds:g} s"
        else:
            reason = Reason.ARRIVALS
            words = f"{_rate(arrivals)} arrive, {each}: {pace:.2f} have {policy.utilisation:.0%} of their time to do"
        need = max(pace, drain)
        if demand.workers and abs(need / demand.workers - 1) <= policy.tolerance:
            return demand.workers, reason, f"{words}, near enough to those there are"
        return min(math.ceil(need), 10**9), reason, words

    def _capped(self, workers: int, demand: Demand) -> tuple[int, tuple[Reason, str] | None]:
        """Within the bounds, and which of them holds it."""
        policy = self.policy
        largest = min(policy.workers_max, demand.partitions)
        if workers > largest and largest == demand.partitions:
            return largest, (
                Reason.AT_PARTITIONS,
                f"the topic has {largest} partitions and a worker beyond would get none; more need more partitions",
            )
        if workers > largest:
            return largest, (Reason.AT_MAXIMUM, f"{largest} is the most that is allowed")
        least = min(policy.workers_min, largest)
        if workers < least:
            return least, (Reason.AT_MINIMUM, f"{least} is the least that is allowed")
        return workers, None

    def _remember(self, workers: int, now: float) -> None:
        self._history.append((now, workers))
        longest = max(self.policy.grow_seconds, self.policy.shrink_seconds)
        while self._history[0][0] < now - longest:
            self._history.popleft()

    def _steady(self, now: float) -> int:
        policy, wanted = self.policy, self._wanted or 0
        floor = min(count for at, count in self._history if at >= now - policy.grow_seconds)
        ceiling = max(count for at, count in self._history if at >= now - policy.shrink_seconds)
        return max(floor, min(wanted, ceiling))


def _unknown(demand: Demand) -> tuple[Reason, str] | None:
    if demand.lag is None or demand.arrivals is None:
        return Reason.LAG_UNKNOWN, "the group's lag and what arrives are not known"
    if (demand.lag or demand.arrivals) and not demand.service:
        return Reason.RATE_UNKNOWN, "what one worker can do is not known yet"
    return None


def _workers(count: int) -> str:
    return f"{count} worker{'' if count == 1 else 's'}"


def _rate(per_second: float) -> str:
    return f"{per_second:,.0f}/s" if per_second >= 10 else f"{per_second:.2g}/s"
