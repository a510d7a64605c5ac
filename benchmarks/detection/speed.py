"""What scoring costs: a point in a loop, in batches, over many series; and half-space trees beside River's own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.detection.choice import Make, channel_names
from benchmarks.figures import Spread, paired_ratio, spread
from stream_jobs.detectors.base import TIME_KEY, Floats
from stream_jobs.detectors.half_space_trees import HalfSpaceTrees
from stream_jobs.detectors.two_heads import TwoHeads, new_states, run_many

REPEATS = 5
LOOP_POINTS, BATCH_POINTS = 3_000, 100_000
FEW, MANY, POINTS_EACH_ROUND = 100, 10_000, 20_000
HST_FEATURES, HST_ROWS, HST_LOOP_ROWS = 6, 100_000, 2_000
STEP_MS = 60_000
SEED = 7


def made_series(n: int, seed: int = SEED) -> tuple[NDArray[np.int64], Floats]:
    """A daily wave with noise and a few spikes, (n, 1), one point a minute: for clocks, not for scores."""
    rng = np.random.default_rng(seed)
    values = 100.0 + 20.0 * np.sin(np.arange(n) * (2 * np.pi / 1_440)) + rng.normal(0.0, 2.0, n)
    values[rng.random(n) < 0.002] *= 1.5
    return np.arange(n, dtype=np.int64) * STEP_MS, values.reshape(-1, 1)


def point_costs(make: Make) -> dict[str, Spread]:
    """Microseconds a point: `score_one` and `learn_one` in a loop, and `run` over one long batch."""
    times, values = made_series(BATCH_POINTS)
    name = channel_names(1)[0]
    points = [{TIME_KEY: at, name: value} for at, value in zip(times.tolist(), values[:, 0].tolist(), strict=True)]
    make(1).run(times[:100], values[:100])  # compiles what is compiled
    loop, batch = [], []
    for _ in range(REPEATS):
        detector = make(1)
        detector.run(times[:LOOP_POINTS], values[:LOOP_POINTS])
        rest = points[LOOP_POINTS : 2 * LOOP_POINTS]

        def in_loop(detector: Any = detector, rest: Any = rest) -> None:
            for point in rest:
                detector.score_one(point)
                detector.learn_one(point)

        loop.append(_seconds(in_loop) * 1e6 / LOOP_POINTS)
        fresh = make(1)
        batch.append(_seconds(lambda fresh=fresh: fresh.run(times, values)) * 1e6 / BATCH_POINTS)  # type: ignore[misc]
    return {"us_per_point_loop": spread(loop), "us_per_point_batch": spread(batch)}


def state_bytes(make: Make) -> int:
    """Of a series with one channel, after a week of a point a minute."""
    detector = make(1)
    detector.run(*made_series(7 * 1_440))
    return len(detector.state())


def cost_flatness(make: Make) -> Spread:
    """Cost of a point with 10,000 live series over that with 100, window by window over all series, in paired rounds.

    Every series gets one point a window, as telemetry does. Where the detector scores many series in one call, as
    `two_heads` does, that is what is measured; else every series has its own detector.
    """
    together = isinstance(make(1), TwoHeads)
    few, many = (_Rows(FEW), _Rows(MANY)) if together else (_Fleet(make, FEW), _Fleet(make, MANY))
    many_us, few_us = [], []
    for _ in range(REPEATS):
        few_us.append(few.us_per_point())
        many_us.append(many.us_per_point())
    return paired_ratio(many_us, few_us)


class _Fleet:
    """So many live series that are given window after window."""

    def __init__(self, make: Make, size: int) -> None:
        self._detectors = [make(1) for _ in range(size)]
        self._windows = max(1, POINTS_EACH_ROUND // size)
        self._next = 0
        self._times, self._values = made_series(self._windows * (REPEATS + 1))
        self.us_per_point()  # the first window allocates

    def us_per_point(self) -> float:
        """Of the next windows."""
        spans = [slice(i, i + 1) for i in range(self._next, self._next + self._windows)]
        self._next += self._windows

        def windows() -> None:
            for span in spans:
                at, value = self._times[span], self._values[span]
                for detector in self._detectors:
                    detector.run(at, value)

        return _seconds(windows) * 1e6 / (self._windows * len(self._detectors))


class _Rows:
    """The same where one call scores points of many series, each with its row of state."""

    def __init__(self, size: int) -> None:
        self._states, self._size = new_states(size, 1), size
        self._rows = np.arange(size, dtype=np.int64)
        self._windows = max(1, POINTS_EACH_ROUND // size)
        self._next = 0
        self._times, self._values = made_series(self._windows * (REPEATS + 1))
        self.us_per_point()  # compiles

    def us_per_point(self) -> float:
        """Of the next windows."""
        spans = [slice(i, i + 1) for i in range(self._next, self._next + self._windows)]
        self._next += self._windows

        def windows() -> None:
            for span in spans:
                at, value = np.repeat(self._times[span], self._size), np.repeat(self._values[span], self._size, axis=0)
                run_many(self._states, self._rows, at, value)

        return _seconds(windows) * 1e6 / (self._windows * self._size)


def half_space_trees() -> dict[str, Spread]:
    """Rows a second of ours in batches, of River's in its loop, and their ratio in paired rounds."""
    from river import anomaly

    rows = np.random.default_rng(SEED).random((HST_ROWS, HST_FEATURES))
    names = [f"f{i}" for i in range(HST_FEATURES)]
    records = [dict(zip(names, row, strict=True)) for row in rows[:HST_LOOP_ROWS].tolist()]
    HalfSpaceTrees(names).score_then_learn_many(rows[:300])  # compiles
    ours, rivers = [], []
    for _ in range(REPEATS):
        mine, theirs = HalfSpaceTrees(names), anomaly.HalfSpaceTrees(seed=1)

        def loop(theirs: Any = theirs) -> None:
            for record in records:
                theirs.score_one(record)
                theirs.learn_one(record)

        ours.append(HST_ROWS / _seconds(lambda mine=mine: mine.score_then_learn_many(rows)))  # type: ignore[misc]
        rivers.append(HST_LOOP_ROWS / _seconds(loop))
    return {
        "hst_rows_per_second_core": spread(ours),
        "hst_rows_per_second_river": spread(rivers),
        "hst_ratio_to_river": paired_ratio(ours, rivers),
    }


def _seconds(work: Callable[[], Any]) -> float:
    """Of processor time, which a neighbour on the machine does not lengthen as it does the clock's."""
    began = time.process_time()
    work()
    return time.process_time() - began
