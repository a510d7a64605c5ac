"""Stage 1, one telemetry partition: keeps the first outcome of each request, scores it, cuts partial windows.

Pure: a function of the partition's log. Windows are cut by the broker's append time, as far as it is believed.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from infra.log_clock import LogClock
from infra.offset_set import OffsetSet
from infra.ports import Record
from schemas.anomalies import DetectorsRenewed
from schemas.base import DecodeError, Reason
from schemas.refused_rows import ROWS_HEADER, RefusedRows
from schemas.tables import REQUESTS
from schemas.topics import TELEMETRY
from schemas.windows import PartialSeries
from stream_jobs import row_models
from stream_jobs.bound_notices import BoundNotices
from stream_jobs.pages import ENTRIES_PER_GROUP, PagedStage, PageTracker, pack, unpack
from stream_jobs.partial_events import ClosedWindow, partial_events
from stream_jobs.renewed import BROKEN, Renewed
from stream_jobs.request_log import RequestLog
from stream_jobs.row_models import RowModels
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Effects, Limit
from stream_jobs.telemetry_decoding import Served, TelemetryDecoder
from stream_jobs.telemetry_rows import Grouping, TelemetryRows
from stream_jobs.window_cuts import WindowCuts
from stream_jobs.window_effects import renewed_event
from stream_jobs.windows import OpenWindow

REQUEST_TOPICS_MAX = 8
"""Request topics (by id) remembered per partition; more than one only after a topic was made anew."""
SEEN_PAGES_MAX = 128
"""Pages of 8,192 offsets with holes remembered per request topic; 1 KB each. What is below counts as seen."""
APPENDED_SINCE_MAX = 200_000
"""Request offsets that one partition may have grown by since its end was last known, 17 seconds ago at most: above
12,000/s. And few enough (25 pages) to leave the offsets seen in their bounds."""
_SERIES = TypeAdapter(PartialSeries)
_CLOCK, _NAMES, _NOTICES = "clock", "models", "notices"


class RequestStage(PagedStage):
    """A `Stage` over one partition of the telemetry topic `topic_id`.

    `window_partitions` is the number of partitions of the windows topic: each gets every closed window. `requests`
    says what telemetry can be about: what tells of another topic's requests, or of ones that do not exist yet, is
    refused, because real requests would count as seen.
    """

    def __init__(
        self,
        settings: JobSettings,
        *,
        topic_id: str,
        partition: int,
        window_partitions: int,
        requests: RequestLog,
        next_offset: int = 0,
    ) -> None:
        self.settings, self.topic_id, self.partition = settings, topic_id, partition
        self.window_partitions, self._requests = window_partitions, requests
        self._pages, self._decoder = PageTracker(self._encode), TelemetryDecoder()
        self._clock: LogClock
        self._cuts: WindowCuts
        self._first_offset: int
        self._seen: dict[tuple[str, str], OffsetSet]
        self._models: RowModels
        self._window: OpenWindow
        self._bounds: BoundNotices
        self._renewed: Renewed | None
        self._broken: list[str]
        self._clear(next_offset)

    def apply(self, record: Record) -> Effects:
        """See `Stage.apply`."""
        decoded = self._decoder.decoded(record)
        if isinstance(decoded, Served):
            self._check_exist(decoded)
        refused = _refused_rows(record)
        effects = self._advance(record)
        if isinstance(decoded, Served) and not (refused and self._store_again(decoded, refused, effects)):
            self._serve(decoded, record, effects)
        if effects.limits:
            self._bounds.reached(effects.limits)
            self._pages.touch(_NOTICES)
        self.next_offset = record.offset + 1
        return effects

    def skip(self, record: Record) -> Effects:
        """See `Stage.skip`."""
        effects = self._advance(record)
        self.next_offset = record.offset + 1
        return effects

    def tell_lost(self, reason: str) -> None:
        """See `Stage.tell_lost`."""
        self._renew(f"row models, and which requests were seen: {reason}", 0)

    def _check_exist(self, served: Served) -> None:
        event = served.event
        name = (event.cluster_id, event.topic_id)
        if name not in self._seen and not self._requests.is_known(*name):
            raise DecodeError(Reason.BAD_VALUE, f"topic {event.topic_id} of cluster {event.cluster_id} has no requests")
        end, last = self._requests.end(*name, event.partition), int(served.requests.offset[-1])
        if end is not None and last >= end + APPENDED_SINCE_MAX:
            raise DecodeError(Reason.BAD_VALUE, f"request offset {last}: the topic's end was {end} seconds ago")

    def _advance(self, record: Record) -> Effects:
        """Move log time; close the window that it has passed."""
        effects = Effects()
        went_back = self._clock.read(record.timestamp_ms)
        self._pages.touch(_CLOCK)
        if went_back:
            # What is in the open window was counted at times that are not believed any more: it counts as of now.
            self._cuts.go_back(self._clock.now_ms, self.settings.window_ms)
        if self._clock.now_ms >= self._cuts.end_ms:
            self._close(record, effects)
        return effects

    def _close(self, record: Record, effects: Effects) -> None:
        start_ms, end_ms = self._cuts.start_ms, self._cuts.end_ms
        self._cuts.next(self._clock.now_ms, self.settings.window_ms)
        if end_ms > 0:
            closed = ClosedWindow(
                self.topic_id, self.partition, start_ms, end_ms, self._cuts.start_ms, self._first_offset, record.offset
            )
            effects.events.extend(partial_events(closed, self._window.closed(), self.window_partitions))
            self._tell(end_ms, effects)
            self._touch_series(range(len(self._window)))
            self._window.clear()
        self._first_offset = record.offset

    def _tell(self, at_ms: int, effects: Effects) -> None:
        self._pages.touch(_NOTICES)
        effects.events.extend(self._bounds.events(at_ms))
        if self._renewed is not None:
            effects.limit(Limit.DETECTOR_STATES, max(1, self._renewed.count))
            renewed = DetectorsRenewed(
                partition=self.partition,
                at_ms=at_ms,
                detector=row_models.NAME,
                config_digest=self._models.digest,
                reason=self._renewed.reason,
                count=self._renewed.count,
                series=[],
            )
            effects.events.append(renewed_event(renewed, "row-models"))
            self._renewed = None

    def _renew(self, reason: str, count: int) -> str:
        new = Renewed(reason, count, everything=not count)
        self._renewed = new.after(self._renewed)
        self._pages.touch(_NOTICES)
        return str(new)

    def _serve(self, served: Served, record: Record, effects: Effects) -> None:
        seen = self._seen_of(served.event.cluster_id, served.event.topic_id, effects)
        new = seen.add(served.requests.offset)
        effects.limit(Limit.OFFSET_HOLES, seen.bound(SEEN_PAGES_MAX))
        if not new.all():
            self._repeat(TelemetryRows(served, ~new if new.any() else None).grouping())
        if not new.any():
            return
        self._pages.touch(f"seen-{list(self._seen.values()).index(seen)}")
        rows = TelemetryRows(served, None if new.all() else new)
        grouping = rows.grouping()
        scores, learning = self._score(rows, grouping, effects)
        self._touch_series(self._window.add(rows.for_window(grouping, scores)))
        effects.limit(Limit.WINDOW_SERIES, self._window.overflowed)
        effects.rows[REQUESTS.name] = rows.for_table(grouping, scores, learning, self._clock.now_ms, record.offset)

    def _store_again(self, served: Served, refused: RefusedRows, effects: Effects) -> bool:
        """Give rows of a record that was put back because the table had refused them: as they were, and nothing is
        counted, for their requests are in windows. False when one is not known, so that the record is as any other."""
        offsets = served.requests.offset.tolist()
        chosen = np.array(refused.has(offsets), dtype=np.bool_)
        seen = self._seen.get((served.event.cluster_id, served.event.topic_id))
        if seen is None or not chosen.any() or any(o not in seen for o in served.requests.offset[chosen].tolist()):
            return False
        rows = TelemetryRows(served, chosen)
        # What the row model said of them is gone, and it has learnt them.
        scores, learning = np.zeros(rows.count), np.ones(rows.count, dtype=np.bool_)
        effects.rows[REQUESTS.name] = rows.for_table(
            rows.grouping(), scores, learning, refused.served_ms, refused.telemetry_offset
        )
        return True

    def _repeat(self, told_again: Grouping) -> None:
        counts = np.bincount(told_again.series, minlength=len(told_again.keys)).tolist()
        self._touch_series(self._window.add_repeats(told_again.keys, counts))

    def _score(
        self, rows: TelemetryRows, grouping: Grouping, effects: Effects
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        scores, learning = np.zeros(rows.count), np.ones(rows.count, dtype=np.bool_)
        if not grouping.in_batch.any():
            return scores, learning
        features = rows.features()
        for number, key in enumerate(grouping.keys):
            if not key.model:
                continue
            chosen = np.flatnonzero(grouping.series == number)
            known, name = len(self._models), (key.model, key.scenario)
            model, scores[chosen], learning[chosen] = self._models.score_then_learn(name, features[chosen])
            effects.limit(Limit.ROW_MODELS, len(chosen) if self._models.shares(name) else 0)
            self._pages.touch(f"model-{model}")
            if len(self._models) != known:
                self._pages.touch(_NAMES)
        return scores, learning

    def _seen_of(self, cluster_id: str, topic_id: str, effects: Effects) -> OffsetSet:
        seen = self._seen.get((cluster_id, topic_id))
        if seen is None:
            if len(self._seen) >= REQUEST_TOPICS_MAX:
                del self._seen[next(iter(self._seen))]
                effects.limit(Limit.REQUEST_TOPICS, 1)
            for number in range(len(self._seen) + 1):
                self._pages.touch(f"seen-{number}")
            self._pages.touch(_CLOCK)
            seen = self._seen[cluster_id, topic_id] = OffsetSet()
        return seen

    def _touch_series(self, slots: Iterable[int]) -> None:
        for group in {slot // ENTRIES_PER_GROUP for slot in slots}:
            self._pages.touch(f"series-{group}")

    def _clear(self, next_offset: int) -> None:
        self.next_offset = next_offset
        self._clock, self._cuts, self._first_offset = LogClock(), WindowCuts(), 0
        self._bounds = BoundNotices(TELEMETRY.name, self.partition)
        self._renewed, self._broken = None, []
        self._seen = {}
        self._models = RowModels(self.settings.row_models_max, self.settings.row_window)
        self._window = OpenWindow(self.settings.series_max)
        self._pages.restored({})
        self._pages.touch(_CLOCK)
        self._pages.touch(_NAMES)

    def _groups(self) -> list[str]:
        series = range(0, len(self._window), ENTRIES_PER_GROUP)
        return [
            _CLOCK,
            _NAMES,
            _NOTICES,
            *(f"seen-{number}" for number in range(len(self._seen))),
            *(f"model-{number}" for number in range(len(self._models))),
            *(f"series-{slot // ENTRIES_PER_GROUP}" for slot in series),
        ]

    def _encode(self, group: str) -> list[bytes]:
        if group == _CLOCK:
            (now_ms, *doubted), (start_ms, end_ms, *cuts) = self._clock.entries(), self._cuts.entries()
            numbers = [now_ms, start_ms, end_ms, self._first_offset, len(self._window), *doubted, *cuts]
            return pack([numbers, *(list(topic) for topic in self._seen)])
        if group == _NOTICES:
            renewed, bounds = self._renewed, self._bounds.entries()
            return pack([None if renewed is None else renewed.entry(), *bounds]) if renewed or bounds else []
        if group == _NAMES:
            return pack([self.settings.row_window, *self._models.names()])
        kind, _, text = group.partition("-")
        number = int(text)
        if kind == "seen":
            return [seen.to_bytes() for seen in list(self._seen.values())[number : number + 1]]
        if kind == "model":
            return [self._models.state(number)]
        first = number * ENTRIES_PER_GROUP
        slots = range(first, min(first + ENTRIES_PER_GROUP, len(self._window)))
        return pack(one.model_dump() for one in self._window.series(slots)) if slots else []

    def _restore(self, groups: dict[str, list[bytes]]) -> None:
        (now_ms, start_ms, end_ms, first_offset, count, *more), *topics = unpack(groups[_CLOCK])
        if any(type(number) is not int or number < 0 for number in (first_offset, count)):
            raise ValueError("clock: not whole numbers")
        self._clock.restore([now_ms, *(more[:2] or (0, 0))])  # a state of before has no more
        self._cuts.restore([start_ms, end_ms, *more[2:]])
        self._first_offset = first_offset
        for number, (cluster_id, topic_id) in enumerate(topics):
            self._seen[cluster_id, topic_id] = OffsetSet.from_bytes(groups[f"seen-{number}"][0])
        series = [
            _SERIES.validate_python(entry)
            for group in range(-(-count // ENTRIES_PER_GROUP))
            for entry in unpack(groups[f"series-{group}"])
        ]
        if len(series) != count:
            raise ValueError(f"{len(series)} series in the pages, {count} expected")
        self._window.restore(series)
        if _NOTICES in groups:
            renewed, *bounds = unpack(groups[_NOTICES])
            self._renewed = Renewed.of(renewed)
            self._bounds.restore(bounds)
        self._pages.restored(groups)
        self._broken = self._restore_models(groups)

    def _restored(self) -> Sequence[str]:
        return self._broken

    def _restore_models(self, groups: dict[str, list[bytes]]) -> list[str]:
        """What is broken of the row models costs them alone: of what was seen nothing may be lost with them."""
        try:
            row_window, *names = unpack(groups[_NAMES])
            if row_window != self.settings.row_window:
                raise ValueError(f"row models renewed every {row_window} requests, now {self.settings.row_window}")
            states = [next(iter(groups.get(f"model-{number}", ())), None) for number in range(len(names))]
            broken = self._models.restore(names, states)
        except BROKEN as error:
            return [self._renew(f"row models: {error}", 0)]
        return [self._renew("; ".join(broken), len(broken))] if broken else []


def _refused_rows(record: Record) -> RefusedRows | None:
    """The rows that the record was put back for, if any. Raises DecodeError."""
    raw = next((value for name, value in record.headers if name == ROWS_HEADER), None)
    if raw is None:
        return None
    try:
        return RefusedRows.of_text(raw.decode("ascii"))
    except ValueError as error:
        raise DecodeError(Reason.WRONG_HEADERS, f"{ROWS_HEADER}: {error}") from None
