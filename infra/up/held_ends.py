"""Where the records of partitions end, without the offsets at an end that nobody can commit. Asks the log itself."""

from __future__ import annotations

from collections.abc import Mapping

from infra.ports import Place, RangeReader, Ranges, RetryLater
from infra.record_ranges import first_record


class HeldEnds:
    """Cuts ranges to what is committed where the log holds nothing after it.

    A transaction leaves a marker behind its records, and one that was taken back its records, too: offsets that no
    consumer gets and none commits. Told from offsets alone, such a group is behind for ever. The log is asked only
    where a group stood still below an end since the last look, and once about each offset.
    """

    def __init__(self, reader: RangeReader) -> None:
        self._reader = reader
        self._committed: dict[Place, int] = {}
        self._empty: dict[Place, tuple[int, int]] = {}
        """The last range known to hold nothing. An end before it is that of a topic made anew: it is forgotten. One
        made anew between two looks that has come as far, and is committed to the same offset, is taken for the old
        one."""
        self._held: dict[Place, int] = {}
        """The offset at or after which a record is known to wait."""

    def of(self, committed: Mapping[Place, int], ranges: Ranges) -> dict[Place, tuple[int, int]]:
        """First and next offsets, the next one being the committed one where no record follows it. A partition of which
        the log does not tell in time keeps its end."""
        found, tells = {}, True
        for place, (first, after) in ranges.items():
            done = max(first, committed.get(place, first))
            if place in self._empty and after < self._empty[place][1]:
                self._forget(place)
            is_over = False
            if tells and done < after and self._committed.get(place) == done:
                try:
                    is_over = self._holds_nothing(place, done, after)
                except RetryLater:  # it is asked for the others at the next look: one look waits for one answer at most
                    tells = False
            found[place] = (first, done) if is_over else (first, after)
            self._committed[place] = done
        for gone in self._committed.keys() - ranges.keys():
            del self._committed[gone]
            self._forget(gone)
        return found

    def _forget(self, place: Place) -> None:
        """Its log will be asked anew."""
        self._empty.pop(place, None)
        self._held.pop(place, None)

    def _holds_nothing(self, place: Place, done: int, after: int) -> bool:
        if self._held.get(place) == done:
            return False
        start, known = self._empty.get(place, (-1, -1))
        asked_from = known if start == done else done
        if asked_from < after and first_record(self._reader, *place, asked_from, after) is not None:
            self._held[place] = done
            return False
        self._empty[place] = (done, after)
        return True
