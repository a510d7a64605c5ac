"""Which windows are open, complete or late: the progress of every source partition and the partials not yet closed.

Knows nothing of scores: it merges nothing, and hands closed windows out share by share. Everything it keeps is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from infra.log_clock import BEHIND_MS_MAX
from schemas.windows import PartialWindowsClosed
from stream_jobs.settings import WAITING_WINDOWS_MAX
from stream_jobs.window_names import WindowNames
from stream_jobs.window_rows import Share, WindowId, name_of
from stream_jobs.window_shares import WindowShares, late_group, share_group, share_of, window_of

TOPICS_MAX = 4
"""Telemetry topics (by id) remembered; more than one only after the topic was made anew."""
OPEN_SHARES_MAX, LATE_SHARES_MAX = 6_000, 2_000
"""Shares kept of open and of late windows. Each is a state page, and the list of all pages must fit one record of 1 MB
at about 75 bytes a page (a late window has one page more)."""
OPEN_SERIES_MAX, LATE_SERIES_MAX = 100_000, 5_000
"""Partial series kept of open and of late windows; about 1.5 KB each. The last open window is always kept."""


@dataclass(slots=True)
class _Progress:
    """How far a source is: the last message applied, and what it has closed with all chunks."""

    closed_through_ms: int = 0
    chunk: int = -1
    complete_through_ms: int = 0
    next_offset: int = -1
    """Of the last message applied, which tells it from repeats; -1: not known, of a state of before."""

    def has(self, event: PartialWindowsClosed) -> bool:
        """Whether the event was applied before. Its times do not say so: the source's clock may have gone back."""
        if self.next_offset < 0:
            return (event.closed_through_ms, event.chunk) <= (self.closed_through_ms, self.chunk)
        return (event.next_offset, event.chunk) <= (self.next_offset, self.chunk)

    def goes_back(self, event: PartialWindowsClosed) -> bool:
        """Whether the source's clock went back since, perhaps to be ahead again by the window's end."""
        if self.next_offset < 0:
            return event.closed_through_ms < self.closed_through_ms
        is_same = event.next_offset == self.next_offset  # one more chunk of a window
        return not is_same and event.window_end_ms <= self.closed_through_ms


@dataclass(frozen=True, slots=True)
class Closed:
    """A window to be stored and scored. `complete`: every source partition had closed it. `early`: it would have
    waited longer, but too many were open."""

    window: WindowId
    shares: Mapping[int, Share]
    complete: bool
    early: bool


class OpenWindows:
    """Windows by topic id, start and end. `take` a partial, then `close` what has become due, in order of time.

    A window waits for the sources that have not passed it, until it was first delivered, by another source, more than
    the allowed lateness ago. "Ago" is in append time of the partials' own log, which is the same in every replay; the
    times in the partials say nothing of it: after an outage, one idle source is at now while the others, with hours
    to catch up, are not late. For the same reason a gap in the log's time, in which nobody wrote, counts only up to
    `gap_ms_max`.
    """

    def __init__(self, source_partitions: int, allowed_lateness_ms: int, gap_ms_max: int) -> None:
        self.source_partitions = source_partitions
        self.allowed_lateness_ms, self.gap_ms_max = allowed_lateness_ms, gap_ms_max
        self.late = WindowShares()
        """Windows that were closed before all of their sources had."""
        self.revisions: dict[WindowId, dict[str, int]] = {}
        """For each late window, by series, the number of its last revision."""
        self.late_dropped = 0
        self.set_back_ms: int | None = None
        """Where the sources' clocks are now, if `close` found that all of them went back. For the owner to forget."""
        self.changed: set[str] = set()
        """Page groups changed since the owner last looked."""
        self._open = WindowShares()
        self._opened: dict[WindowId, int] = {}
        """When each open window was first delivered, in waited time."""
        self._log_ms = self._waited_ms = 0
        self._late_groups: dict[str, WindowId] = {}
        self._sources: dict[str, dict[int, _Progress]] = {}
        self._closed_to: dict[str, int] = {}
        self._forgotten_to: dict[str, int] = {}
        self._names: dict[str, WindowNames] = {}

    def take(self, event: PartialWindowsClosed, appended_ms: int) -> tuple[WindowId, list[str]] | None:
        """Take a partial in; None when it was taken before. Returns its window and the series that it revises.

        `appended_ms` is the append time of the partial's record. A source's partials must come in their order, with
        repeats or without: the outbox sees to it.
        """
        topic_id, number = event.source_topic_id, event.source_partition
        progress = self._sources_of(topic_id).setdefault(number, _Progress())
        if progress.has(event):
            return None
        if progress.goes_back(event):
            self._names[topic_id].went_back()
        progress.closed_through_ms, progress.chunk = event.closed_through_ms, event.chunk
        progress.next_offset = event.next_offset
        if event.chunk == event.chunks - 1:
            progress.complete_through_ms = event.closed_through_ms
        self._pass_time(appended_ms)
        window = self._names[topic_id].named(event.window_start_ms, event.window_end_ms, self._is_known)
        is_new = window.end_ms > self._closed_to[topic_id] and window not in self.late
        if is_new or window in self._open:  # one of the same end, with another start, may have been closed
            self._opened.setdefault(window, self._waited_ms)
            self._touch(self._open.add(window, event))
            return window, []
        return window, self._revise(window, event)

    def close(self) -> Iterator[Closed]:
        """Windows that every source has passed, that have waited for long enough, or that are too many."""
        newest = {
            topic_id: max((one.closed_through_ms for one in sources.values()), default=0)
            for topic_id, sources in self._sources.items()
        }
        for topic_id, newest_ms in newest.items():
            yield from self._follow_back(topic_id, newest_ms)
        complete_to = {topic_id: self._complete_to(sources) for topic_id, sources in self._sources.items()}
        for topic_id, through_ms in complete_to.items():
            self._closed_to[topic_id] = max(through_ms, self._closed_to[topic_id])
            self._names[topic_id].stored(through_ms)
        waiting: set[str] = set()
        for window in sorted(self._open, key=_by_time):
            complete = window.end_ms <= complete_to[window.topic_id]
            due = complete or (window.topic_id not in waiting and self._waited_enough(window))
            if not due and not self._too_many_open():
                waiting.add(window.topic_id)  # those after it wait for their turn
                continue
            yield self._close(window, complete, not due)
        self._forget_late(complete_to, newest)

    def progress(self) -> list[list[Any]]:
        """State of everything but the shares themselves, as rows of plain values."""
        rows: list[list[Any]] = [["dropped", "", self.late_dropped], ["clock", "", self._log_ms, self._waited_ms]]
        for topic_id, sources in self._sources.items():
            names = self._names[topic_id]
            rows.append(["topic", topic_id, self._closed_to[topic_id], self._forgotten_to[topic_id], *names.numbers()])
            rows.extend(["renamed", topic_id, *entry] for entry in names.entries())
            for number in sorted(sources):
                one = sources[number]
                rows.append(["source", topic_id, number, *astuple(one)])
        rows.extend(["open", *_name(window), self._opened[window]] for window in sorted(self._open, key=_by_time))
        return rows

    def groups(self) -> list[str]:
        """Names of all page groups of windows."""
        return [*self._open.groups(), *self.late.groups(), *self._late_groups]

    def entries(self, group: str) -> list[Any]:
        """The state of a group; empty when it is gone."""
        window = self._late_groups.get(group)
        if window is None:
            return self._open.entries(group) or self.late.entries(group)
        return [_name(window), *([series, number] for series, number in sorted(self.revisions[window].items()))]

    def restore(self, progress: list[Any], groups: Mapping[str, list[Any]]) -> None:
        """Take over what `progress` and `entries` gave. Raises ValueError, TypeError or KeyError when it is broken."""
        for kind, topic_id, *numbers in progress:
            if type(topic_id) is not str or any(type(number) is not int for number in numbers):
                raise ValueError(f"progress: {kind!r} with values of the wrong type")
            if kind == "source":
                self._sources[topic_id][numbers[0]] = _Progress(*numbers[1:])
            elif kind == "topic":
                self._sources[topic_id] = {}
                closed_to, forgotten_to, *more = numbers
                self._closed_to[topic_id], self._forgotten_to[topic_id] = closed_to, forgotten_to
                stored_to, first = more or (closed_to, 0)  # a state of before has no more
                self._names[topic_id] = WindowNames(topic_id, stored_to, first)
            elif kind == "renamed":
                self._names[topic_id].restore(numbers)
            elif kind == "open":
                start_ms, end_ms, opened_ms = numbers
                window = WindowId(topic_id, start_ms, end_ms)
                self._open.put(window, {})
                self._opened[window] = opened_ms
            elif kind == "clock":
                self._log_ms, self._waited_ms = numbers
            else:
                (self.late_dropped,) = numbers
        for group in sorted(name for name in groups if name.startswith("late-")):
            name, *revisions = groups[group]
            window = window_of(name)
            self.late.put(window, {})
            self.revisions[window], self._late_groups[group] = dict(revisions), window
        for group in sorted(name for name in groups if name.startswith("window-")):
            window, number, share = share_of(groups[group])
            shelf = self.late if window in self.revisions else self._open
            if window not in shelf:
                raise ValueError(f"share of {window}: the window is neither open nor late")
            shelf.put(window, {number: share})

    def _is_known(self, window: WindowId) -> bool:
        return window in self._open or window in self.late

    def _follow_back(self, topic_id: str, newest_ms: int) -> Iterator[Closed]:
        """No window that is open, and none that was closed, lies ahead of all sources, unless all of them went back.
        Then those that are open are closed as they are, and it is not too late for new ones."""
        ahead = sorted((one for one in self._open if one.topic_id == topic_id and one.end_ms > newest_ms), key=_by_time)
        closed_to = self._closed_to[topic_id]
        if not ahead and closed_to <= newest_ms:
            return
        for window in ahead:
            yield self._close(window, complete=False, early=False)
        self._closed_to[topic_id], self.set_back_ms = min(newest_ms, closed_to), newest_ms
        self._forgotten_to[topic_id] = min(newest_ms, self._forgotten_to[topic_id])

    def _pass_time(self, appended_ms: int) -> None:
        step_ms = appended_ms - self._log_ms
        self._waited_ms += min(max(0, step_ms), self.gap_ms_max)
        if step_ms > 0 or step_ms < -BEHIND_MS_MAX:  # the clock was set back, or a record was far ahead
            self._log_ms = appended_ms

    def _waited_enough(self, window: WindowId) -> bool:
        newest_ms = max(one.complete_through_ms for one in self._sources[window.topic_id].values())
        return window.end_ms <= newest_ms and self._opened[window] + self.allowed_lateness_ms <= self._waited_ms

    def _too_many_open(self) -> bool:
        count, shares, series = len(self._open), self._open.share_count, self._open.series_count
        return count > 1 and (count > WAITING_WINDOWS_MAX or shares > OPEN_SHARES_MAX or series > OPEN_SERIES_MAX)

    def _close(self, window: WindowId, complete: bool, early: bool) -> Closed:
        del self._opened[window]
        shares = self._open.pop(window)
        self._closed_to[window.topic_id] = max(window.end_ms, self._closed_to[window.topic_id])
        self._names[window.topic_id].stored(window.end_ms)
        if complete:
            self._drop_pages(window, shares)
        elif shares:
            self._keep_late(window).put(window, shares)
        return Closed(window, shares, complete, early)

    def _sources_of(self, topic_id: str) -> dict[int, _Progress]:
        sources = self._sources.get(topic_id)
        if sources is None:
            if len(self._sources) >= TOPICS_MAX:
                self._forget_topic(next(iter(self._sources)))
            sources = self._sources[topic_id] = {}
            self._closed_to[topic_id] = self._forgotten_to[topic_id] = 0
            self._names[topic_id] = WindowNames(topic_id)
        return sources

    def _complete_to(self, sources: Mapping[int, _Progress]) -> int:
        if any(number not in sources for number in range(self.source_partitions)):
            return 0
        return min(sources[number].complete_through_ms for number in range(self.source_partitions))

    def _keep_late(self, window: WindowId) -> WindowShares:
        self.revisions.setdefault(window, {})
        self._late_groups[late_group(window)] = window
        self._touch(late_group(window))
        return self.late

    def _revise(self, window: WindowId, event: PartialWindowsClosed) -> list[str]:
        if not event.series:
            return []
        is_forgotten = window.end_ms <= self._forgotten_to[window.topic_id]
        if is_forgotten and window.start_ms == event.window_start_ms:  # under a new name it is in nobody's place
            self.late_dropped += len(event.series)
            return []
        self._touch(self._keep_late(window).add(window, event))
        revisions = self.revisions[window]
        revised = sorted(name_of(one.key) for one in event.series)
        for series in revised:
            revisions[series] = revisions.get(series, 0) + 1
        return revised

    def _forget_late(self, complete_to: Mapping[str, int], newest: Mapping[str, int]) -> None:
        """Forget late windows that are complete by now, and while there are too many those that clocks which went back
        left ahead of all sources, then the oldest."""
        for window in sorted(self.late, key=lambda one: (one.end_ms <= newest[one.topic_id], _by_time(one))):
            fit = self.late.series_count <= LATE_SERIES_MAX and self.late.share_count <= LATE_SHARES_MAX
            if fit and window.end_ms > complete_to[window.topic_id]:
                continue
            if complete_to[window.topic_id] < window.end_ms <= newest[window.topic_id]:
                self._forgotten_to[window.topic_id] = max(self._forgotten_to[window.topic_id], window.end_ms)
            self._drop_late(window)

    def _forget_topic(self, topic_id: str) -> None:
        for window in [one for one in self._open if one.topic_id == topic_id]:
            del self._opened[window]
            self._drop_pages(window, self._open.pop(window))
        for window in [one for one in self.late if one.topic_id == topic_id]:
            self._drop_late(window)
        for kept in (self._sources, self._closed_to, self._forgotten_to, self._names):
            del kept[topic_id]

    def _drop_late(self, window: WindowId) -> None:
        del self.revisions[window], self._late_groups[late_group(window)]
        self._touch(late_group(window))
        self._drop_pages(window, self.late.pop(window))

    def _drop_pages(self, window: WindowId, shares: Mapping[int, Share]) -> None:
        self.changed.update(share_group(window, number) for number in shares)

    def _touch(self, group: str | None) -> None:
        if group is not None:
            self.changed.add(group)


def _by_time(window: WindowId) -> tuple[int, int, str]:
    return window.end_ms, window.start_ms, window.topic_id


def _name(window: WindowId) -> list[Any]:
    return [window.topic_id, window.start_ms, window.end_ms]
