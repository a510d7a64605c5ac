"""Why a series' requests are slow: their latency regressed online on what they were, window by window.

Ridge regression with forgetting on the covariances of requests within and between windows, which is recursive least
squares (Plackett 1950) in blocks, with less weight for windows far off (Huber 1964). River's linear models learn one
request at a time; a window here is what 36 sums say of thousands, and a test holds the two to the same coefficients.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from schemas.windows import FACTOR_UNITS, FACTORS, LatencySums
from stream_jobs.attribution.factors import VARIABLES, vectors_of
from stream_jobs.detectors.clock import BELIEVED_AT, JUMP_COUNT, NUMBERS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

LEARNING_WINDOWS = 12
"""Two minutes of windows of ten seconds: what is said before is not told."""
CAUSES: tuple[str, ...] = (*FACTORS, "worker", "unexplained")
"""What a rise is laid to: the factors, workers that differ, and the same work taking longer."""
_WITH_DOUBTS = b"\x01"
"""Ends a state that tells what the clock doubts; all other states are a multiple of four bytes long."""
_DOUBTS_BYTES = 8 * (NUMBERS - 1) + len(_WITH_DOUBTS)
_UNITS = np.array(FACTOR_UNITS)
_UNIT_PAIRS = np.outer(_UNITS, _UNITS)
_UPPER = np.triu_indices(VARIABLES)


@dataclass(frozen=True, slots=True)
class LatencyCauses:
    """What explains the mean latency of a series in a window, milliseconds. The parts sum to its rise."""

    actual_ms: float
    usual_ms: float
    parts_ms: dict[str, float]
    """Of the rise over the usual, by cause, in the order of CAUSES; below 0 where it makes up for others."""
    coefficients: dict[str, float]
    """Milliseconds for one of each factor: a ms, a token, a request, all of the inputs cached, a byte."""
    learning: bool
    slowest_worker: str
    """The one that took most longer than its requests explain; empty text when it is not named."""
    slowest_excess_ms: float

    @property
    def residual_ms(self) -> float:
        """What the factors leave unexplained, workers' differences counted in."""
        return self.parts_ms["worker"] + self.parts_ms["unexplained"]

    @property
    def shares(self) -> dict[str, float]:
        """Which share of what makes it slower each cause has, largest first: they sum to 1. Empty without any."""
        up = sorted(((part, name) for name, part in self.parts_ms.items() if part > 0.0), key=lambda one: -one[0])
        total = math.fsum(part for part, _ in up)
        return {name: part / total for part, name in up} if total > 0.0 else {}


def new_states(series: int) -> Floats:
    """States of so many series that have seen nothing, (series, numbers)."""
    from stream_jobs.attribution import compiled_regression as at

    states = np.zeros((series, at.WIDTH))
    states[:, at.SEEN_MS] = -1.0
    return states


def explain_many(
    states: Floats, rows: Sequence[int], time_ms: Sequence[int], windows: Sequence[LatencySums], *, learn: bool
) -> list[LatencyCauses | None]:
    """Explain each window by the state in its row, and with `learn` learn it there before the next.

    None: nothing can be said, because the window has no requests, is its series' first, or its time is not believed:
    see `clock.passed_ms`. Bit for bit what the windows one by one give.
    """
    from stream_jobs.attribution import compiled_regression as at  # numba takes a second to import

    first = np.concatenate(([0], np.cumsum([len(one.workers) for one in windows]))).astype(np.int64)
    names = [name for one in windows for name in one.workers]
    counts = np.array([count for one in windows for count in one.counts], dtype=np.float64)
    sums = np.array([row for one in windows for row in one.sums], dtype=np.float64).reshape(-1, VARIABLES) * _UNITS
    told, excess = np.full((len(windows), at.TOLD), np.nan), np.full(len(names), np.nan)
    workers = np.array([_number_of(name) for name in names], dtype=np.float64)
    ids, times = np.array(rows, dtype=np.int64), np.array(time_ms, dtype=np.int64)
    at.explain_then_learn(states, ids, times, first, workers, counts, sums, _squares_of(windows), told, excess, learn)
    ends = pairwise(first.tolist())
    young = [bool(states[row, at.WINDOWS] - learn < LEARNING_WINDOWS) for row in rows]
    return [
        None if math.isnan(one[at.ACTUAL]) else _causes(one, names[a:b], excess[a:b].tolist(), learning)
        for one, (a, b), learning in zip(told.tolist(), ends, young, strict=True)
    ]


class LatencyRegression:
    """The causes of one series' latency: see the module.

    It fails where factors always move together, which then share what they explain, where an effect is not linear
    (a queue near saturation, which is why waiting is a factor of its own), and for causes that are no factor: those
    are in `unexplained`. What lasts for hours becomes usual.
    """

    __slots__ = ("_states",)

    def __init__(self) -> None:
        self._states = new_states(1)

    def explain(self, window: LatencySums, time_ms: int) -> LatencyCauses | None:
        """What explains a window before it is learnt; see `explain_many`."""
        return explain_many(self._states.copy(), [0], [time_ms], [window], learn=False)[0]

    def explain_then_learn(self, window: LatencySums, time_ms: int) -> LatencyCauses | None:
        """What explains a window; then it is learnt. One whose time is not believed is neither: see `explain_many`."""
        return explain_many(self._states, [0], [time_ms], [window], learn=True)[0]

    def state(self) -> bytes:
        """Everything learnt: the time as little-endian float64, the rest as float32, workers that there are. Where the
        clock has more to tell than the time, it is behind that as float64, and a byte more."""
        row = self._states[0]
        kept = row[_kept()]
        there = np.flatnonzero(kept)
        learnt = kept[: there[-1] + 1] if len(there) else kept[:0]
        state: bytes = row[:1].astype("<f8").tobytes() + learnt.astype("<f4").tobytes()
        doubts = row[1:NUMBERS]
        return state + doubts.astype("<f8").tobytes() + _WITH_DOUBTS if doubts.any() else state

    def restore(self, state: bytes) -> None:
        """Take over what `state` gave. Raises ValueError when it is broken or not finite."""
        from stream_jobs.attribution import compiled_regression as at

        try:
            has_doubts = len(state) % 4 == len(_WITH_DOUBTS) and state.endswith(_WITH_DOUBTS)
            end = len(state) - _DOUBTS_BYTES if has_doubts else len(state)
            clock = np.frombuffer(state[:8] + state[end:-1], dtype="<f8")
            taken = np.frombuffer(state[8:end], dtype="<f4")
        except (AttributeError, TypeError, ValueError) as error:
            raise ValueError(f"latency regression: {error}") from None
        if len(clock) not in (1, NUMBERS) or len(taken) > len(_kept()) or not np.isfinite([*clock, *taken]).all():
            raise ValueError(f"latency regression: {len(state)} bytes, or a number that is not finite")
        row = np.zeros(at.WIDTH)
        row[: len(clock)] = clock
        if not 0 <= row[JUMP_COUNT] < BELIEVED_AT:
            raise ValueError(f"latency regression: {row[JUMP_COUNT]} windows in a row not believed")
        row[_kept()[: len(taken)]] = taken
        cov = row[at.COVARIANCE : at.WORKER].reshape(VARIABLES, VARIABLES)
        cov += np.triu(cov, 1).T
        if row[at.WINDOWS] < 0 or row[at.SCALE] < 0 or (np.diag(cov) < 0).any():
            raise ValueError("latency regression: a count or a variance is below 0")
        self._states[0] = row


def explain_together(
    regressions: Sequence[LatencyRegression], time_ms: int, windows: Sequence[LatencySums]
) -> list[LatencyCauses | None]:
    """One window of each of several series: what `explain_then_learn` gives, for less time a series."""
    if not regressions:
        return []
    states = np.concatenate([one._states for one in regressions])
    found = explain_many(states, range(len(windows)), [time_ms] * len(windows), windows, learn=True)
    for one, state in zip(regressions, states, strict=True):
        one._states[0] = state
    return found


def merged_sums(parts: Sequence[LatencySums]) -> LatencySums:
    """All of them added up, workers in the order of their names; exact, whatever the order of the parts."""
    parts = [one for one in parts if one.workers]
    if len(parts) <= 1:
        return parts[0] if parts else LatencySums()
    workers: dict[str, tuple[int, list[int]]] = {}
    for part in parts:
        for name, count, sums in zip(part.workers, part.counts, part.sums, strict=True):
            known = workers.get(name)
            workers[name] = (
                (count, sums)
                if known is None
                else (known[0] + count, [a + b for a, b in zip(known[1], sums, strict=True)])
            )
    names = sorted(workers)
    return LatencySums.model_construct(
        workers=names,
        counts=[workers[name][0] for name in names],
        sums=[workers[name][1] for name in names],
        products=[sum(column) for column in zip(*(one.products for one in parts), strict=True)],
    )


def warm_up() -> None:
    """Load the compiled loops, compiling those that are not cached: seconds, better spent before the first record."""
    from stream_jobs.attribution.window_sums import WindowSums

    sums, one = WindowSums(), np.zeros(1, dtype=np.int64)
    vectors = vectors_of(*(np.ones(1) for _ in range(VARIABLES)))
    sums.add(one, one, "warm-up", vectors, np.ones(1, dtype=np.bool_))
    LatencyRegression().explain_then_learn(sums.cut([0])[0], 1)


def _squares_of(windows: Sequence[LatencySums]) -> Floats:
    squares = np.zeros((len(windows), VARIABLES, VARIABLES))
    for number, one in enumerate(windows):
        if one.products:
            upper = np.zeros((VARIABLES, VARIABLES))
            upper[_UPPER] = one.products
            squares[number] = (upper + np.triu(upper, 1).T) * _UNIT_PAIRS
    return squares


def _causes(told: list[float], workers: list[str], excess: list[float], learning: bool) -> LatencyCauses:
    from stream_jobs.attribution import compiled_regression as at

    parts = [*told[at.PARTS : at.OF_WORKERS], told[at.OF_WORKERS], told[at.LEFT]]
    slowest = max(range(len(workers)), key=lambda number: excess[number])
    return LatencyCauses(
        actual_ms=told[at.ACTUAL],
        usual_ms=told[at.USUAL],
        parts_ms=dict(zip(CAUSES, parts, strict=True)),
        coefficients=dict(zip(FACTORS, told[at.COEFFICIENTS :], strict=True)),
        learning=learning,
        slowest_worker=workers[slowest],
        slowest_excess_ms=excess[slowest],
    )


@lru_cache(maxsize=1)
def _kept() -> Ints:
    """Which numbers of a row, after the clock's, the state keeps: of symmetric ones the upper half."""
    from stream_jobs.attribution import compiled_regression as at

    upper = at.COVARIANCE + np.ravel_multi_index(_UPPER, (VARIABLES, VARIABLES))
    return np.concatenate((np.arange(at.WINDOWS, at.COVARIANCE), upper, np.arange(at.WORKER, at.WIDTH))).astype(
        np.int64
    )


@lru_cache(maxsize=4_096)
def _number_of(worker: str) -> float:
    """A worker's number in the state: of 24 bits, so exact as float32; 0 for the nameless others."""
    if not worker:
        return 0.0
    return float(1 + int.from_bytes(hashlib.blake2b(worker.encode(), digest_size=8).digest(), "big") % (2**24 - 1))
