"""A stage's state as pages: entries packed into records of bounded size, and which of them changed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from stream_jobs.packing import MAGIC, packed, unpacked
from stream_jobs.stage import PAGE_BYTES_MAX

FORMAT = 1
"""Of the JSON, which is packed; pages that are not are of an earlier version. Series are in pages of `entry_pages`."""
ENTRIES_PER_GROUP = 30
"""About 30 series a page: a record costs 114 us to write, an entry 11 us."""
COLD = "parked-"
"""Groups called so have one page each, are written once, and are never all in memory at the same time."""
_ROOM = PAGE_BYTES_MAX - 64

EncodeGroup = Callable[[str], Sequence[bytes]]
"""The pages of a group, in order; none when the group is gone."""


def pack(entries: Iterable[Any]) -> list[bytes]:
    """Entries (plain JSON values, floats exact) as packed pages of JSON of at most PAGE_BYTES_MAX bytes each.

    Raises ValueError for an entry that alone is larger than a page.
    """
    entries = list(entries)
    if not entries:
        return []
    whole = orjson.dumps(entries)
    if len(whole) <= _ROOM:  # most are one page, which is then written in half the time
        return [packed(b'{"format":%d,"entries":%b}' % (FORMAT, whole))]
    pages: list[list[bytes]] = []
    room = 0
    for entry in entries:
        text = orjson.dumps(entry)
        if len(text) > _ROOM:
            raise ValueError(f"a state entry of {len(text)} bytes does not fit a page")
        if room < len(text):
            pages.append([])
            room = _ROOM
        pages[-1].append(text)
        room -= len(text) + 1
    return [packed(b'{"format":%d,"entries":[%b]}' % (FORMAT, b",".join(page))) for page in pages]


def unpack(pages: Iterable[bytes]) -> list[Any]:
    """The entries that `pack` was given. Raises ValueError when a page is broken or of another format."""
    entries: list[Any] = []
    for page in pages:
        value = orjson.loads(unpacked(page) if page.startswith(MAGIC) else page)
        if not isinstance(value, dict) or value.get("format") != FORMAT or not isinstance(value.get("entries"), list):
            raise ValueError(f"state page: not of format {FORMAT}")
        entries.extend(value["entries"])
    return entries


def by_group(pages: Mapping[str, bytes]) -> dict[str, list[bytes]]:
    """Pages by group, in order. Raises ValueError when one of a group is missing."""
    found: dict[str, dict[int, bytes]] = {}
    for name, page in pages.items():
        group, _, number = name.rpartition(".")
        if not group or not number.isdecimal():
            raise ValueError(f"state page {name!r}: not a page's name")
        found.setdefault(group, {})[int(number)] = page
    for group, parts in found.items():
        if len(parts) != max(parts) + 1:
            raise ValueError(f"state pages of {group!r}: {len(parts)} of {max(parts) + 1} are there")
    return {group: [parts[number] for number in sorted(parts)] for group, parts in found.items()}


class PageTracker:
    """Which groups changed since they were last durable, and how many pages each had then."""

    def __init__(self, encode: EncodeGroup) -> None:
        self._encode = encode
        self._touched: set[str] = set()
        self._durable: dict[str, int] = {}
        self._given: dict[str, int] = {}

    def touch(self, group: str) -> None:
        """The group changed, came or went."""
        self._touched.add(group)

    def dirty_pages(self) -> dict[str, bytes | None]:
        """Pages of the groups that changed; None for pages that are gone."""
        return self._pages(sorted(self._touched))

    def all_pages(self, groups: Iterable[str]) -> Mapping[str, bytes]:
        """Pages of all these groups, which are all there are. Cold ones are made when they are asked for."""
        groups = list(groups)
        hot = self._pages(group for group in groups if not group.startswith(COLD))
        cold = [group for group in groups if group.startswith(COLD)]
        self._given.update(dict.fromkeys(cold, 1))
        found = {name: page for name, page in hot.items() if page is not None}
        return _AllPages(found, {f"{group}.0": group for group in cold}, self._encode) if cold else found

    def mark_clean(self) -> None:
        """What was given last is durable."""
        self._touched.difference_update(self._given)
        self._durable.update(self._given)
        self._durable = {group: count for group, count in self._durable.items() if count}
        self._given = {}

    def restored(self, groups: Mapping[str, Sequence[bytes]]) -> None:
        """These pages, and no others, are durable now."""
        self._touched, self._given = set(), {}
        self._durable = {group: len(pages) for group, pages in groups.items()}

    def restored_cold(self, groups: Iterable[str]) -> None:
        """These cold groups are durable, too."""
        self._durable.update(dict.fromkeys(groups, 1))

    def _pages(self, groups: Iterable[str]) -> dict[str, bytes | None]:
        pages: dict[str, bytes | None] = {}
        self._given = {}
        for group in groups:
            parts = self._encode(group)
            self._given[group] = len(parts)
            for number in range(max(len(parts), self._durable.get(group, 0))):
                pages[f"{group}.{number}"] = parts[number] if number < len(parts) else None
        return pages


class _AllPages(Mapping[str, bytes]):
    """Pages that are there, and cold ones, by name of their group, that are read when they are asked for."""

    def __init__(self, hot: Mapping[str, bytes], cold: Mapping[str, str], encode: EncodeGroup) -> None:
        self._hot, self._cold, self._encode = hot, cold, encode

    def __getitem__(self, name: str) -> bytes:
        if name in self._hot:
            return self._hot[name]
        (page,) = self._encode(self._cold[name])
        return page

    def __iter__(self) -> Iterator[str]:
        yield from self._hot
        yield from self._cold

    def __len__(self) -> int:
        return len(self._hot) + len(self._cold)


class PagedStage(ABC):
    """The part of a `Stage` that is about its pages, for a stage of groups in a `PageTracker`."""

    partition: int
    _pages: PageTracker

    def dirty_pages(self) -> dict[str, bytes | None]:
        """See `Stage.dirty_pages`."""
        return self._pages.dirty_pages()

    def all_pages(self) -> Mapping[str, bytes]:
        """See `Stage.all_pages`."""
        return self._pages.all_pages(self._groups())

    def mark_clean(self) -> None:
        """See `Stage.mark_clean`."""
        self._pages.mark_clean()

    def restore(self, pages: Mapping[str, bytes], next_offset: int) -> Sequence[str]:
        """See `Stage.restore`."""
        self._clear(next_offset)
        if not pages:
            return ()
        try:
            cold = [name for name in pages if name.startswith(COLD)]
            self._restore(by_group({name: pages[name] for name in pages.keys() - cold}))
            for name in sorted(cold, key=lambda name: int(name.removeprefix(COLD).removesuffix(".0"))):
                self._restore_cold(name.removesuffix(".0"), pages[name])
            self._pages.restored_cold(name.removesuffix(".0") for name in cold)
            return self._restored()
        except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError) as error:
            self._clear(next_offset)
            raise ValueError(f"{type(self).__name__} of partition {self.partition}: {error}") from error

    @abstractmethod
    def _clear(self, next_offset: int) -> None:
        """Be as new, at `next_offset`."""

    @abstractmethod
    def _groups(self) -> list[str]:
        """All page groups there are."""

    @abstractmethod
    def _restore(self, groups: dict[str, list[bytes]]) -> None:
        """Take over the pages of all groups. May raise anything that a broken page leads to."""

    def _restore_cold(self, group: str, page: bytes) -> None:
        """Take over a cold group, after the others and in the order of their numbers. May raise likewise."""
        raise ValueError(f"{group}: a stage that has no such pages")

    @abstractmethod
    def _restored(self) -> Sequence[str]:
        """All pages were taken over. Returns what begins anew, see `Stage.restore`. May raise likewise."""
