"""Sends requests when they are due, whatever comes back: an open loop, so that a slow server cannot slow its load."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

SLEEP_SECONDS_MAX = 0.1
"""How soon it is noticed that the step must end."""
EARLY_SECONDS = 0.0005
"""Due so soon is due now: a shorter sleep would take longer than that."""


@dataclass(frozen=True, slots=True)
class Sent:
    """How the sending went. `late_seconds_max`: how far the sender itself fell behind; `cut_short`: told to end."""

    count: int
    late_seconds_max: float
    cut_short: bool


def send_open_loop(
    due_seconds: Sequence[float],
    send: Callable[[int], None],
    *,
    monotonic: Callable[[], float],
    wait: Callable[[float], object],
    give_up: Callable[[], bool],
) -> Sent:
    """Call `send(number)` at each due time (seconds after now), all that is late at once. `give_up` is asked between
    waits, and while it is late at most every tenth of a second."""
    started = asked = monotonic()
    late = 0.0
    for number, due in enumerate(due_seconds):
        while True:
            now = monotonic()
            if now - asked >= SLEEP_SECONDS_MAX:
                asked = now
                if give_up():
                    return Sent(number, late, cut_short=True)
            pause = started + due - now
            if pause <= EARLY_SECONDS:
                break
            wait(min(pause, SLEEP_SECONDS_MAX))
        late = max(late, -pause)
        send(number)
    return Sent(len(due_seconds), late, cut_short=False)
