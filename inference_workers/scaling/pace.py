"""What one worker can do, in requests a second, learnt from what it does. Pure.

A worker that always had requests waiting did all it could: what it got done is its rate. One that had time to spare
shows only how long it computed for what it did; small batches cost more a request, so that is believed upwards only,
unless it computed most of the time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

WINDOW_SECONDS = 5.0
"""Long enough for some batches of a slow model, short enough to follow a slowdown in two looks of the scaler."""
BUSY_SHARE, SEEN_SHARE = 0.5, 0.02
"""Computing for so much of a window is evidence both ways, for so little it is none."""
WEIGHT = 0.5
"""Of a new window against what was known."""


@dataclass(slots=True)
class Pace:
    """Written by the loop's thread; `per_second` may be read by others."""

    per_second: float | None = None
    """None: not known yet."""
    _began: float | None = field(default=None, init=False)
    _done: int = field(default=0, init=False)
    _busy_seconds: float = field(default=0.0, init=False)
    _waiting_min: int = field(default=0, init=False)
    _share: float = field(default=1.0, init=False)  # of the rate while computing that comes out when it is busy

    def turn(self, waiting: int, now: float) -> None:
        """The loop came round; so many requests wait for the model."""
        if self._began is None:
            self._restart(waiting, now)
        elif now - self._began >= WINDOW_SECONDS:
            self._learn(now - self._began)
            self._restart(waiting, now)
        elif waiting < self._waiting_min:
            self._waiting_min = waiting

    def done(self, requests: int, seconds: float = 0.0) -> None:
        """So many requests were answered, the model computed for so long; 0 for those that needed no model."""
        self._done += requests
        self._busy_seconds += seconds

    def _restart(self, waiting: int, now: float) -> None:
        self._began, self._waiting_min, self._done, self._busy_seconds = now, waiting, 0, 0.0

    def _learn(self, seconds: float) -> None:
        if not self._done:
            return  # it was idle, or it hangs: readiness says which
        got_done = self._done / seconds
        computing = self._done / self._busy_seconds if self._busy_seconds > 0 else None
        if self._waiting_min > 0:
            self._blend(got_done)
            if computing is not None:
                self._share += WEIGHT * (min(1.0, got_done / computing) - self._share)
        elif computing is not None and self._busy_seconds >= SEEN_SHARE * seconds:
            could = self._share * computing
            if self._busy_seconds >= BUSY_SHARE * seconds or could > (self.per_second or 0.0):
                self._blend(could)
        if self.per_second is not None:
            self.per_second = max(self.per_second, got_done)

    def _blend(self, rate: float) -> None:
        self.per_second = rate if self.per_second is None else self.per_second + WEIGHT * (rate - self.per_second)
