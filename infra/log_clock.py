"""The time of a log from its records' append times: it never runs backwards, and one odd record does not move it far.

Pure: a function of the records alone, so a replay reads the same time. Owns what is believed; cuts no windows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

AHEAD_MS_MAX = 3_600_000
"""A step ahead that one record alone is believed: an hour. While the product runs, an idle partition gets a tick every
second; nothing may have been written for hours only where all of it was off. A wrong step below that is taken back."""
BEHIND_MS_MAX = 300_000
"""How far append times may fall back without meaning anything: brokers' clocks differ, and another one leads. The time
waits for them. Five minutes, as stage 2 grants a partial window: it is the longest that windows can stand still."""
AGREEING_RECORDS = 3
"""Records in a row that must tell of a new time. One or two come about by themselves, with one request of a producer
that a clock was wrong for; with more, an idle partition waits for that many ticks."""
LATEST_MS = 7_258_118_400_000
"""2200-01-01: no later time is ever believed, since the tables' times end in 2299."""


class LogClock:
    """Epoch milliseconds of the last time that is believed; 0: nothing was read yet, and the first record is believed.

    A record up to `AHEAD_MS_MAX` ahead moves the time, one up to `BEHIND_MS_MAX` behind does not. Others are doubted
    until `AGREEING_RECORDS` follow each other, all ahead or all behind, and none before the one before it: then the
    time is theirs, also where it goes back.

    `stream_jobs.detectors.clock` believes the third, too, and is another rule for another question: how long it is
    since a series' last point, and not what time it is. Here records come within seconds, from brokers whose clocks
    differ: an hour ahead is far, five minutes back mean nothing, and so much may lie between records that agree. A
    series may have a point a week: what is far follows from its usual interval, and a time before the last is late.
    """

    __slots__ = ("_doubted", "_doubted_ms", "now_ms")

    def __init__(self) -> None:
        self.now_ms = 0
        self._doubted_ms = self._doubted = 0

    @property
    def is_doubting(self) -> bool:
        """Whether the last record is not believed yet."""
        return self._doubted > 0

    def read(self, append_ms: int) -> bool:
        """Note the append time of the next record, epoch milliseconds. Returns whether the time went back."""
        now_ms = self.now_ms
        step_ms = append_ms - now_ms
        if -BEHIND_MS_MAX <= step_ms <= AHEAD_MS_MAX or (not now_ms and append_ms <= LATEST_MS):
            self._doubted = self._doubted_ms = 0
            if step_ms > 0:
                self.now_ms = append_ms
            return False
        return append_ms <= LATEST_MS and self._doubt(max(0, append_ms), now_ms)

    def _doubt(self, append_ms: int, now_ms: int) -> bool:
        agrees = (append_ms > now_ms) == (self._doubted_ms > now_ms) and append_ms >= self._doubted_ms - BEHIND_MS_MAX
        self._doubted = self._doubted + 1 if self._doubted and agrees else 1
        self._doubted_ms = append_ms
        if self._doubted < AGREEING_RECORDS:
            return False
        self.now_ms, self._doubted, self._doubted_ms = append_ms, 0, 0
        return append_ms < now_ms

    def entries(self) -> list[int]:
        """The state: three whole numbers."""
        return [self.now_ms, self._doubted_ms, self._doubted]

    def restore(self, entries: Iterable[Any]) -> None:
        """Take over what `entries` gave. Raises ValueError when it is broken."""
        now_ms, doubted_ms, doubted = entries
        numbers = (now_ms, doubted_ms, doubted)
        if any(type(number) is not int or number < 0 for number in numbers) or doubted >= AGREEING_RECORDS:
            raise ValueError(f"clock of a log: {numbers!r}")
        self.now_ms, self._doubted_ms, self._doubted = numbers
