"""Stage 2, one partition of the windows topic: merges partial windows of its series, closes, stores and scores them.

Pure: a function of the partition's log. What is a repeat, complete, late or forgotten is `open_windows`' to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, MutableMapping, Sequence
from typing import Any

import orjson

from infra.log_clock import BEHIND_MS_MAX, LATEST_MS
from infra.ports import Record
from schemas.alerts import AlertChanged
from schemas.base import DecodeError, Reason, decode
from schemas.newer import unknown_kind
from schemas.owed import OWED_KINDS, RequestsOwed
from schemas.topics import KINDS, WINDOWS
from schemas.windows import WINDOW_KINDS, PartialWindowsClosed, SeriesKey
from stream_jobs.bound_notices import BoundNotices
from stream_jobs.decide import given_up
from stream_jobs.entry_pages import Entry, pack_entries, unpack_entries
from stream_jobs.ledger_watch import LedgerWatch
from stream_jobs.metrics import scoring_of
from stream_jobs.open_windows import Closed, OpenWindows
from stream_jobs.pages import COLD, PagedStage, PageTracker, pack, unpack
from stream_jobs.parked_series import OPEN
from stream_jobs.partial_events import target_of
from stream_jobs.renewed import Renewed
from stream_jobs.series_book import SeriesBook
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Effects, Limit
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import WindowId, merged

CLOCKS_APART_MS_MAX = 300_000
"""How far a partial may be ahead of its own record's append time. It is closed after the telemetry that it covers was
appended, so more than two brokers' clocks differ by is not to be believed: windows of other sources would come late for
it. Five minutes, because refusing a real partial loses a window. Where only the time of what comes next is so far
ahead, the window is taken, and that time is not."""
_PROGRESS, _LOST, _BUDGET, _LEDGER, _NOTICES = "progress", "lost", "budget", "ledger", "notices"

_KINDS: tuple[type[PartialWindowsClosed | RequestsOwed], ...] = (*WINDOW_KINDS, *OWED_KINDS)


class WindowStage(PagedStage):
    """A `Stage` over one partition of the windows topic. `source_topic_id` is the telemetry topic's id, and
    `source_partitions` how many partitions it has: what says it comes from elsewhere is refused."""

    def __init__(
        self,
        settings: JobSettings,
        *,
        partition: int,
        source_topic_id: str,
        source_partitions: int,
        alerts_a_week: int | None = None,
        next_offset: int = 0,
        new_shelf: Callable[[], MutableMapping[str, bytes]] = dict,
        partitions: int | None = None,
    ) -> None:
        """`alerts_a_week`: this partition's share of the budget; None: all of it. `new_shelf` makes the place where
        pages of parked series lie. `partitions`: of the windows topic; None: whatever comes here belongs here."""
        self.partitions = partitions
        self.settings, self.partition, self._new_shelf = settings, partition, new_shelf
        self.alerts_a_week = settings.alerts_a_week if alerts_a_week is None else alerts_a_week
        self.source_topic_id, self.source_partitions = source_topic_id, source_partitions
        self._pages = PageTracker(self._encode)
        self._windows: OpenWindows
        self._book: SeriesBook
        self._ledger: LedgerWatch
        self._lost: list[AlertChanged]
        self._parking: bytes | None = None
        self._untold: Renewed | None = None
        self._bounds: BoundNotices
        self._clear(next_offset)

    @property
    def late_dropped(self) -> int:
        """Partial series that came so late that their window was forgotten."""
        return self._windows.late_dropped

    def adopt(self, alerts: Iterable[AlertChanged]) -> None:
        """Take charge of open incidents of which the state is lost. The first window after an incident's last change
        ends it, unless the log has told of it again by then. Those of which the state is there are left alone."""
        known = set(self._book.live.incidents()) | set(self._ledger.incidents())
        self._lost = [alert for alert in alerts if alert.incident_id not in known]
        self._pages.touch(_LOST)

    def tell_lost(self, reason: str) -> None:
        """See `Stage.tell_lost`."""
        states = self._book.live.states
        states.renewed = Renewed(reason, everything=True).after(states.renewed)
        self._pages.touch(_NOTICES)

    def apply(self, record: Record) -> Effects:
        """See `Stage.apply`. What a newer release says besides is passed over: to dead-letter each of a ledger's
        reports, one a second, would help nobody, as the next one says the same again."""
        try:
            event = self._event(record)
        except DecodeError as error:
            newer = unknown_kind(record.headers, KINDS) if error.reason is Reason.UNKNOWN_TYPE else None
            if newer is None:
                raise
            given = self.skip(record)
            given.passed_over = newer
            return given
        effects = WindowEffects()
        dropped, closed_ms = self._windows.late_dropped, None
        self._ledger.pass_time(record.timestamp_ms)
        if isinstance(event, RequestsOwed):
            self._ledger.take(event)
        else:
            closed_ms = self._take(event, record.timestamp_ms, effects)
        self._ledger.look(effects)
        given = Effects(late_series_dropped=self._windows.late_dropped - dropped)
        effects.into(given)
        self._bounds.reached(given.limits)
        if closed_ms is not None:
            given.events.extend(self._bounds.events(closed_ms))
            self._pages.touch(_NOTICES)
        self._touch_changed()
        self.next_offset = record.offset + 1
        return given

    def skip(self, record: Record) -> Effects:
        """See `Stage.skip`. The watermark here is what the partials say, so nothing else moves."""
        self.next_offset = record.offset + 1
        return Effects()

    def _take(self, event: PartialWindowsClosed, appended_ms: int, effects: WindowEffects) -> int | None:
        """Returns the end of the last window that is closed, if one is."""
        taken, closed_ms = self._windows.take(event, appended_ms), None
        if taken is None:
            return None
        window, revised = taken
        self._revise(window, revised, effects)
        for closed in self._windows.close():
            self._follow_back()
            self._close(closed, effects)
            closed_ms = closed.window.end_ms
        self._follow_back()
        self._pages.touch(_PROGRESS)
        return closed_ms

    def _follow_back(self) -> None:
        if self._windows.set_back_ms is not None:
            self._book.scoring.budget.go_back(self._windows.set_back_ms)
            self._windows.set_back_ms, self._book.scoring.budget_changed = None, True

    def _event(self, record: Record) -> PartialWindowsClosed | RequestsOwed:
        event = decode(record.headers, record.value, _KINDS).data
        if isinstance(event, RequestsOwed):
            return event
        if not event.window_start_ms < event.window_end_ms <= event.closed_through_ms:
            raise DecodeError(Reason.BAD_VALUE, "window_start_ms, window_end_ms and closed_through_ms do not rise")
        if event.chunk >= event.chunks or event.first_offset > event.next_offset:
            raise DecodeError(Reason.BAD_VALUE, "chunk is past the chunks, or first_offset past next_offset")
        if event.source_topic_id != self.source_topic_id or event.source_partition >= self.source_partitions:
            raise DecodeError(
                Reason.BAD_VALUE,
                f"source {event.source_topic_id}[{event.source_partition}]: the telemetry topic is "
                f"{self.source_topic_id}, with {self.source_partitions} partitions",
            )
        latest_ms = min(record.timestamp_ms, LATEST_MS) + CLOCKS_APART_MS_MAX
        if event.window_end_ms > latest_ms:
            ahead_ms = event.window_end_ms - record.timestamp_ms
            raise DecodeError(Reason.BAD_VALUE, f"window_end_ms is {ahead_ms} ms ahead of the record's append time")
        if event.closed_through_ms > latest_ms:
            return event.model_copy(update={"closed_through_ms": event.window_end_ms})
        return event

    def _revise(self, window: WindowId, revised: list[str], effects: WindowEffects) -> None:
        for series in revised:
            revision = self._windows.revisions[window][series]
            effects.correction(window, merged(window, series, self._windows.late[window], revision), revision)

    def _close(self, closed: Closed, effects: WindowEffects) -> None:
        names = sorted({name for share in closed.shares.values() for name in share.series})
        found = {name: merged(closed.window, name, closed.shares, 0) for name in names}
        for window in found.values():
            effects.window(window)
        effects.limit(Limit.OPEN_WINDOWS, int(closed.early))
        self._book.score(closed.window, found, closed.complete, effects)
        if self._lost:
            self._end_lost(closed.window.end_ms, effects)

    def _end_lost(self, at_ms: int, effects: WindowEffects) -> None:
        waiting = [alert for alert in self._lost if alert.incident_id not in effects.incidents]
        for alert in waiting:
            if alert.changed_ms < at_ms:
                effects.alert(given_up(alert, at_ms))
        self._lost = [alert for alert in waiting if alert.changed_ms >= at_ms]
        self._pages.touch(_LOST)

    def _touch_changed(self) -> None:
        for group in self._windows.changed:
            self._pages.touch(group)
        for number in self._book.live.changed:
            self._pages.touch(f"series-{number}")
        if self._book.scoring.budget_changed:
            self._pages.touch(_BUDGET)
            self._book.scoring.budget_changed = False
        for group in self._book.live.parked.changed:
            self._pages.touch(group)
        if self._ledger.changed:
            self._pages.touch(_LEDGER)
            self._ledger.changed = False
        self._windows.changed.clear()
        self._book.live.changed.clear()
        self._book.live.parked.changed.clear()

    def _clear(self, next_offset: int) -> None:
        self.next_offset = next_offset
        lateness_ms = self.settings.allowed_lateness_ms
        # While all is well there is a partial every window; a longer gap, and a window has only half used up its time.
        gap_ms_max = max(self.settings.window_ms, lateness_ms // 2)
        self._windows = OpenWindows(self.source_partitions, lateness_ms, gap_ms_max)
        idle_ms = round(self.settings.idle_seconds * 1000)
        scoring = scoring_of(self.settings, self.alerts_a_week)
        series_max, parked_max = self.settings.series_max, self.settings.parked_series_max
        shelf = self._new_shelf()
        behind_ms_max = max(BEHIND_MS_MAX, lateness_ms)  # so late the window of a topic made anew may come
        self._book = SeriesBook(
            scoring, series_max, idle_ms, self.partition, parked_max, shelf, self._owns, behind_ms_max
        )
        self._ledger, self._bounds = LedgerWatch(self.settings), BoundNotices(WINDOWS.name, self.partition)
        self._lost, self._parking, self._untold = [], None, None
        self._pages.restored({})
        self._pages.touch(_PROGRESS)

    def _owns(self, key: SeriesKey) -> bool:
        return self.partitions is None or target_of(key, self.partitions) == self.partition

    def _groups(self) -> list[str]:
        return [
            _PROGRESS,
            _LOST,
            _BUDGET,
            _LEDGER,
            _NOTICES,
            *self._windows.groups(),
            *(f"series-{number}" for number in self._book.live.groups()),
            *self._book.live.parked.groups(),
        ]

    def _encode(self, group: str) -> list[bytes]:
        if group == _PROGRESS:
            return pack(self._windows.progress())
        if group == _LOST:
            return pack(alert.model_dump(mode="json") for alert in self._lost)
        if group == _BUDGET:
            return pack(self._book.scoring.budget.entries())
        if group == OPEN or group.startswith(COLD):
            return self._book.live.parked.page(group)
        if group == _LEDGER:
            return pack(self._ledger.entries())
        if group == _NOTICES:
            renewed, bounds = self._book.live.states.renewed, self._bounds.entries()
            return pack([None if renewed is None else renewed.entry(), *bounds]) if renewed or bounds else []
        kind, _, number = group.partition("-")
        if kind == "series":
            return pack_entries(self._book.live.entries(int(number)), self._book.live.states.columns)
        return pack(self._windows.entries(group))

    def _restore(self, groups: dict[str, list[bytes]]) -> None:
        series: list[Entry] = []
        windows: dict[str, list[Any]] = {}
        for group, pages in groups.items():
            if group.startswith("series-"):
                series.extend(unpack_entries(pages))
            elif group == OPEN:
                (self._parking,) = pages
            elif group == _LOST:
                self._lost = [AlertChanged.model_validate_json(orjson.dumps(entry)) for entry in unpack(pages)]
            elif group == _BUDGET:
                self._book.scoring.budget.restore(unpack(pages))
            elif group == _LEDGER:
                self._ledger.restore(unpack(pages))
            elif group == _NOTICES:
                renewed, *bounds = unpack(pages)
                self._untold = Renewed.of(renewed)
                self._bounds.restore(bounds)
            elif group != _PROGRESS:
                windows[group] = unpack(pages)
        self._windows.restore(unpack(groups[_PROGRESS]), windows)
        self._book.live.restore(series)
        self._pages.restored(groups)

    def _restore_cold(self, group: str, page: bytes) -> None:
        self._book.live.restore_parked(group, page)

    def _restored(self) -> Sequence[str]:
        if self._parking is not None:
            self._book.live.restore_parked(OPEN, self._parking)
        self._book.live.restored()
        new = self._book.live.states.renewed
        self._book.live.states.renewed = self._untold if new is None else new.after(self._untold)
        self._parking, self._untold = None, None
        return () if new is None else (str(new),)
