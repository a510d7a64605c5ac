"""Which offsets of one partition were seen: exact, a watermark and a bitmap in pages, small in memory.

Used by the books and by the stream jobs (they may import it) to keep the first answer of each request
and drop repeats.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

PAGE_OFFSETS = 8_192
"""Offsets per page. A page with holes takes 8 KB (1 KB serialised), a full one an entry in a dict."""
_HEAD = struct.Struct("<BqqI")
_PAGE = struct.Struct("<qB")
_FORMAT = 1

Bits = NDArray[np.bool_]


class OffsetSet:
    """A set of offsets that mostly arrive in order. Everything below `watermark` is in it.

    Memory: one page per 8,192 offsets that have holes. A hole that never fills (a transaction marker, say)
    costs one page, not the offsets after it; `forget_below` gives up holes that can no longer be filled.
    """

    def __init__(self, watermark: int = 0) -> None:
        """`watermark`: offsets below it count as seen. Where old records are deleted: the first offset."""
        self.watermark = watermark
        self.added = 0
        """How many offsets `add` found new, in all."""
        self._pages: dict[int, Bits | None] = {}  # None: a page that is full

    @property
    def pages(self) -> int:
        """How many pages it has."""
        return len(self._pages)

    @property
    def size(self) -> int:
        """How many bytes `to_bytes` gives."""
        holes = sum(page is not None for page in self._pages.values())
        return _HEAD.size + len(self._pages) * _PAGE.size + holes * PAGE_OFFSETS // 8

    def add(self, offsets: ArrayLike | Sequence[int]) -> Bits:
        """Put offsets in, in any order, repeats allowed. Returns a mask parallel to them: True where new.

        Of an offset that is twice in `offsets` the first one is new.
        """
        wanted = np.asarray(offsets, dtype=np.int64)
        count = len(wanted)
        if count == 0:
            return np.zeros(0, dtype=np.bool_)
        if not self._pages and wanted[0] == self.watermark and bool((np.diff(wanted) == 1).all()):
            self.watermark += count  # in order, nothing missing: the common case
            self.added += count
            return np.ones(count, dtype=np.bool_)
        unique, first = np.unique(wanted, return_index=True)
        fresh = np.zeros(len(unique), dtype=np.bool_)
        page_numbers = unique // PAGE_OFFSETS
        edges = np.flatnonzero(np.diff(page_numbers)) + 1
        for part in np.split(np.arange(len(unique)), edges):
            fresh[part] = self._add_to_page(int(page_numbers[part[0]]), unique[part])
        self.added += int(fresh.sum())
        self._advance()
        mask = np.zeros(count, dtype=np.bool_)
        mask[first[fresh]] = True
        return mask

    def __contains__(self, offset: int) -> bool:
        if offset < self.watermark:
            return True
        number, index = divmod(offset, PAGE_OFFSETS)
        if number not in self._pages:
            return False
        page = self._pages[number]
        return page is None or bool(page[index])

    def missing(self, below: int, limit: int = 10) -> list[tuple[int, int]]:
        """The first `limit` ranges (first, one after the last) of offsets below `below` not in the set."""
        found: list[tuple[int, int]] = []
        at = self.watermark
        while at < below and len(found) <= limit:
            number, index = divmod(at, PAGE_OFFSETS)
            until = min(below, (number + 1) * PAGE_OFFSETS)
            page = self._pages.get(number, _EMPTY)
            wanted = _FULL if page is None else page
            holes = np.flatnonzero(~wanted[index : index + until - at]) + at
            for run in np.split(holes, np.flatnonzero(np.diff(holes) > 1) + 1) if len(holes) else ():
                if found and found[-1][1] == run[0]:
                    found[-1] = (found[-1][0], int(run[-1]) + 1)
                else:
                    found.append((int(run[0]), int(run[-1]) + 1))
            at = until
        return found[:limit]

    def count_missing(self, first: int, after: int) -> int:
        """How many offsets from `first` to `after` (not included) are not in the set."""
        first = max(first, self.watermark)
        return max(0, after - first - self._seen_between(first, after))

    def forget_below(self, offset: int) -> int:
        """Count everything below `offset` as seen, without counting it as added. Returns how many were not."""
        if offset <= self.watermark:
            return 0
        given_up = self.count_missing(self.watermark, offset)
        self.watermark = offset
        number, index = divmod(offset, PAGE_OFFSETS)
        for old in [page for page in self._pages if page < number]:
            del self._pages[old]
        page = self._pages.get(number)
        if page is not None:
            page[:index] = True
        self._advance()
        return given_up

    def bound(self, pages_max: int) -> int:
        """Keep at most `pages_max` pages: the lowest are given up, and what is below the others counts as seen.

        Returns how many offsets count as seen that were not.
        """
        surplus = len(self._pages) - pages_max
        return self.forget_below(sorted(self._pages)[surplus] * PAGE_OFFSETS) if surplus > 0 else 0

    def _seen_between(self, first: int, after: int) -> int:
        """How many of the offsets from `first` to `after` (not included), above the watermark, are in the set."""
        count = 0
        for number, page in self._pages.items():
            base = number * PAGE_OFFSETS
            start, end = max(first, base), min(after, base + PAGE_OFFSETS)
            if start < end:
                count += end - start if page is None else int(page[start - base : end - base].sum())
        return count

    def to_bytes(self) -> bytes:
        """The set as bytes, little-endian; the same set gives the same bytes."""
        parts = [_HEAD.pack(_FORMAT, self.watermark, self.added, len(self._pages))]
        for number in sorted(self._pages):
            page = self._pages[number]
            parts.append(_PAGE.pack(number, page is None))
            if page is not None:
                parts.append(np.packbits(page, bitorder="little").tobytes())
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read one back. Raises ValueError when the bytes are not those of `to_bytes`."""
        try:
            version, watermark, added, pages = _HEAD.unpack_from(raw)
            at = _HEAD.size
            self = cls(watermark)
            self.added = added
            for _ in range(pages):
                number, full = _PAGE.unpack_from(raw, at)
                at += _PAGE.size
                if full:
                    self._pages[number] = None
                    continue
                packed = np.frombuffer(raw, np.uint8, PAGE_OFFSETS // 8, at)
                self._pages[number] = np.unpackbits(packed, bitorder="little").astype(np.bool_)
                at += PAGE_OFFSETS // 8
        except (struct.error, ValueError) as error:
            raise ValueError(f"not a set of offsets: {error}") from None
        if version != _FORMAT or at != len(raw):
            raise ValueError(f"not a set of offsets: version {version}, {len(raw)} bytes, {at} are meant")
        return self

    def _add_to_page(self, number: int, offsets: NDArray[np.int64]) -> Bits:
        fresh: Bits = offsets >= self.watermark
        if not fresh.any() or (number in self._pages and self._pages[number] is None):
            return np.zeros(len(offsets), dtype=np.bool_)
        page = self._pages.get(number)
        if page is None:
            page = np.zeros(PAGE_OFFSETS, dtype=np.bool_)
            page[: max(0, self.watermark - number * PAGE_OFFSETS)] = True
            self._pages[number] = page
        indexes = offsets - number * PAGE_OFFSETS
        fresh &= ~page[indexes]
        page[indexes[fresh]] = True
        if page.all():
            self._pages[number] = None
        return fresh

    def _advance(self) -> None:
        while (number := self.watermark // PAGE_OFFSETS) in self._pages:
            page = self._pages[number]
            index = self.watermark - number * PAGE_OFFSETS
            holes = np.zeros(0) if page is None else np.flatnonzero(~page[index:])
            if len(holes):
                self.watermark += int(holes[0])
                return
            self.watermark = (number + 1) * PAGE_OFFSETS
            del self._pages[number]


_EMPTY = np.zeros(PAGE_OFFSETS, dtype=np.bool_)
_FULL = np.ones(PAGE_OFFSETS, dtype=np.bool_)
