"""Whether a process lives and whether it serves, decided from what its loop tells. Pure: no port, no clock.

Ready means "has answered lately, or owes nothing"; that a port is open says nothing about a model that hangs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """After how many seconds of silence a process is not ready, or not alive. Why these: see `HealthSettings`."""

    stalled_seconds: float = 30.0
    turn_seconds: float = 60.0
    hung_seconds: float = 300.0


class Phase(StrEnum):
    """How far the process has come."""

    STARTING = "starting"
    LOADED = "loaded"
    SERVING = "serving"
    STOPPING = "stopping"


class Code(StrEnum):
    """Why a verdict is as it is, for programs: the first thing that is wrong, or what is right."""

    OK = "ok"
    IDLE = "idle"
    STARTING = "starting"
    JOINING = "joining"
    STOPPING = "stopping"
    BROKEN = "broken"
    LOOP_STUCK = "loop_stuck"
    STALLED = "stalled"
    UNDELIVERED = "undelivered"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of one probe: yes or no, why as a code, and why in words."""

    good: bool
    code: Code
    words: str


@dataclass(slots=True)
class Duty:
    """Something that must go on while there is any of it: so many are owed, and one was done at such a time.

    Its silence is counted from the last one done, or from when something was first owed after a time of owing nothing:
    a request that comes after a quiet hour has not waited for an hour.
    """

    owed: int = 0
    oldest_seconds: float | None = None
    _quiet_since: float = 0.0
    _done: int | None = None

    def owe(self, count: int, now: float, oldest_seconds: float | None = None) -> None:
        """So many are owed now, the oldest for so long."""
        if not self.owed or not count:
            self._quiet_since = now
        self.owed, self.oldest_seconds = count, oldest_seconds

    def do(self, now: float) -> None:
        """One was done."""
        self._quiet_since = now

    def count(self, done: int, now: float) -> None:
        """So many were done in all: the same as `do` when they are more than at the last call."""
        if done != self._done:
            self._done = done
            self._quiet_since = now

    def silent_seconds(self, now: float) -> float:
        """For how long something has been owed with nothing done; 0 while nothing is owed."""
        return max(0.0, now - self._quiet_since) if self.owed else 0.0


class Probed(Protocol):
    """What gives verdicts, see `Readiness`. On a probe's thread: it must not block."""

    def live(self, now: float) -> Verdict:
        """Whether it lives."""

    def ready(self, now: float) -> Verdict:
        """Whether it serves."""


class Together:
    """The verdict on a process of several parts: that of the first one with which something is wrong, by its name.

    When all is well, it is the first part's own.
    """

    def __init__(self, parts: Mapping[str, Probed]) -> None:
        """At least one, by name."""
        self._parts = parts

    def live(self, now: float) -> Verdict:
        """Whether all parts live."""
        return _first([(name, part.live(now)) for name, part in self._parts.items()])

    def ready(self, now: float) -> Verdict:
        """Whether all parts serve."""
        return _first([(name, part.ready(now)) for name, part in self._parts.items()])


def _first(said: list[tuple[str, Verdict]]) -> Verdict:
    wrong = ((name, one) for name, one in said if not one.good)
    return next((Verdict(False, one.code, f"{name}: {one.words}") for name, one in wrong), said[0][1])


@dataclass(slots=True)
class Readiness:
    """What a worker's loop tells about itself, and the verdicts on it. `now` is monotonic seconds everywhere.

    Written by the loop's thread (and, before it runs, the one that loads), read by the threads of the probes: each
    field is replaced whole, and a verdict may be one turn old.
    """

    policy: HealthPolicy
    now: float
    phase: Phase = Phase.STARTING
    doing: str = "starting"
    answers: Duty = field(default_factory=Duty)
    deliveries: Duty = field(default_factory=Duty)
    _turned: float = field(default=0.0, init=False)
    _broken: str | None = field(default=None, init=False)
    _held: int = field(default=0, init=False)
    _is_out: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._turned = self.now

    def starting(self, doing: str) -> None:
        """Not serving yet; `doing` says what is being done, such as "loading the model"."""
        self.phase, self.doing = Phase.STARTING, doing

    def loaded(self) -> None:
        """The model is loaded, warm and passed its golden samples; the group may be joined."""
        self.phase = Phase.LOADED

    def joined(self, now: float) -> None:
        """The group has given this process its share, which may be nothing."""
        if self.phase is not Phase.STOPPING:
            self.phase = Phase.SERVING
        self._turned, self._is_out = now, False

    def left(self) -> None:
        """The session is over, by the group or by Kafka's silence: what it had is another's, until it joins again."""
        self._is_out = True

    def stopping(self) -> None:
        """Told to stop: what is held is finished, nothing new is taken."""
        self.phase = Phase.STOPPING

    def broken(self, reason: str | None) -> None:
        """It cannot serve, and why; None: it can again."""
        self._broken = reason

    def turn(self, now: float) -> None:
        """The loop has come round once more."""
        self._turned = now

    def owed(self, count: int, oldest_seconds: float | None, now: float, *, held: int = 0) -> None:
        """Requests that wait for the model or are in it, `held` ones that wait for Kafka to tell of their partitions,
        and since when the oldest was taken. Without those that were just polled: they need no model when the cache has
        their results."""
        if self._held and not held:
            self.answers.do(now)  # from now on it is the model that they wait for
        self._held = held
        self.answers.owe(count + held, now, oldest_seconds)

    def answered(self, now: float) -> None:
        """The model gave results, or failed on a request by that request's fault. Not for what was shed, refused or
        found in the cache: a worker can do all of that for hours while its model hangs."""
        self.answers.do(now)

    def published(self, undelivered: int, delivered: int, now: float) -> None:
        """Records handed over and not confirmed, and how many were confirmed in all."""
        self.deliveries.owe(undelivered, now)
        self.deliveries.count(delivered, now)

    def ready(self, now: float) -> Verdict:
        """Whether requests that come now will be answered."""
        if self._broken is not None:
            return Verdict(False, Code.BROKEN, self._broken)
        if self.phase is Phase.STARTING:
            return Verdict(False, Code.STARTING, f"not serving yet: {self.doing}")
        if self.phase is Phase.LOADED:
            return Verdict(False, Code.JOINING, "not serving yet: the model works, the group has given no partitions")
        if self.phase is Phase.STOPPING:
            return Verdict(False, Code.STOPPING, f"stopping: {self.answers.owed} requests are finished first")
        stuck = now - self._turned
        if stuck > min(self.policy.turn_seconds, self.policy.stalled_seconds):
            return Verdict(False, Code.LOOP_STUCK, f"the loop has not come round for {stuck:.0f} s")
        # Deliveries first: when they stall, everything before them is held up too, and they are the cause.
        silent = self.deliveries.silent_seconds(now)
        if silent > self.policy.stalled_seconds:
            return Verdict(
                False,
                Code.UNDELIVERED,
                f"{self.deliveries.owed} records are handed to Kafka and none was delivered for {silent:.0f} s",
            )
        verdict = self._answering(now)
        if self._is_out and verdict.good:  # else what is wrong is the cause
            why = "it lost its partitions, as the group or Kafka did not answer in time, and joins again"
            return Verdict(False, Code.JOINING, f"not serving: {why}")
        return verdict

    def _answering(self, now: float) -> Verdict:
        owed, silent = self.answers.owed, self.answers.silent_seconds(now)
        if not owed:
            return Verdict(True, Code.IDLE, "owes nothing")
        holds = f"owes {owed} request{'s' if owed > 1 else ''}"
        if self.answers.oldest_seconds is not None:
            holds += f", the oldest for {self.answers.oldest_seconds:.0f} s"
        if silent > self.policy.stalled_seconds and self._held:
            why = f"Kafka has not told of the partitions of {self._held} for {silent:.0f} s"
            return Verdict(False, Code.STALLED, f"{holds}: {why}")
        if silent > self.policy.stalled_seconds:
            return Verdict(False, Code.STALLED, f"{holds}, and the model has answered none for {silent:.0f} s")
        return Verdict(True, Code.OK, f"{holds}; the model answered {silent:.1f} s ago or was free till then")

    def live(self, now: float) -> Verdict:
        """Whether a new process would do better than this one: the loop does not turn, or the model hangs for good.

        Not while starting (loading may take long) and not because Kafka is away, which a restart does not change.
        """
        if self.phase in (Phase.STARTING, Phase.LOADED):
            return Verdict(True, Code.STARTING, self.doing)
        stuck = now - self._turned
        if stuck > self.policy.turn_seconds:
            return Verdict(False, Code.LOOP_STUCK, f"the loop has not come round for {stuck:.0f} s")
        silent = self.answers.silent_seconds(now)
        kafka_is_there = not self._held and self.deliveries.silent_seconds(now) <= self.policy.stalled_seconds
        if silent > self.policy.hung_seconds and kafka_is_there:
            return Verdict(
                False,
                Code.STALLED,
                f"the model holds {self.answers.owed} requests and has answered none for {silent:.0f} s",
            )
        return Verdict(True, Code.OK, f"the loop came round {max(0.0, stuck):.1f} s ago")
