"""The compiled loop of `regression`: for each window its row of state explains the latency, and then learns it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors import clock as clock_rule
from stream_jobs.detectors.compiled import compiled, part, stamp_of

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

VARIABLES = 7
FACTORS = VARIABLES - 1
SEEN_MS = clock_rule.LAST_MS
"""Time of the last window, -1: there was none. The first numbers are the clock's (`detectors.clock`), kept exact."""
WINDOWS = clock_rule.NUMBERS
REQUESTS, SCALE, MIX = WINDOWS + 1, WINDOWS + 2, WINDOWS + 3
"""Windows learnt, requests remembered, usual size of the residual, usual part of workers. They and all behind them are
kept as exactly as float32 is."""
MEAN, COVARIANCE = WINDOWS + 4, WINDOWS + 4 + VARIABLES
WORKER = COVARIANCE + VARIABLES * VARIABLES
WORKERS = 8
ID, OFFSET, LEARNT, LAST = 0, 1, 2, 3
"""Of a worker: its number (0: none), how much slower it usually is, its windows learnt, in which window it was last."""
SLOT = 4
WIDTH = WORKER + WORKERS * SLOT
# What is said of a window: its mean latency, the usual one, what the regression leaves, each factor's part of the rise,
# the workers', and the coefficients.
ACTUAL, USUAL, LEFT, PARTS, OF_WORKERS, COEFFICIENTS = 0, 1, 2, 3, 3 + FACTORS, 4 + FACTORS
TOLD = 4 + 2 * FACTORS

MEMORY_MS = 6 * 3_600_000.0
"""Of the usual values and of the coefficients: a shift becomes usual in hours, after its alert was read."""
GAP_MS_MAX = 60_000.0
"""Time without windows counts for at most so much: it is no evidence. To the clock it is how long no news is usual."""
RIDGE = 1e-3
"""Collinear factors share what they explain: a share of each factor's variance is added to it."""
RIDGE_REQUESTS = 12.0
"""And twice as many requests as there are factors: a few requests explain nothing by themselves."""
FLOOR = np.array([0.5, 2.0, 2.0, 0.25, 0.02, 3.2e7])
"""A factor that varies less than this (ms, tokens, tokens, requests, share, bytes) explains little at first."""
FLOOR_REQUESTS = 30.0
"""The floor's square counts as much as so many of the requests remembered, and as RIDGE at least."""
PRIOR = np.array([1.0, 0.0, 0.0, 0.0, 0.0, 0.0])
"""Before anything is learnt: waiting is part of the latency by definition, of the rest nothing is known."""
BEYOND = 3.0
"""A residual of more than so many usual ones is learnt with less weight (Huber 1964)."""
SPREAD = 25.0
"""So is a window within which latency varies so many times as much as usual."""
YOUNG = 5
"""Windows that are learnt as they come: there is no usual size yet."""
SCALE_MIN_MS = 0.1
LARGE_SHARE = 0.2
"""Of the requests: what a worker with fewer does is not what all do."""

_passed_ms = part(clock_rule.passed_ms)


@part
def _solve(cov: Floats, ridge: Floats, out: Floats) -> None:
    """Coefficients of the factors: the prior, moved to where the covariances say (ridge regression, by Cholesky)."""
    low = np.zeros((FACTORS, FACTORS))
    for i in range(FACTORS):
        right = cov[0, i + 1]
        for j in range(FACTORS):
            right -= cov[i + 1, j + 1] * PRIOR[j]
        for j in range(i + 1):
            value = cov[i + 1, j + 1]
            if i == j:
                value += ridge[i]
            for k in range(j):
                value -= low[i, k] * low[j, k]
            if i == j:
                # Rounding: what is left of a factor that is all others' is at least a part of its own ridge.
                low[i, i] = math.sqrt(max(value, 0.5 * ridge[i]))
            else:
                low[i, j] = value / low[j, j]
        for k in range(i):
            right -= low[i, k] * out[k]
        out[i] = right / low[i, i]
    for i in range(FACTORS - 1, -1, -1):
        value = out[i]
        for k in range(i + 1, FACTORS):
            value -= low[k, i] * out[k]
        out[i] = value / low[i, i]
    for i in range(FACTORS):
        out[i] += PRIOR[i]


@part
def _place_of(state: Floats, worker: float) -> int:
    """Where the worker is remembered; -1: nowhere."""
    for k in range(WORKERS):
        if state[WORKER + k * SLOT + ID] == worker:
            return k
    return -1


@part
def _excesses(state: Floats, told: Floats, workers: Floats, counts: Floats, means: Floats, out: Floats) -> None:
    """How much slower each worker was than its requests' factors say; `means` is (workers, VARIABLES)."""
    for w in range(len(workers)):
        if counts[w] <= 0.0:
            continue
        value = means[w, 0] - state[MEAN]
        for f in range(FACTORS):
            value -= told[COEFFICIENTS + f] * (means[w, f + 1] - state[MEAN + f + 1])
        out[w] = value


@part
def _of_workers(state: Floats, workers: Floats, counts: Floats, excess: Floats) -> tuple[float, float]:
    """What workers add: by who does more of the work than usual, and by what one does that the others do not.

    What even the least unusual of the large workers shows is of all of them. Returns it, and the usual part alone.
    """
    total, usual, new, common, least = 0.0, 0.0, 0.0, 0.0, np.inf
    for w in range(len(workers)):
        total += counts[w]
    for w in range(len(workers)):
        if counts[w] <= 0.0:
            continue
        share, place = counts[w] / total, _place_of(state, workers[w])
        offset = state[WORKER + place * SLOT + OFFSET] if place >= 0 else 0.0
        usual += share * offset
        new += share * (excess[w] - offset)
        if share >= LARGE_SHARE and abs(excess[w] - offset) < least:
            least, common = abs(excess[w] - offset), excess[w] - offset
    if least == np.inf:
        common = new
    return usual - state[MIX] + new - common, usual


@part
def _explain(
    state: Floats, ridge: Floats, workers: Floats, counts: Floats, means: Floats, mean: Floats, excess: Floats,
    told: Floats,
) -> float:  # fmt: skip
    """Fill `told` of a window with mean vector `mean`. Returns the workers' usual part."""
    cov = state[COVARIANCE : COVARIANCE + VARIABLES * VARIABLES].reshape(VARIABLES, VARIABLES)
    _solve(cov, ridge, told[COEFFICIENTS:])
    rest = mean[0] - state[MEAN]
    for f in range(FACTORS):
        told[PARTS + f] = told[COEFFICIENTS + f] * (mean[f + 1] - state[MEAN + f + 1])
        rest -= told[PARTS + f]
    _excesses(state, told, workers, counts, means, excess)
    part_of, usual = _of_workers(state, workers, counts, excess)
    told[ACTUAL], told[USUAL] = mean[0], state[MEAN]
    told[OF_WORKERS], told[LEFT] = part_of, rest - part_of
    return usual


@part
def _weight(state: Floats, residual: float, spread: float) -> float:
    """How much of a window is believed: 1, or less where it is far off or far wider than any before."""
    if state[WINDOWS] < YOUNG:
        return 1.0
    weight, far = 1.0, BEYOND * max(state[SCALE], SCALE_MIN_MS)
    if abs(residual) > far:
        weight = far / abs(residual)
    usual = SPREAD * (state[COVARIANCE] + SCALE_MIN_MS)
    if spread > usual:
        weight *= usual / spread
    return weight


@part
def _learn(state: Floats, mean: Floats, within: Floats, count: float, residual: float, share: float) -> None:
    """Move usual values, covariances and the usual residual towards the window."""
    weight = _weight(state, residual, within[0, 0])
    far = BEYOND * max(state[SCALE], SCALE_MIN_MS)
    size = abs(residual) if state[WINDOWS] < YOUNG else min(abs(residual), far)
    state[SCALE] += share * (size - state[SCALE])
    share *= weight
    off = mean - state[MEAN : MEAN + VARIABLES]
    for a in range(VARIABLES):
        for b in range(VARIABLES):
            at = COVARIANCE + a * VARIABLES + b
            between = share * (1.0 - share) * off[a] * off[b]
            state[at] = (1.0 - share) * state[at] + between + share * within[a, b]
    for a in range(VARIABLES):
        state[MEAN + a] += share * off[a]
    state[REQUESTS] = (1.0 - share) * state[REQUESTS] + weight * count
    state[WINDOWS] += 1.0


@part
def _learn_workers(state: Floats, workers: Floats, counts: Floats, excess: Floats, usual: float, share: float) -> None:
    """Move each worker's usual excess; a new one takes the place of who was longest away, and was not here just now."""
    state[MIX] += share * (usual - state[MIX])
    for w in range(len(workers)):
        if counts[w] <= 0.0 or workers[w] == 0.0:
            continue
        place = _place_of(state, workers[w])
        if place < 0:
            place = 0
            for k in range(1, WORKERS):
                if state[WORKER + k * SLOT + LAST] < state[WORKER + place * SLOT + LAST]:
                    place = k
            at = WORKER + place * SLOT
            if state[at + LAST] >= state[WINDOWS]:
                continue
            state[at + ID], state[at + OFFSET], state[at + LEARNT] = workers[w], 0.0, 0.0
        at = WORKER + place * SLOT
        # As far as single requests usually are: workers differ by more than means of all of them do.
        far = BEYOND * math.sqrt(state[COVARIANCE] + SCALE_MIN_MS)
        step = min(max(excess[w] - state[at + OFFSET], -far), far)
        state[at + LEARNT] += 1.0
        state[at + OFFSET] += max(share, 1.0 / (state[at + LEARNT] + YOUNG)) * step
        state[at + LAST] = state[WINDOWS]


def _entry(stamp: int) -> Callable[..., None]:
    """The loop, with the stamp of the rule's source in it: numba keeps machine code by what a function closes over."""

    def explain_then_learn(
        states: Floats, rows: Ints, time_ms: Ints, first: Ints, workers: Floats, counts: Floats, sums: Floats,
        products: Floats, told: Floats, excess: Floats, learn: bool,
    ) -> None:  # fmt: skip
        """Explain window i by the state in row `rows[i]`, then, where `learn`, learn it there, for each i in turn.

        Its workers are those from `first[i]` to `first[i + 1]`, with `counts` requests and `sums` (workers, VARIABLES)
        in the units of `FLOOR`; `products` is (n, VARIABLES, VARIABLES). `told` is (n, TOLD) and comes filled with NaN,
        as it stays for a window without requests, in the first window of a series, and where its time is not believed;
        `excess`, (workers,), is how much slower each worker was than usual work of its kind.
        """
        if not stamp:
            return
        mean, within, ridge = np.zeros(VARIABLES), np.zeros((VARIABLES, VARIABLES)), np.zeros(FACTORS)
        for i in range(len(rows)):
            state, a, b = states[rows[i]], first[i], first[i + 1]
            total = 0.0
            mean[:] = 0.0
            for w in range(a, b):
                total += counts[w]
                mean += sums[w]
            if total <= 0.0:
                continue
            clock, passed = state[: clock_rule.NUMBERS].copy(), 0.0
            if clock[SEEN_MS] < 0.0:
                clock[SEEN_MS] = float(time_ms[i])
            else:
                passed = float(_passed_ms(clock, GAP_MS_MAX, float(time_ms[i])))
            if learn:
                state[: clock_rule.NUMBERS] = clock
            if passed == clock_rule.NOT_BELIEVED:
                continue
            mean /= total
            means = np.zeros((b - a, VARIABLES))
            for w in range(a, b):
                if counts[w] > 0.0:
                    means[w - a] = sums[w] / counts[w]
            residual, usual = 0.0, 0.0
            if state[WINDOWS] > 0.0:
                more = RIDGE + RIDGE_REQUESTS / (state[REQUESTS] + 1.0)
                for f in range(FACTORS):
                    floor = FLOOR[f] * FLOOR[f] * (RIDGE + FLOOR_REQUESTS / (state[REQUESTS] + 1.0))
                    ridge[f] = more * state[COVARIANCE + (f + 1) * (VARIABLES + 1)] + floor
                usual = _explain(state, ridge, workers[a:b], counts[a:b], means, mean, excess[a:b], told[i])
                residual = told[i, LEFT] + told[i, OF_WORKERS]
            if not learn:
                continue
            for p in range(VARIABLES):
                for q in range(VARIABLES):
                    within[p, q] = products[i, p, q] / total - mean[p] * mean[q]
            passed = min(passed, GAP_MS_MAX)
            share = max(1.0 / (state[WINDOWS] + 1.0), passed / (passed + MEMORY_MS))
            started = state[WINDOWS] > 0.0
            _learn(state, mean, within, total, residual, share)
            if started:
                _learn_workers(state, workers[a:b], counts[a:b], excess[a:b], usual, share)
            # Half as many bytes to keep, and what is kept is what was learnt with.
            for k in range(WINDOWS, WIDTH):
                state[k] = np.float64(np.float32(state[k]))

    return explain_then_learn


explain_then_learn = compiled(_entry(stamp_of(clock_rule)))
