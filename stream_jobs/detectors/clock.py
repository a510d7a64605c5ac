"""Whether the time of a point is believed: one rule of all detectors and triggers. Pure; compiled loops use it, too."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from stream_jobs.detectors.base import Floats

LAST_MS, GAP_FROM_MS, GAP_TO_MS, JUMP_MS, JUMP_COUNT = range(5)
"""A clock's numbers: time of the last point believed, start and end of the last long gap between two, time of the last
point that was not believed, and how many of those there were in a row. What there was not is 0."""
NUMBERS = 5
NOT_BELIEVED = -1
FAR_MS = 4 * 86_400_000
"""A step of a long weekend is no jump; nor is one of FAR_INTERVALS usual intervals (of hours, a week and a day), nor
one forward of FAR_GAPS times the last long gap: who was away for weeks may be so again."""
FAR_INTERVALS, FAR_GAPS = 200, 2
GAP_INTERVALS = 10
"""A gap is long from so many usual intervals on."""
BELIEVED_AT = 3
"""The number in a row of a jump's point that is believed."""


def passed_ms(clock: MutableSequence[Any] | Floats, usual_ms: float, time_ms: float) -> Any:
    """Take in the time of a point of a series that has had one. Returns NOT_BELIEVED, or milliseconds since the last.

    `clock` holds NUMBERS numbers and is changed in place; `usual_ms` is the usual interval, 0 while it is not known.
    A step that is not FAR forward is believed. A time that is not FAR before the last one is late, and nothing is noted
    of it. Anything else is a jump of the clock, either way: as if it had never come when the next point goes on as
    before, and believed at its third point in a row. So is a time within the last long gap, which was perhaps none, but
    a clock that was ahead. The first step after a jump is the one from the jump's point before.

    It fails on a clock that is set back for good by less than FAR: its points are late for as long.

    What time it is by a log's records is another question, with a rule of its own: `infra.log_clock.LogClock` says why.
    """
    step = time_ms - clock[LAST_MS]
    far = max(FAR_MS, FAR_INTERVALS * usual_ms)
    if 0 < step <= max(far, FAR_GAPS * (clock[GAP_TO_MS] - clock[GAP_FROM_MS])):
        if step > GAP_INTERVALS * usual_ms:
            clock[GAP_FROM_MS], clock[GAP_TO_MS] = clock[LAST_MS], time_ms
    elif -far <= step <= 0 and not clock[GAP_FROM_MS] < time_ms < clock[GAP_TO_MS]:
        return NOT_BELIEVED
    else:
        ahead = time_ms - clock[JUMP_MS]
        if clock[JUMP_COUNT] == 0 or ahead < -GAP_INTERVALS * usual_ms:
            clock[JUMP_MS], clock[JUMP_COUNT] = time_ms, 1
            return NOT_BELIEVED
        if ahead <= 0:  # late by the clock that jumped
            return NOT_BELIEVED
        if clock[JUMP_COUNT] + 1 < BELIEVED_AT:
            clock[JUMP_MS] = time_ms
            clock[JUMP_COUNT] += 1
            return NOT_BELIEVED
        is_gap = clock[JUMP_MS] > clock[LAST_MS]
        clock[GAP_FROM_MS] = clock[LAST_MS] if is_gap else 0
        clock[GAP_TO_MS] = clock[JUMP_MS] if is_gap else 0
        step = ahead
    clock[LAST_MS], clock[JUMP_MS], clock[JUMP_COUNT] = time_ms, 0, 0
    return step


class Clock:
    """The clock of a trigger's series, in whole milliseconds since 1970. `usual_ms`: how long no news is usual."""

    __slots__ = ("_doubts", "_usual_ms", "last_ms")  # there are thousands of them

    def __init__(self, usual_ms: int) -> None:
        self._usual_ms = usual_ms
        self.last_ms = -1
        """Of the last point that was believed; -1: there was none."""
        self._doubts = _NONE

    def passed_ms(self, time_ms: int) -> int:
        """What `take` would return."""
        return 0 if self.last_ms < 0 else int(passed_ms([self.last_ms, *self._doubts], self._usual_ms, time_ms))

    def take(self, time_ms: int) -> int:
        """Take in a point's time. Returns NOT_BELIEVED, or milliseconds since the point before: 0 of the first."""
        if self.last_ms < 0:
            self.last_ms = time_ms
            return 0
        numbers = [self.last_ms, *self._doubts]
        passed = int(passed_ms(numbers, self._usual_ms, time_ms))
        self.last_ms, doubts = numbers[LAST_MS], tuple(numbers[GAP_FROM_MS:])
        self._doubts = doubts if any(doubts) else _NONE
        return passed

    def confirm(self) -> None:
        """A point of the last one's time came again: the clock has not jumped."""
        if self._doubts[JUMP_COUNT - 1]:
            self._doubts = (*self._doubts[: JUMP_MS - 1], 0, 0)

    def state(self) -> int | list[int]:
        """The time of the last point, with the other numbers where one is not 0; exact through JSON."""
        return [self.last_ms, *self._doubts] if any(self._doubts) else self.last_ms

    def restore(self, state: Any) -> None:
        """Take over what `state` gave. Raises ValueError, and changes nothing, when it is broken."""
        numbers = [state, *_NONE] if type(state) is int else state
        if type(numbers) is not list or [type(one) for one in numbers] != [int] * NUMBERS:
            raise ValueError(f"clock: not {NUMBERS} whole numbers")
        if not 0 <= numbers[JUMP_COUNT] < BELIEVED_AT:
            raise ValueError(f"clock: {numbers[JUMP_COUNT]} points in a row not believed")
        self.last_ms, self._doubts = numbers[LAST_MS], tuple(numbers[GAP_FROM_MS:])


_NONE: tuple[int, ...] = (0,) * (NUMBERS - 1)
