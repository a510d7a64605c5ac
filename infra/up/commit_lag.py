"""For how long records have waited to be committed, told from offsets alone: no record is read. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from infra.ports import Place, Ranges

SAMPLES_MAX = 720
"""Ends remembered of a partition: two hours of looks in 10 s. Above, every other one is forgotten, and ages are told a
little too low."""


class CommitLag:
    """Remembers when each partition's end was seen where. The age that it tells is a lower bound: what was there at the
    first look may be older."""

    def __init__(self, samples_max: int = SAMPLES_MAX) -> None:
        self._samples_max = samples_max
        self._ends: dict[Place, deque[tuple[float, int]]] = {}

    def look(self, committed: Mapping[Place, int], ranges: Ranges, now: float) -> tuple[int, float]:
        """Records not committed, and seconds that the oldest of them has been there. `ranges`: of the whole log; what
        was removed from it before it was committed does not wait any more."""
        for gone in self._ends.keys() - ranges.keys():
            del self._ends[gone]
        behind, oldest = 0, now
        for place, (first, after) in ranges.items():
            done = max(first, committed.get(place, first))
            samples = self._ends.setdefault(place, deque())
            if samples and samples[-1][1] > after:
                samples.clear()  # the topic was made anew
            if not samples or samples[-1][1] < after:
                samples.append((now, after))
            while samples and samples[0][1] <= done:
                samples.popleft()
            if len(samples) > self._samples_max:
                thinned = [one for number, one in enumerate(samples) if number % 2 == 0 or one is samples[-1]]
                self._ends[place] = samples = deque(thinned)
            behind += max(0, after - done)
            if samples:
                oldest = min(oldest, samples[0][0])
        return behind, now - oldest
