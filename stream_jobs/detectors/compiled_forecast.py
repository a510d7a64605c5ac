"""The compiled loop of `predictive_anomaly_detection`: River's recursions, operation by operation."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.compiled import compiled

Floats = NDArray[np.float64]

SEEN, LEVEL, TREND, FIRST, ERRORS, ERROR_MEAN, ERROR_SQUARES = 0, 1, 2, 3, 4, 5, 6
NUMBERS = 7


@compiled
def forecast_then_learn(
    values: Floats,
    learnt: Floats,
    spread: Floats,
    numbers: Floats,
    alpha: float,
    beta: float,
    n_std: float,
    floor_share: float,
    severity: Floats,
    expected: Floats,
    half_band: Floats,
) -> None:
    """For each value of one channel: forecast, error over its usual size, learn. Changes `numbers` in place.

    Level, trend: River's HoltWinters without a season. Threshold: its PredictiveAnomalyDetection.
    """
    for i in range(len(values)):
        if numbers[SEEN] >= 2.0:
            forecast = numbers[LEVEL] + numbers[TREND]
            usual = numbers[ERROR_MEAN]
            if numbers[ERRORS] > 1.0:
                usual += n_std * np.sqrt(numbers[ERROR_SQUARES] / (numbers[ERRORS] - 1.0))
            floor = floor_share * spread[i]
            half_band[i] = np.sqrt(max(usual, floor * floor))
            expected[i] = forecast
            severity[i] = min(abs(values[i] - forecast) / half_band[i], 1e6)
            error = (forecast - learnt[i]) ** 2
            numbers[ERRORS] += 1.0
            before = numbers[ERROR_MEAN]
            numbers[ERROR_MEAN] += (1.0 / numbers[ERRORS]) * (error - before)
            numbers[ERROR_SQUARES] += (error - before) * (error - numbers[ERROR_MEAN])
            level = alpha * (learnt[i] - 0) + (1 - alpha) * (numbers[LEVEL] + numbers[TREND])
            numbers[TREND] = beta * (level - numbers[LEVEL]) + (1 - beta) * numbers[TREND]
            numbers[LEVEL] = level
        elif numbers[SEEN] == 1.0:
            numbers[LEVEL] = (numbers[FIRST] + learnt[i]) / 2.0
            numbers[TREND] = learnt[i] - numbers[FIRST]
        else:
            numbers[FIRST] = learnt[i]
        numbers[SEEN] += 1.0
