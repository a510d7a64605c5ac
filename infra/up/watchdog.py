"""Whether a supervised member of a consumer group makes no progress and must start again: pure, looks given.

The outside view: what Kafka says of the group, and what the process's own health port says. It needs no help of the
process, because one that is stopped, or whose event loop is blocked, gives none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from infra.ports import Place

KAFKA = "kafka"
"""What a process may wait for without being excused by it: a look counts only while Kafka answers, and a client that
it does not answer then is broken for good."""


@dataclass(frozen=True, slots=True)
class WatchdogPolicy:
    """How many looks in a row end a process. Looks and not seconds: what stopped this process too, as a suspended
    machine does, is nobody's silence."""

    stalled_looks: int = 20
    """Behind, or not a member, with nothing committed. At a look in 10 s this is longer than the process's own watch
    takes (3 minutes), which knows more: this one is for what that one cannot see."""
    silent_looks: int = 6
    """The health port answered before and does not now."""
    dead_looks: int = 3
    """`/health/live` says no, which it does after a minute of its own."""


@dataclass(frozen=True, slots=True)
class Health:
    """What the health port said. `waiting_for`: the server that must take what the process has made before it can
    commit; empty: none."""

    is_live: bool
    reason: str = ""
    waiting_for: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """One look. `committed` has the partitions that are the process's as far as can be told, else all of the group."""

    committed: Mapping[Place, int]
    behind: int
    """Records appended to them and not committed."""
    lag_seconds: float
    """For how long the oldest of them has been there, at least."""
    is_member: bool | None
    """Whether the process is in the group; None: its members cannot be told apart."""
    is_rebalancing: bool
    health: Health | None
    """None: the port does not answer."""


class State(StrEnum):
    """What a look found."""

    UNKNOWN = "unknown"
    IDLE = "idle"
    WORKING = "working"
    WAITING = "waiting"
    SUSPECT = "suspect"
    RESTART = "restart"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What follows from a look. `words` say why."""

    state: State
    words: str = ""
    looks: int = 0
    """Looks in a row that counted against the process."""

    @property
    def must_restart(self) -> bool:
        """Whether the process must end and start again."""
        return self.state is State.RESTART


class Watchdog:
    """Counts looks without progress of one process. For one thread."""

    def __init__(self, policy: WatchdogPolicy) -> None:
        self._policy = policy
        self.started()

    def started(self) -> None:
        """The process is a new one: nothing that was seen counts any more."""
        self._committed: Mapping[Place, int] | None = None
        self._stalled = self._silent = self._dead = 0
        self._has_answered = False

    def look(self, seen: Seen | None) -> Verdict:
        """Fold a look in. None: Kafka does not answer, so that nothing can be said: a restart would not bring it."""
        if seen is None:
            self._stalled = self._silent = self._dead = 0
            return Verdict(State.UNKNOWN, "Kafka does not answer")
        return self._by_health(seen) or self._by_progress(seen)

    def _by_health(self, seen: Seen) -> Verdict | None:
        health, policy = seen.health, self._policy
        self._has_answered = self._has_answered or health is not None
        self._silent = self._silent + 1 if health is None and self._has_answered else 0
        self._dead = self._dead + 1 if health is not None and not health.is_live else 0
        if self._silent >= policy.silent_looks:
            why = f"its health port has not answered in {self._silent} looks"
            return Verdict(State.RESTART, why, self._silent)
        if self._dead >= policy.dead_looks:
            assert health is not None
            return Verdict(State.RESTART, f"it says itself that it does not live: {health.reason}", self._dead)
        return None

    def _by_progress(self, seen: Seen) -> Verdict:
        moved = self._committed is None or dict(seen.committed) != self._committed
        self._committed = dict(seen.committed)
        out = seen.is_member is False and not seen.is_rebalancing
        if seen.health is not None and seen.health.waiting_for not in ("", KAFKA):
            self._stalled = 0
            return Verdict(State.WAITING, f"{seen.behind} records behind: waits for {seen.health.waiting_for}")
        if not seen.behind and not out:
            self._stalled = 0
            return Verdict(State.IDLE)
        if moved and not out:
            self._stalled = 0
            return Verdict(State.WORKING, f"{seen.behind} records behind")
        self._stalled += 1
        what = "it is not in the group" if out else f"{seen.behind} records wait and it has committed nothing"
        why = f"{what}, in {self._stalled} looks in which Kafka answered"
        if self._stalled < self._policy.stalled_looks:
            return Verdict(State.SUSPECT, why, self._stalled)
        return Verdict(State.RESTART, why, self._stalled)
