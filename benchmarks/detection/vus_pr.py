"""VUS-PR: volume under the surface of range-based precision and recall (Paparrizos et al., PVLDB 15(11), 2022).

In the form of the TSB-AD benchmark (Liu, Paparrizos, NeurIPS 2024): every anomaly gets a buffer on both sides in which
a detection counts in part, sqrt(1 - distance/width) as much; the area under precision over recall is averaged over all
widths from 0 to the series' period. Recall is multiplied by the share of anomalies that are touched at all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.compiled import compiled

N_THRESHOLDS = 250
PERIOD_WITHOUT_RHYTHM = 125
PERIOD_MIN, PERIOD_MAX, LAG_MAX, POINTS_MAX = 3, 300, 400, 20_000
"""TSB-AD's: the period is a lag of the highest peak of the autocorrelation of the first 20,000 points."""


def vus_pr(scores: NDArray[np.float64], labels: NDArray[np.bool_], width_max: int) -> float:
    """0 to 1. `scores` (n,), NaN ranking last, and `labels` (n,) of one series; widths in points.

    Raises ValueError without an anomalous point.
    """
    marks = np.diff(np.concatenate([[0], labels.astype(np.int8), [0]]))
    firsts, lasts = np.flatnonzero(marks == 1), np.flatnonzero(marks == -1) - 1
    if len(firsts) == 0:
        raise ValueError("no anomalous point")
    scores = np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    ordered = np.sort(scores)
    thresholds = ordered[::-1][np.linspace(0, len(scores) - 1, N_THRESHOLDS).astype(np.int64)]
    predicted = len(scores) - np.searchsorted(ordered, thresholds, side="left")
    # The number of the first threshold, from high to low, that a point reaches.
    level = np.searchsorted(-thresholds, -scores, side="left")
    return float(_volume(level, predicted, firsts, lasts, width_max))


@compiled
def _volume(
    level: NDArray[np.int64],
    predicted: NDArray[np.int64],
    firsts: NDArray[np.int64],
    lasts: NDArray[np.int64],
    width_max: int,
) -> float:
    n, n_levels, events = len(level), len(predicted), len(firsts)
    inside = np.zeros(n_levels)
    positives = 0
    for event in range(events):
        positives += lasts[event] - firsts[event] + 1
        for i in range(firsts[event], lasts[event] + 1):
            inside[level[i]] += 1.0
    total = 0.0
    share = np.zeros(n)
    for width in range(width_max + 1):
        half = width // 2
        for event in range(events):
            for i in range(max(firsts[event] - half, 0), firsts[event]):
                share[i] += np.sqrt(1.0 - (firsts[event] - i) / width)
            for i in range(lasts[event] + 1, min(lasts[event] + half + 1, n)):
                share[i] += np.sqrt(1.0 - (i - lasts[event]) / width)
        buffered, touched = np.zeros(n_levels), np.zeros(n_levels)
        groups, event = 0, 0
        while event < events:
            begin, first_level = max(firsts[event] - half, 0), n_levels
            while event + 1 < events and lasts[event] + half >= firsts[event + 1] - half:
                event += 1
            for i in range(begin, min(lasts[event] + half + 1, n)):
                first_level = min(first_level, level[i])
            touched[first_level] += 1.0
            groups += 1
            event += 1
        for event in range(events):
            share[firsts[event] : lasts[event] + 1] = 0.0  # counted in full, whatever buffer reaches here
        for event in range(events):
            for i in range(max(firsts[event] - half, 0), firsts[event]):
                buffered[level[i]] += min(share[i], 1.0)
                share[i] = 0.0
            for i in range(lasts[event] + 1, min(lasts[event] + half + 1, n)):
                buffered[level[i]] += min(share[i], 1.0)
                share[i] = 0.0
        true, part, met, recall_before = 0.0, 0.0, 0.0, 0.0
        for k in range(n_levels):
            part += buffered[k]
            true += inside[k] + buffered[k]
            met += touched[k]
            recall = min(true / (positives + part / 2.0), 1.0) * (met / groups)
            total += (recall - recall_before) * true / predicted[k]
            recall_before = recall
    return total / (width_max + 1)


def period(values: NDArray[np.float64]) -> int:
    """The lag of the highest peak of the autocorrelation, 3 to 303 points; 125 where there is none."""
    values = values[np.isfinite(values)][:POINTS_MAX]
    if len(values) < 2 or np.ptp(values) == 0:
        return PERIOD_WITHOUT_RHYTHM
    lags = _autocorrelation(values)[PERIOD_MIN:]
    peaks = np.flatnonzero((lags[1:-1] > lags[:-2]) & (lags[1:-1] > lags[2:])) + 1
    if len(peaks) == 0:
        return PERIOD_WITHOUT_RHYTHM
    highest = int(peaks[np.argmax(lags[peaks])])
    return highest + PERIOD_MIN if PERIOD_MIN <= highest <= PERIOD_MAX else PERIOD_WITHOUT_RHYTHM


def _autocorrelation(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Biased, of the values without their mean, for lags 0 to `LAG_MAX`."""
    centred = values - values.mean()
    size = 1 << (2 * len(centred) - 1).bit_length()
    spectrum = np.fft.rfft(centred, size)
    products = np.fft.irfft(spectrum * np.conj(spectrum), size)[: min(LAG_MAX, len(centred) - 1) + 1]
    return np.asarray(products / products[0])
