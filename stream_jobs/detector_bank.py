"""Detectors of many series at once: one row a series and metric, all points of a window scored with one call.

Owns the learnt state of the selected detector; knows nothing of metrics, alerts or pages.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors import two_heads
from stream_jobs.detectors.base import Floats, Scores, SeriesDetector
from stream_jobs.detectors.borrowed_scale import borrowed
from stream_jobs.detectors.registry import detector_named
from stream_jobs.detectors.two_heads_record import pack_row, row_of, unpack_row

GROWTH_ROWS = 64
USUAL_SCORE = 0.9
"""The median score of first values that are no news: of values like the past ones it is about 0.5."""


class DetectorBank(ABC):
    """Detectors by row. The scores of one call are bit for bit those of each series asked on its own."""

    name: str
    """The detector's, as scores carry it."""
    digest: str
    """Hash of its configuration, 16 hexadecimal characters."""
    options: Mapping[str, float] = MappingProxyType({})
    """What of its configuration was asked for by name, see `bank_named`."""

    def __init__(self) -> None:
        self._free: list[int] = []
        self._rows = 0

    def new(self) -> int:
        """A row that has seen nothing."""
        row = self._free.pop() if self._free else self._rows
        self._rows = max(self._rows, row + 1)
        self._clear(row)
        return row

    def renew(self, row: int) -> None:
        """The row has seen nothing any more."""
        self._clear(row)

    def drop(self, row: int) -> None:
        """The row is not needed any more; another series may get it."""
        self._free.append(row)

    @abstractmethod
    def run(self, rows: NDArray[np.int64], time_ms: NDArray[np.int64], values: Floats) -> Scores:
        """Score point i against row `rows[i]`, then learn it there, for each i in turn. `values` is (n,)."""

    @abstractmethod
    def state(self, row: int) -> bytes:
        """What the row has learnt, exact, with version, configuration and checksum."""

    @abstractmethod
    def restore(self, row: int, state: bytes) -> None:
        """Take over what `state` gave. Raises ValueError, and changes nothing, when it is cut, altered or not ours."""

    def numbers(self, row: int) -> bytes:
        """The same for a place that says itself whose state it is, by `digest`, and that it is whole."""
        return self.state(row)

    def take_numbers(self, row: int, numbers: bytes) -> None:
        """Take over what `numbers` gave, of a bank with this digest. Raises ValueError, and changes nothing, when they
        are not such."""
        self.restore(row, numbers)

    @abstractmethod
    def borrow(self, row: int, elder: int, time_ms: NDArray[np.int64], first: Floats) -> bool:
        """Begin `row` anew from the elder's state and its own `first` values, (n,), `FIRST_MIN` of them, whose times
        `time_ms`, (n,), rise. False, and nothing changed: the elder has nothing to lend yet, or nothing that holds at
        the level of the first values."""

    @abstractmethod
    def _clear(self, row: int) -> None:
        """The row has seen nothing."""


class TwoHeadsBank(DetectorBank):
    """The default detector: states in one array, all points through one compiled call."""

    def __init__(self, policy: two_heads.TwoHeadsPolicy) -> None:
        super().__init__()
        self.name, self.digest = two_heads.NAME, two_heads.TwoHeads(policy=policy).digest()
        self._policy = policy
        self._states = two_heads.new_states(0, 1)

    def run(self, rows: NDArray[np.int64], time_ms: NDArray[np.int64], values: Floats) -> Scores:
        """See `DetectorBank.run`."""
        return two_heads.run_many(self._states, rows, time_ms, values.reshape(-1, 1), self._policy)

    def state(self, row: int) -> bytes:
        """See `DetectorBank.state`: what `TwoHeads.state` gives."""
        return pack_row(self._states[row], self.digest)

    def restore(self, row: int, state: bytes) -> None:
        """See `DetectorBank.restore`."""
        self._states[row] = unpack_row(state, self._states.shape[1], self.digest)

    def numbers(self, row: int) -> bytes:
        """See `DetectorBank.numbers`: the row alone."""
        numbers: bytes = self._states[row].astype("<f8", copy=False).tobytes()
        return numbers

    def take_numbers(self, row: int, numbers: bytes) -> None:
        """See `DetectorBank.take_numbers`."""
        self._states[row] = row_of(numbers, self._states.shape[1])

    def borrow(self, row: int, elder: int, time_ms: NDArray[np.int64], first: Floats) -> bool:
        """See `DetectorBank.borrow`, and `borrowed`."""
        state = borrowed(self._states[elder], time_ms, first.reshape(-1, 1), self._policy)
        if state is not None:
            self._states[row] = state
        return state is not None

    def _clear(self, row: int) -> None:
        if row >= len(self._states):
            more = max(GROWTH_ROWS, len(self._states))
            self._states = np.concatenate((self._states, two_heads.new_states(more, 1)))
        self._states[row] = two_heads.new_states(1, 1)[0]


class SingleBank(DetectorBank):
    """Any other detector: one object a row, asked one after the other."""

    def __init__(self, make: Callable[[], SeriesDetector]) -> None:
        super().__init__()
        self._make = make
        one = make()
        self.name, self.digest = one.name, one.digest()
        self._detectors: dict[int, SeriesDetector] = {}

    def run(self, rows: NDArray[np.int64], time_ms: NDArray[np.int64], values: Floats) -> Scores:
        """See `DetectorBank.run`."""
        points = zip(rows.tolist(), range(len(rows)), strict=True)
        return _joined(self._detectors[row].run(time_ms[i : i + 1], values[i : i + 1, None]) for row, i in points)

    def state(self, row: int) -> bytes:
        """See `DetectorBank.state`."""
        return self._detectors[row].state()

    def restore(self, row: int, state: bytes) -> None:
        """See `DetectorBank.restore`."""
        self._detectors[row].restore(state)

    def borrow(self, row: int, elder: int, time_ms: NDArray[np.int64], first: Floats) -> bool:
        """See `DetectorBank.borrow`. What these detectors learnt cannot be moved to another level: the heir takes it
        over as it is, without the first values, where those are usual by it and no unusual run goes on. What only tells
        of changes (`adwin`, `kswin`) has no such opinion, and begins from nothing, as after a pause of days."""
        state, heir, judge = self._detectors[elder].state(), self._make(), self._make()
        judge.restore(state)
        # After the last value of the elder, which may answer on beside the new version until now.
        after_ms = time_ms + (time_ms[-1] - time_ms[0]) + np.median(np.diff(time_ms)).astype(np.int64)
        said = judge.run(after_ms, first.reshape(-1, 1))
        in_a_run = (said.onset_ms >= 0) & (said.onset_ms < after_ms[0])  # which is not the new version's
        usual = 0.0 < np.median(said.score) <= USUAL_SCORE
        if in_a_run.any() or not usual or not (said.confidence > 0.0).all():
            return False
        heir.restore(state)
        self._detectors[row] = heir
        return True

    def drop(self, row: int) -> None:
        """See `DetectorBank.drop`."""
        super().drop(row)
        del self._detectors[row]

    def _clear(self, row: int) -> None:
        self._detectors[row] = self._make()


def bank_named(name: str, **options: float) -> DetectorBank:
    """A bank of the detector of that name; `options` are for the default one alone. Raises ValueError for no name."""
    if name == two_heads.NAME:
        bank = TwoHeadsBank(replace(two_heads.DEFAULT, **options))
        bank.options = options
        return bank
    return SingleBank(lambda: detector_named(name))


def _joined(parts: Iterable[Scores]) -> Scores:
    found = list(parts)
    if not found:
        none, channels = np.empty(0), np.empty((0, 1))
        return Scores(none, none, none, none, channels, channels, channels, channels, np.empty(0, dtype=np.int64))
    return Scores(*(np.concatenate([getattr(one, field.name) for one in found]) for field in fields(Scores)))
