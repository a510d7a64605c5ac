"""Where windows of a telemetry partition begin and end, on a clock that may go back; no two are the same. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

RETURNS_TOLD_APART = 30
"""So often the clock may go back before two windows of one time could begin at the same millisecond."""


class WindowCuts:
    """The open window's bounds, epoch milliseconds; `end_ms` 0: none was opened yet.

    Ends are multiples of the length. Where the clock went back, times come that it had shown before: a window of
    those begins a millisecond later for each time that it went back, or its rows would be taken for those of the
    window that is stored. The widest step ahead is remembered as a gap of times that were never shown. It is there
    that a clock lands which was only wrong for a while, and there windows are cut as in all other partitions.
    """

    __slots__ = ("_gap_end_ms", "_gap_start_ms", "_returns", "_shown_ms", "end_ms", "start_ms")

    def __init__(self) -> None:
        self.start_ms = self.end_ms = 0
        self._shown_ms = 0
        """The latest end of a window that was opened."""
        self._gap_start_ms = self._gap_end_ms = 0
        self._returns = 0

    def next(self, now_ms: int, length_ms: int) -> None:
        """The open window is over: open the one of `now_ms`, not before its end."""
        if self._gap_start_ms < self.end_ms <= self._gap_end_ms:
            self._gap_start_ms = self.end_ms
        self._open(now_ms, length_ms, self.end_ms)

    def go_back(self, now_ms: int, length_ms: int) -> None:
        """The clock went back to `now_ms`: the open window, with what it holds, is now the one of that time."""
        self._returns += 1
        self._open(now_ms, length_ms, 0)

    def entries(self) -> list[int]:
        """The state: six whole numbers, the bounds first."""
        return [self.start_ms, self.end_ms, self._shown_ms, self._gap_start_ms, self._gap_end_ms, self._returns]

    def restore(self, entries: Iterable[Any]) -> None:
        """Take over what `entries` gave; of an earlier version, the bounds alone. Raises ValueError when broken."""
        start_ms, end_ms, *more = numbers = list(entries)
        if any(type(number) is not int or number < 0 for number in numbers) or start_ms > end_ms:
            raise ValueError(f"windows' bounds: {numbers!r}")
        self.start_ms, self.end_ms = start_ms, end_ms
        self._shown_ms, self._gap_start_ms, self._gap_end_ms, self._returns = more or (end_ms, 0, 0, 0)

    def _open(self, now_ms: int, length_ms: int, after_ms: int) -> None:
        end_ms = (now_ms // length_ms + 1) * length_ms
        start_ms = max(end_ms - length_ms, after_ms)
        in_gap = self._gap_start_ms <= start_ms and end_ms <= self._gap_end_ms
        if end_ms <= self._shown_ms and not in_gap:
            start_ms = min(start_ms + self._returns % RETURNS_TOLD_APART, end_ms - 1)
        if self._shown_ms and start_ms - self._shown_ms > self._gap_end_ms - self._gap_start_ms:
            self._gap_start_ms, self._gap_end_ms = self._shown_ms, start_ms
        self._shown_ms = max(self._shown_ms, end_ms)
        self.start_ms, self.end_ms = start_ms, end_ms
