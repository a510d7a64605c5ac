"""Which outcome each place tells of each request, offset by offset, in little memory. Pure."""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from infra.offset_set import PAGE_OFFSETS

ANSWERED, FAILED, SHED, DEAD_LETTERED = "answered", "failed", "shed", "dead_lettered"
OUTCOMES = (ANSWERED, FAILED, SHED, DEAD_LETTERED)
CODES = {name: code for code, name in enumerate(OUTCOMES, start=1)}
"""An outcome as a number; 0: none."""
OFFSETS_KEPT_MAX = 10_000
"""Offsets of a kind and partition that are named at most; all are counted."""
Ints = NDArray[np.int64]
Codes = NDArray[np.uint8]
_LOW, _HIGH = 0x0F, 4


def codes_of(outcomes: Iterable[str]) -> Codes:
    """Outcomes as codes; 0 for what is none."""
    return np.array([CODES.get(name, 0) for name in outcomes], dtype=np.uint8)


class NamedOffsets:
    """Offsets by what is said of them: all are counted, the first `OFFSETS_KEPT_MAX` of a kind are named."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self._kept: dict[tuple[str, str], list[int]] = {}

    def add(self, kind: tuple[str, str], offsets: Ints) -> None:
        """Take offsets in."""
        if len(offsets):
            self.counts[kind] += len(offsets)
            kept = self._kept.setdefault(kind, [])
            kept.extend(offsets[: OFFSETS_KEPT_MAX - len(kept)].tolist())

    def add_unlike(self, offsets: Ints, said: Codes, other: Codes) -> None:
        """Take in those of which two places tell different outcomes, by the pair of names. Where one tells none, there
        is nothing to compare."""
        unlike = np.flatnonzero((said != other) & (said > 0) & (other > 0))
        pairs = said[unlike].astype(np.int64) * (_LOW + 1) + other[unlike]
        for pair in np.unique(pairs).tolist():
            names = OUTCOMES[pair // (_LOW + 1) - 1], OUTCOMES[pair % (_LOW + 1) - 1]
            self.add(names, offsets[unlike[pairs == pair]])

    def __iter__(self) -> Iterator[tuple[tuple[str, str], int, list[int]]]:
        """Each kind with its count and the offsets that are named, rising."""
        for kind in sorted(self.counts):
            yield kind, self.counts[kind], sorted(self._kept[kind])


class Comparison:
    """Compares what two sides tell of one partition's requests, whichever tells first. Each tells of an offset once.

    Memory: 8 KB for 8,192 offsets among which one side has told of some that the other has not.
    """

    def __init__(self) -> None:
        self.unlike = NamedOffsets()
        """Offsets with different outcomes, by (first side, second side)."""
        self.waiting = 0
        """Offsets of which only one side has told."""
        self._pages: dict[int, Codes] = {}

    def first(self, offsets: Ints, codes: Codes) -> None:
        """What the first side tells."""
        self._take(offsets, codes, 0)

    def second(self, offsets: Ints, codes: Codes) -> None:
        """What the second side tells."""
        self._take(offsets, codes, _HIGH)

    def _take(self, offsets: Ints, codes: Codes, shift: int) -> None:
        numbers = offsets // PAGE_OFFSETS
        for number in np.unique(numbers).tolist():
            here = numbers == number
            page = self._pages.setdefault(number, np.zeros(PAGE_OFFSETS, dtype=np.uint8))
            index = offsets[here] - number * PAGE_OFFSETS
            page[index] |= codes[here] << shift
            both = page[index]
            said, other = both & _LOW, both >> _HIGH
            self.unlike.add_unlike(offsets[here], said, other)
            done = (said > 0) & (other > 0)
            page[index[done]] = 0
            self.waiting += len(done) - 2 * int(np.count_nonzero(done))
            if not page.any():
                del self._pages[number]


class FirstWords:
    """The first outcome of every offset, by partition, to be compared with what is read in another order.

    Memory: 8 KB for 8,192 offsets while they are told of; then packed, some 300 bytes where one in a hundred is no
    answer, 3 KB at the very most.
    """

    def __init__(self) -> None:
        self._pages: dict[tuple[int, int], Codes] = {}
        self._full: dict[tuple[int, int], bytes] = {}

    def take(self, partition: int, offsets: Ints, codes: Codes) -> None:
        """Note outcomes. Of each offset once."""
        numbers = offsets // PAGE_OFFSETS
        for number in np.unique(numbers).tolist():
            here = numbers == number
            page = self._pages.setdefault((partition, number), np.zeros(PAGE_OFFSETS, dtype=np.uint8))
            page[offsets[here] - number * PAGE_OFFSETS] = codes[here]
            if page.all():
                self._full[partition, number] = zlib.compress(self._pages.pop((partition, number)).tobytes(), 1)

    def between(self, partition: int, first: int, after: int) -> Codes:
        """The codes of the offsets from `first` to below `after`; 0: none was told."""
        numbers = range(first // PAGE_OFFSETS, -(-after // PAGE_OFFSETS))
        pages = [self._page(partition, number) for number in numbers]
        whole = np.concatenate(pages) if pages else np.zeros(0, dtype=np.uint8)
        begin = first - numbers.start * PAGE_OFFSETS
        return whole[begin : begin + max(0, after - first)]

    def _page(self, partition: int, number: int) -> Codes:
        packed = self._full.get((partition, number))
        if packed is not None:
            return np.frombuffer(zlib.decompress(packed), dtype=np.uint8)
        page = self._pages.get((partition, number))
        return np.zeros(PAGE_OFFSETS, dtype=np.uint8) if page is None else page
