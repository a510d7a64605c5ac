"""What to do when a child process ends: pure decisions, time given from outside."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from infra.exit_codes import EXIT_CONFIGURATION, EXIT_USAGE


class ChildState(StrEnum):
    """Where a child stands."""

    PLANNED = "planned"
    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How long to wait before a child that ended by itself is started again: doubling, then constant, seconds."""

    first_seconds: float = 0.5
    longest_seconds: float = 30.0
    healthy_after_seconds: float = 20.0
    """Having run for so long, a child is as new: the next wait is the first one again."""

    def wait_seconds(self, ends_in_a_row: int) -> float:
        """The wait after that many ends in a row, at least 1."""
        return float(min(self.longest_seconds, self.first_seconds * 2 ** min(ends_in_a_row - 1, 30)))


@dataclass(frozen=True, slots=True)
class Restart:
    """Start it again at `at` (monotonic seconds). `say` is the sentence for people."""

    at: float
    say: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Do not start it again. `say` is the sentence for people."""

    say: str


class ChildHistory:
    """A child's starts and ends, and what follows from them."""

    def __init__(self, name: str, policy: RestartPolicy) -> None:
        self.name = name
        self.restarts = 0
        self._policy = policy
        self._started_at: float | None = None
        self._ends_in_a_row = 0

    def started(self, now: float) -> None:
        """It was started at `now`, monotonic seconds."""
        if self._started_at is not None:
            self.restarts += 1
        self._started_at = now

    def ended(self, now: float, status: int) -> Restart | GiveUp:
        """It ended at `now` with `status` (negative: the signal that ended it) though nobody asked it to."""
        ran = now - (now if self._started_at is None else self._started_at)
        why = described(status)
        if status in (EXIT_CONFIGURATION, EXIT_USAGE):
            return GiveUp(f"{self.name} ended: {why}. Starting it again would not help; see its log.")
        if ran >= self._policy.healthy_after_seconds:
            self._ends_in_a_row = 0
        self._ends_in_a_row += 1
        wait = self._policy.wait_seconds(self._ends_in_a_row)
        return Restart(now + wait, f"{self.name} ended after {ran:.1f} s: {why}. Starts again in {wait:g} s.")


def described(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        return f"killed by signal {-status}"
    meaning = {
        EXIT_USAGE: ", wrong command line",
        70: ", internal error",
        75: ", try again",
        EXIT_CONFIGURATION: ", a setting cannot work",
    }
    return f"exit code {status}{meaning.get(status, '')}"
