"""Series that are known but not in memory: what was learnt of them, packed into pages that are written once.

Owns where each lies and which pages are needed no more. Does not know what is in an entry, nor when it is wanted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass

import orjson

from schemas.windows import SeriesKey
from stream_jobs.pages import COLD
from stream_jobs.stage import PAGE_BYTES_MAX
from stream_jobs.window_rows import name_of

FORMAT = 1
SERIES_PER_PAGE = 32
SLACK_PAGES = 4
_ROOM = PAGE_BYTES_MAX - 1_024
_LISTED_BYTES = 48
"""Of an entry in a page's list beside its labels: serial, length, punctuation."""
OPEN = "parking"
"""The page group of those that do not fill a page yet: the only one that is written again."""


@dataclass(frozen=True, slots=True)
class Parked:
    """A series that is not live. `serial` says which copy of it is the last."""

    key: SeriesKey
    serial: int
    entry: bytes

    @property
    def size(self) -> int:
        """Bytes that it takes in a page, at most."""
        labels = (self.key.scenario, self.key.model, self.key.version)
        return len(self.entry) + len(orjson.dumps(labels)) + _LISTED_BYTES


@dataclass(frozen=True, slots=True)
class _Place:
    page: int
    at: int
    length: int
    serial: int


@dataclass(slots=True)
class _Page:
    entries: int
    needed: int


class ParkedSeries:
    """At most `series_max` series by name, those parked longest ago first.

    Full pages lie on `shelf` and are never changed: a series that comes back leaves its copy behind, and the copy with
    the highest serial is the series. Pages whose copies are all old go; when half of all copies are old, the oldest
    page is emptied, so that at most about twice what is needed lies there. What is forgotten is the oldest page's, so
    that no older copy of it is left.
    """

    def __init__(self, shelf: MutableMapping[str, bytes], series_max: int) -> None:
        self.series_max = series_max
        self.changed: set[str] = set()
        """Page groups changed since the owner last looked."""
        self._shelf = shelf
        self._open: dict[str, Parked] = {}
        self._open_bytes = 0
        self._places: dict[str, _Place] = {}
        self._pages: dict[int, _Page] = {}
        self._entries = 0
        """Copies on all sealed pages."""
        self._next = 0

    def __len__(self) -> int:
        return len(self._open) + len(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._open or name in self._places

    def park(self, series: Parked) -> list[str]:
        """Keep a series. Returns the names of those that are forgotten for it."""
        self._add(series)
        total = self._entries
        while total > 2 * len(self._places) + SLACK_PAGES * SERIES_PER_PAGE:
            total -= self._pages[next(iter(self._pages))].entries
            self._empty_oldest()
        forgotten: list[str] = []
        while len(self) > self.series_max:
            forgotten.extend(self._forget_oldest())
        return forgotten

    def take(self, name: str) -> bytes:
        """The entry of a series, which is parked no more. Raises KeyError, and ValueError when its page is broken."""
        if name in self._open:
            self.changed.add(OPEN)
            one = self._open.pop(name)
            self._open_bytes -= one.size
            return one.entry
        place = self._places.pop(name)
        entry = self._shelf[_group(place.page)][place.at : place.at + place.length]
        self._need_one_less(place.page)
        return entry

    def groups(self) -> list[str]:
        """Names of the page groups, each of one page."""
        return [*([OPEN] if self._open else []), *map(_group, self._pages)]

    def page(self, group: str) -> list[bytes]:
        """The page of a group; none when it is gone."""
        if group == OPEN:
            return [_packed(list(self._open.values()))] if self._open else []
        return [self._shelf[group]] if int(group.removeprefix(COLD)) in self._pages else []

    def restore(self, group: str, page: bytes, live: Mapping[str, int]) -> Iterator[tuple[int, SeriesKey]]:
        """Take over a group's page, sealed ones in the order of their numbers, then the open one. `live` has the
        serials of the series in memory, which need no copy. Gives serial and key of those that are parked by this page,
        unless a later one has them too. Raises ValueError when the page is broken."""
        found = _unpacked(page)
        number = -1 if group == OPEN else int(group.removeprefix(COLD))
        if number >= 0:
            self._shelf[group] = page
            self._pages[number] = _Page(len(found), 0)
            self._entries += len(found)
            self._next = max(self._next, number + 1)
        for key, serial, at, length in found:
            name = name_of(key)
            known = self._places.get(name)
            if serial < live.get(name, -1) or (known is not None and serial < known.serial):
                continue
            if known is not None:
                self._pages[known.page].needed -= 1
                del self._places[name]
            if number >= 0:
                self._places[name] = _Place(number, at, length, serial)
                self._pages[number].needed += 1
            else:
                self._open[name] = one = Parked(key, serial, page[at : at + length])
                self._open_bytes += one.size
            yield serial, key

    def _add(self, series: Parked) -> None:
        if len(self._open) >= SERIES_PER_PAGE or self._open_bytes + series.size > _ROOM:
            self._seal()
        self._open[name_of(series.key)] = series
        self._open_bytes += series.size
        self.changed.add(OPEN)

    def _seal(self) -> None:
        number, self._next = self._next, self._next + 1
        series = list(self._open.values())
        self._open, self._open_bytes = {}, 0
        page = _packed(series)
        self._shelf[_group(number)] = page
        self._pages[number] = _Page(len(series), len(series))
        self._entries += len(series)
        for key, serial, at, length in _unpacked(page):
            self._places[name_of(key)] = _Place(number, at, length, serial)
        self.changed.update((OPEN, _group(number)))

    def _empty_oldest(self) -> None:
        """Move what is needed of the oldest page to the newest."""
        number = next(iter(self._pages))
        page = self._shelf[_group(number)]
        for key, serial, at, length in _unpacked(page):
            if self._is_last(name_of(key), number, serial):
                del self._places[name_of(key)]
                self._add(Parked(key, serial, page[at : at + length]))
        self._drop(number)

    def _forget_oldest(self) -> list[str]:
        if not self._pages:
            name = next(iter(self._open))
            self.take(name)
            return [name]
        number = next(iter(self._pages))
        names = [name_of(key) for key, serial, _, _ in _unpacked(self._shelf[_group(number)])]
        gone = [name for name in names if name in self._places and self._places[name].page == number]
        for name in gone:
            del self._places[name]
        self._drop(number)
        return gone

    def _is_last(self, name: str, number: int, serial: int) -> bool:
        place = self._places.get(name)
        return place is not None and place.page == number and place.serial == serial

    def _need_one_less(self, number: int) -> None:
        self._pages[number].needed -= 1
        if not self._pages[number].needed:
            self._drop(number)

    def _drop(self, number: int) -> None:
        self._entries -= self._pages.pop(number).entries
        del self._shelf[_group(number)]
        self.changed.add(_group(number))


def _group(number: int) -> str:
    return f"{COLD}{number}"


def _packed(series: Sequence[Parked]) -> bytes:
    """A list of what is there in the first line, then the entries one after the other."""
    listed = [[one.key.scenario, one.key.model, one.key.version, one.serial, len(one.entry)] for one in series]
    return b"%b\n%b" % (orjson.dumps([FORMAT, *listed]), b"".join(one.entry for one in series))


def _unpacked(page: bytes) -> list[tuple[SeriesKey, int, int, int]]:
    """Key, serial, place and length of each entry of a page. Raises ValueError."""
    line, _, _ = page.partition(b"\n")
    at, found = len(line) + 1, []
    form, *listed = orjson.loads(line) or [0]
    if form != FORMAT:
        raise ValueError(f"parked series: not of format {FORMAT}")
    for scenario, model, version, serial, length in listed:
        if type(serial) is not int or type(length) is not int or length < 0:
            raise ValueError("parked series: a serial or a length is broken")
        key = SeriesKey(scenario=scenario, model=model, version=version)
        found.append((key, serial, at, length))
        at += length
    if at != max(len(page), len(line) + 1):
        raise ValueError(f"parked series: {len(page)} bytes, {at} expected")
    return found
