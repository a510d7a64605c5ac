"""The series in memory and their places in the state pages; those parked come back from here.

Decides nothing about which series is parked, and says nothing to the outside.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping

from schemas.windows import SeriesKey
from stream_jobs.entry_pages import Entry
from stream_jobs.pages import ENTRIES_PER_GROUP
from stream_jobs.parked_series import Parked, ParkedSeries
from stream_jobs.renewed import BROKEN
from stream_jobs.series_scoring import SeriesScoring
from stream_jobs.series_state import Series, SeriesStates
from stream_jobs.window_rows import name_of


class LiveSeries(Mapping[str, Series]):
    """Series by name (`name_of` its key), the one not used for longest first."""

    def __init__(self, scoring: SeriesScoring, parked: ParkedSeries) -> None:
        self.scoring, self.parked, self.states = scoring, parked, SeriesStates(scoring)
        self.active: dict[str, Series] = {}
        """Those that are not at rest."""
        self.changed: set[int] = set()
        """Page groups changed since the owner last looked."""
        self._series: dict[str, Series] = {}
        self._places: dict[int, str] = {}
        self._free: list[int] = []
        """A heap: the lowest place is taken first."""
        self._serial = 0
        self._latest: dict[tuple[str, str], str] = {}
        """The series that was touched last, by scenario and model, parked ones too."""
        self._read: list[tuple[int, SeriesKey]] = []
        self._serials: dict[str, int] = {}
        """Serials of the series in memory, while pages of parked ones are taken over."""

    def __getitem__(self, name: str) -> Series:
        return self._series[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._series)

    def __len__(self) -> int:
        return len(self._series)

    def incidents(self) -> Iterator[str]:
        """Ids of the incidents that are open."""
        for series in self.active.values():
            yield from (one.incident.incident_id for one in series.metrics.values() if one.incident.is_open)

    def groups(self) -> list[int]:
        """Numbers of all page groups."""
        return sorted({place // ENTRIES_PER_GROUP for place in self._places})

    def entries(self, group: int) -> list[Entry]:
        """The state of a group's series; none when the group is empty."""
        places = range(group * ENTRIES_PER_GROUP, (group + 1) * ENTRIES_PER_GROUP)
        return [self.states.entry(self._series[self._places[place]]) for place in places if place in self._places]

    def restore(self, entries: Iterable[Entry]) -> None:
        """Take over the entries of all groups. What of them is broken costs that part, or that series, alone: see
        `SeriesStates`."""
        found = [series for entry in entries if (series := self._series_of(entry)) is not None]
        for series in sorted(found, key=lambda one: one.serial):
            name = name_of(series.key)
            if name in self._series or series.place in self._places:
                self.scoring.drop(series.metrics.values())
                self.states.lost(name, f"it, or its place {series.place}, is there twice")
                continue
            self._series[name] = series
            self._places[series.place] = name
            if not series.at_rest:
                self.active[name] = series
        self._free = sorted(set(range(max(self._places, default=-1) + 1)) - set(self._places))
        self.restored()
        self._serials = {name: series.serial for name, series in self._series.items()}

    def _series_of(self, entry: Entry) -> Series | None:
        try:
            return self.states.series(entry)
        except BROKEN as error:
            self.states.lost_entry(entry, str(error))
            return None

    def restore_parked(self, group: str, page: bytes) -> None:
        """Take over a page of parked series, after the live ones: see `ParkedSeries.restore`. Then call `restored`."""
        self._read.extend(self.parked.restore(group, page, self._serials))

    def restored(self) -> None:
        """All pages were taken over."""
        live = [(series.serial, series.key) for series in self._series.values()]
        for serial, key in sorted([*live, *self._read], key=lambda one: one[0]):
            self._serial, self._latest[key.scenario, key.model] = serial, name_of(key)
        self._read, self._serials = [], {}

    def latest(self, key: SeriesKey) -> str:
        """Name of the series of this scenario and model that had requests last, of whatever version; empty: none."""
        return self._latest.get((key.scenario, key.model), "")

    def new(self, key: SeriesKey, end_ms: int) -> Series:
        """A series that has seen nothing. It is not here before it is used."""
        return Series(key, self._free_place(name_of(key)), end_ms, self.scoring.watched())

    def touch(self, name: str, series: Series) -> None:
        """It has requests."""
        self.active[name] = series
        self._latest[series.key.scenario, series.key.model] = name
        self._use(name, series)

    def mark(self, series: Series) -> None:
        """Its state changed."""
        self.changed.add(series.place // ENTRIES_PER_GROUP)

    def bring_back(self, keys: Mapping[str, SeriesKey]) -> None:
        """Have these series in memory, where they are known, and those that they may borrow of."""
        if not len(self.parked):
            return
        for name, key in keys.items():
            if name in self._series or self._unpark(name):
                series = self._series[name]
                if any(one.first is not None for one in series.metrics.values()):
                    self._unpark(series.after)
            else:
                self._unpark(self.latest(key))

    def park(self, name: str) -> list[str]:
        """Have a series, which is at rest, in memory no more. Returns names of those that are forgotten for it."""
        series = self._series.pop(name)
        packed = self.states.packed(series)
        self.scoring.drop(series.metrics.values())
        del self._places[series.place]
        heapq.heappush(self._free, series.place)
        self.mark(series)
        forgotten = self.parked.park(Parked(series.key, series.serial, packed))
        if forgotten:
            gone = set(forgotten)
            self._latest = {label: name for label, name in self._latest.items() if name not in gone}
        return forgotten

    def _unpark(self, name: str) -> Series | None:
        if name not in self.parked:
            return None
        try:
            series = self.states.unpacked(self.parked.take(name))
        except BROKEN as error:
            self.states.lost(name, str(error))
            return None
        series.place = self._free_place(name)
        self._use(name, series)
        return series

    def _use(self, name: str, series: Series) -> None:
        self._serial += 1
        self._series.pop(name, None)
        series.serial, self._series[name] = self._serial, series
        self.mark(series)

    def _free_place(self, name: str) -> int:
        place = heapq.heappop(self._free) if self._free else len(self._places)
        self._places[place] = name
        return place
