"""When to send the next one: keeps a schedule, and lets it slip rather than bunch up what is late. Pure."""

from __future__ import annotations

SLIP_SECONDS = 1.0
"""Lateness that is caught up. More is given up: a burst after a pause would be load that nobody asked for."""


class Pace:
    """Turns due times (seconds after the start) into waits. Monotonic seconds are handed in."""

    def __init__(self, started: float) -> None:
        self._started = started
        self.slipped_seconds = 0.0

    def wait_seconds(self, due_seconds: float, now: float) -> float:
        """How long to wait before sending; 0 when it is due. Moves the schedule when it is too late for it."""
        wait = self._started + due_seconds - now
        if wait < -SLIP_SECONDS:
            late = -wait
            self._started += late
            self.slipped_seconds += late
            return 0.0
        return max(0.0, wait)
