"""The score of the Numenta Anomaly Benchmark (Lavin, Ahmad, ICMLA 2015, arXiv 1510.03336), from raw scores.

One threshold over all files, the best one per profile. A window that is found counts once, by its earliest detection,
the more the earlier; a detection outside costs, little just after a window. 0 is a detector that never fires, 100 one
that fires at every window's first point only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

PROBATION_SHARE, PROBATION_POINTS_MAX = 0.15, 750
"""The first part of a file is not scored: this share of it, at most as much as of a file of 5,000 points."""
STEEPNESS = 5.0
FAR = 3.0
"""From so many window widths behind a window on a false detection costs in full."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What is gained by a found window and lost by a missed one and by a false detection."""

    found: float
    missed: float
    false: float


PROFILES = {
    "standard": Profile(1.0, 1.0, 0.11),
    "reward_low_FP_rate": Profile(1.0, 1.0, 0.22),
    "reward_low_FN_rate": Profile(1.0, 2.0, 0.11),
}
"""The paper's three."""


@dataclass(frozen=True, slots=True)
class NabFile:
    """Raw scores of one file, (n,), NaN where nothing was said; windows as (first, last) point, in order, disjoint."""

    scores: NDArray[np.float64]
    windows: Sequence[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class NabScore:
    """The score, at most 100, and the threshold that gives it: a point is a detection from it on."""

    score: float
    threshold: float


def nab_score(files: Sequence[NabFile], profile: Profile) -> NabScore:
    """The best score over all thresholds. Raises ValueError where no window can be scored."""
    scores, parts, windows = _points(files, profile)
    count = len(np.unique(windows[windows >= 0]))
    if count == 0:
        raise ValueError("no window outside the probationary periods")
    order = np.argsort(-scores, kind="stable")
    scores, gains = scores[order], _gains(parts[order], windows[order], profile)
    last_of_ties = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    totals = np.append(0.0, np.cumsum(gains)[last_of_ties])
    thresholds = np.append(np.inf, scores[last_of_ties])
    said = thresholds > -np.inf
    best = int(np.argmax(totals[said]))
    return NabScore(100.0 * float(totals[best]) / (count * (profile.found + profile.missed)), float(thresholds[best]))


def score_at(files: Sequence[NabFile], profile: Profile, threshold: float) -> float | None:
    """The score at a given threshold; None without a window to find."""
    scores, parts, windows = _points(files, profile)
    count = len(np.unique(windows[windows >= 0]))
    if count == 0:
        return None
    hit = scores >= threshold
    # A window without a detection gains nothing, so that what is missing from the sum is what it costs.
    total = _gains(parts[hit], windows[hit], profile).sum()
    return 100.0 * float(total) / (count * (profile.found + profile.missed))


def probation(n_points: int) -> int:
    """How many points at the start of a file are not scored."""
    return min(int(PROBATION_SHARE * n_points), PROBATION_POINTS_MAX)


def _points(
    files: Sequence[NabFile], profile: Profile
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Of every scored point of all files: score, what a detection there is worth, number of its window or -1."""
    scores, parts, windows, so_far = [], [], [], 0
    for file in files:
        n = len(file.scores)
        worth, window = np.full(n, -profile.false), np.full(n, -1, dtype=np.int64)
        edges = [*(first for first, _ in file.windows[1:]), n]
        for number, ((first, last), following) in enumerate(zip(file.windows, edges, strict=False)):
            width = last - first + 1
            inside, behind = np.arange(first, last + 1), np.arange(last + 1, following)
            window[inside] = so_far + number
            worth[inside] = profile.found * _sigmoid((inside - last - 1) / width) / _sigmoid(np.array(-1.0))
            worth[behind] = profile.false * _sigmoid((behind - last) / max(width - 1, 1))
        start = probation(n)
        scores.append(np.nan_to_num(file.scores[start:], nan=-np.inf, posinf=np.inf, neginf=-np.inf))
        parts.append(worth[start:])
        windows.append(window[start:])
        so_far += len(file.windows)
    return np.concatenate(scores), np.concatenate(parts), np.concatenate(windows)


def _sigmoid(position: NDArray[np.float64]) -> NDArray[np.float64]:
    """From about 1 at the window's first point (-1) through 0 just behind its last one (0) to -1 far behind it."""
    return np.where(position >= FAR, -1.0, 2.0 / (1.0 + np.exp(STEEPNESS * np.minimum(position, FAR))) - 1.0)


def _gains(parts: NDArray[np.float64], windows: NDArray[np.int64], profile: Profile) -> NDArray[np.float64]:
    """What each detection adds to those before it: outside its own worth, inside what it improves on the window's best
    so far, which is -`missed` at first."""
    gains = np.where(windows < 0, parts, 0.0)
    for window in np.unique(windows[windows >= 0]):
        at = np.flatnonzero(windows == window)
        best = np.maximum.accumulate(np.append(-profile.missed, parts[at]))
        gains[at] = np.diff(best)
    return gains
