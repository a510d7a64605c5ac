"""Shares of windows by source partition: counted, so that they can be bounded, and each a page group of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import TypeAdapter

from schemas.windows import PartialSeries, PartialWindowsClosed
from stream_jobs.window_rows import Share, WindowId, name_of

_SERIES = TypeAdapter(PartialSeries)


class WindowShares:
    """The shares that hold series; a window without any may be here too."""

    def __init__(self) -> None:
        self.share_count = 0
        self.series_count = 0
        self._windows: dict[WindowId, dict[int, Share]] = {}
        self._groups: dict[str, tuple[WindowId, int]] = {}

    def __len__(self) -> int:
        return len(self._windows)

    def __iter__(self) -> Iterator[WindowId]:
        return iter(self._windows)

    def __contains__(self, window: WindowId) -> bool:
        return window in self._windows

    def __getitem__(self, window: WindowId) -> Mapping[int, Share]:
        return self._windows[window]

    def add(self, window: WindowId, event: PartialWindowsClosed) -> str | None:
        """Add what a source partition says of the window. Returns the page group that changed, if one did."""
        if not event.series:
            self.put(window, {})
            return None
        known = self._windows.get(window, {}).get(event.source_partition)
        series = {} if known is None else dict(known.series)
        series.update((name_of(one.key), one) for one in event.series)
        self.put(window, {event.source_partition: Share(event.first_offset, event.next_offset, series)})
        return share_group(window, event.source_partition)

    def put(self, window: WindowId, shares: Mapping[int, Share]) -> None:
        """Keep these shares of a window, beside those of other source partitions that are kept already."""
        kept = self._windows.setdefault(window, {})
        for number, share in shares.items():
            old = kept.get(number)
            self.share_count += old is None
            self.series_count += len(share.series) - (0 if old is None else len(old.series))
            kept[number] = share
            self._groups[share_group(window, number)] = window, number

    def pop(self, window: WindowId) -> dict[int, Share]:
        """Forget a window; its shares. Raises KeyError when it is not here."""
        shares = self._windows.pop(window)
        for number, share in shares.items():
            self.share_count -= 1
            self.series_count -= len(share.series)
            del self._groups[share_group(window, number)]
        return shares

    def groups(self) -> list[str]:
        """Names of the page groups."""
        return list(self._groups)

    def entries(self, group: str) -> list[Any]:
        """The state of a group; empty when it is gone."""
        found = self._groups.get(group)
        if found is None:
            return []
        window, number = found
        share = self._windows[window][number]
        head = [window.topic_id, window.start_ms, window.end_ms, number, share.first_offset, share.next_offset]
        return [head, *(share.series[name].model_dump() for name in sorted(share.series))]


def share_of(entries: list[Any]) -> tuple[WindowId, int, Share]:
    """The inverse of `WindowShares.entries`. Raises ValueError, TypeError or IndexError when it is broken."""
    (topic_id, start_ms, end_ms, number, first, after), *rows = entries
    if any(type(value) is not int for value in (number, first, after)):
        raise ValueError(f"share of {topic_id!r}: offsets or partition of the wrong type")
    series = [_SERIES.validate_python(row) for row in rows]
    return (
        window_of([topic_id, start_ms, end_ms]),
        number,
        Share(first, after, {name_of(one.key): one for one in series}),
    )


def window_of(name: list[Any]) -> WindowId:
    """A window from topic id, start and end. Raises ValueError."""
    topic_id, start_ms, end_ms = name
    if type(topic_id) is not str or type(start_ms) is not int or type(end_ms) is not int:
        raise ValueError(f"window {name!r}: not a topic id, start and end")
    return WindowId(topic_id, start_ms, end_ms)


def late_group(window: WindowId) -> str:
    """Name of the page group of a late window's revisions."""
    topic = hashlib.blake2b(window.topic_id.encode(), digest_size=6).hexdigest()
    return f"late-{topic}-{window.start_ms}-{window.end_ms}"


def share_group(window: WindowId, number: int) -> str:
    """Name of the page group of a source partition's share."""
    return f"window-{late_group(window)[5:]}-{number}"
