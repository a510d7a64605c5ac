"""River's PredictiveAnomalyDetection over HoltWinters, compiled: how wrong the forecast of the next value was."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from stream_jobs.detectors.channel_scaling import Scaled
from stream_jobs.detectors.series_model import Judged, SeriesModel, any_channel, root_mean_square

NUMBERS = 7


class PredictiveAnomalyDetection(SeriesModel):
    """Severity is the error of a forecast over the end of its band: root of (mean + `n_std` deviations of the squared
    error), 1 at the band's end.

    The forecast is Holt's: level and trend of each channel, without a season; channels are joined by their root mean
    square. Level, trend and threshold are River's bit for bit (a law test holds them together) and written out here,
    because River's own takes 4 us a value. Two differences are meant: the severity is not cut at 1, where all that is
    anomalous would tie, and the band is at least `floor_share` of the channel's usual deviation, or one flat stretch
    would make every wiggle after it severe. It fails on faults that grow slowly, which the forecast follows, and on
    levels that are wrong but steady: it says when they began, not that they last. Its errors are never forgotten: one
    huge error widens the band for as long as there were points before it.

    A spike after 400 minutes:

    >>> import numpy as np
    >>> from stream_jobs.detectors.predictive_anomaly_detection import PredictiveAnomalyDetection
    >>> noise = np.sin(np.arange(400.0) ** 2)  # looks like noise, and is the same everywhere
    >>> values = np.r_[100.0 + 5.0 * noise, 180.0]
    >>> scores = PredictiveAnomalyDetection(["value"]).run(60_000 * np.arange(401), values[:, None])
    >>> round(float(scores.severity[-1]), 1), round(float(scores.score[-1]), 3), round(float(scores.expected[-1, 0]))
    (8.1, 1.0, 99)

    Source: Laptev, Amizadeh, Flint, KDD 2015 (EGADS); Holt, ONR memorandum 52, 1957.
    """

    NAME = "predictive_anomaly_detection"

    def __init__(
        self,
        channels: Sequence[str],
        *,
        alpha: float = 0.3,
        beta: float = 0.2,
        n_std: float = 3.5,
        warmup_period: int = 50,
        floor_share: float = 0.05,
    ) -> None:
        if not 0 < alpha < 1 or not 0 < beta < 1 or n_std <= 0 or warmup_period < 2 or floor_share <= 0:
            raise ValueError(f"alpha {alpha}, beta {beta}, n_std {n_std}, {warmup_period}, floor_share {floor_share}")
        super().__init__(
            channels, alpha=alpha, beta=beta, n_std=n_std, warmup_period=warmup_period, floor_share=floor_share
        )
        self._settings = (alpha, beta, n_std, floor_share)
        self._warmup = warmup_period
        self._numbers = np.zeros((len(self.channels), NUMBERS))

    def _judge(self, scaled: Scaled) -> Judged:
        from stream_jobs.detectors.compiled_forecast import forecast_then_learn  # numba takes a second to import

        shape = scaled.values.shape
        severity, known = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
        expected, half_band = np.full(shape, math.nan), np.full(shape, math.nan)
        for channel in range(shape[1]):
            rows: Any = np.flatnonzero(scaled.ready[:, channel])
            count, seen = len(rows), self._numbers[channel, 0]
            if count == shape[0]:
                rows = slice(None)
            said, forecast, half = np.zeros(count), np.full(count, math.nan), np.full(count, math.nan)
            forecast_then_learn(
                scaled.values[rows, channel], scaled.learnt[rows, channel], scaled.spread[rows, channel],
                self._numbers[channel], *self._settings, said, forecast, half,
            )  # fmt: skip
            warm = seen + np.arange(count) >= self._warmup
            severity[rows, channel] = np.where(warm, said, 0.0)
            known[rows, channel] = warm
            expected[rows, channel], half_band[rows, channel] = forecast, half
        return Judged(
            severity=root_mean_square(severity, known),
            learning=~any_channel(known),
            shares=severity**2,
            expected=expected,
            lower=expected - half_band,
            upper=expected + half_band,
        )

    def _parts(self) -> list[bytes]:
        return [self._numbers.astype("<f8").tobytes()]

    def _take_parts(self, parts: list[bytes]) -> None:
        self._numbers = np.frombuffer(parts[0], dtype="<f8").astype(np.float64).reshape(self._numbers.shape)
