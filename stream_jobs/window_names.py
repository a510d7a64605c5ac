"""Under which names a topic's windows are stored where sources' clocks go back: none takes another's place.

Pure. Knows which times windows were stored for; which of them are open or late still is asked of the caller.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from stream_jobs.window_cuts import RETURNS_TOLD_APART
from stream_jobs.window_rows import WindowId

RENAMED_MS, NAMES_MAX = RETURNS_TOLD_APART, 30
"""A window gets its start moved by so much, once to `NAMES_MAX` times, where another may be stored under its name:
beyond what `WindowCuts` adds, and together less than a second, the shortest window."""
RENAMED_MAX = 500
"""Windows remembered with the name that they got last, while a source may still bring its share of them."""


class WindowNames:
    """Names of the windows of one telemetry topic.

    Sources whose clocks went back bring a window of the past under one name, its bounds, each at its own time. The
    window may be stored and forgotten by then: what comes would be stored in its place, as the same revision. So
    windows of times that were stored before, of which none is known, get a later start. Sources whose clocks went
    back together share the name while the window is known under it; then the next name is taken.
    """

    __slots__ = ("_first", "_renamed", "_stored_to_ms", "_topic_id")

    def __init__(self, topic_id: str, stored_to_ms: int = 0, first: int = 0) -> None:
        """`stored_to_ms`: the latest end of a window that was closed, epoch milliseconds, though times may have gone
        back since. `first`: the number of the name that a window gets which is not remembered, above those of all that
        are forgotten; 0: no clock went back yet, and every window has its own name."""
        self._topic_id = topic_id
        self._stored_to_ms, self._first = stored_to_ms, first
        self._renamed: dict[tuple[int, int], int] = {}
        """By the bounds that sources give, the last name's number; that used last is last."""

    def went_back(self) -> None:
        """A source's clock went back."""
        self._first = max(1, self._first)

    def stored(self, through_ms: int) -> None:
        """Windows are closed up to here, epoch milliseconds."""
        self._stored_to_ms = max(through_ms, self._stored_to_ms)

    def named(self, start_ms: int, end_ms: int, is_known: Callable[[WindowId], bool]) -> WindowId:
        """The window of which a source brings its share, by the bounds that the source gives, epoch milliseconds.
        `is_known`: whether a window is open or late, so that the share joins it."""
        window = WindowId(self._topic_id, start_ms, end_ms)
        if not self._first or end_ms > self._stored_to_ms or is_known(window):
            return window
        last = self._renamed.pop((start_ms, end_ms), None)
        number = self._first if last is None else last
        renamed = _renamed(window, number)
        if last is not None and not is_known(renamed):  # what is stored under that name would be replaced
            number += 1
            renamed = _renamed(window, number)
        self._remember(start_ms, end_ms, number)
        return renamed

    def numbers(self) -> tuple[int, int]:
        """The state, beside `entries`: `stored_to_ms` and `first`, as the constructor takes them."""
        return self._stored_to_ms, self._first

    def entries(self) -> list[list[int]]:
        """The state of renamed windows: start and end as sources give them, and the last name's number."""
        return [[*bounds, number] for bounds, number in self._renamed.items()]

    def restore(self, entry: list[Any]) -> None:
        """Take one of `entries` over, in their order. Raises ValueError when it is broken."""
        start_ms, end_ms, number = entry
        self._remember(start_ms, end_ms, number)

    def _remember(self, start_ms: int, end_ms: int, number: int) -> None:
        self._renamed[start_ms, end_ms] = number
        if len(self._renamed) > RENAMED_MAX:
            forgotten = self._renamed.pop(next(iter(self._renamed)))
            self._first = max(self._first, forgotten + 1)


def _renamed(window: WindowId, number: int) -> WindowId:
    shift_ms = (1 + number % NAMES_MAX) * RENAMED_MS
    return WindowId(window.topic_id, min(window.start_ms + shift_ms, window.end_ms - 1), window.end_ms)
