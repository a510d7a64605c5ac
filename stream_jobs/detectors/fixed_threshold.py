"""The naive floor: limits that are set once and never move."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from stream_jobs.detectors.base import Floats
from stream_jobs.detectors.channel_scaling import Scaled
from stream_jobs.detectors.series_model import Judged, SeriesModel, any_channel, root_mean_square

LEARNT_LIMIT = 3.0


class FixedThreshold(SeriesModel):
    """Severity is how far a value is on its way from the usual to its limit: 1 at the limit.

    What most monitoring starts with, and the baseline that every other detector is compared with. `lower` and `upper`
    hold for every channel; where neither is given they are mean +- 3 standard deviations of the channel's first
    `first_points` values. The usual is the mean of those. It fails on everything that moves: daily rhythms, growth, a
    new version; and on limits learnt while something was wrong.

    Limits of the first 100 values, and a spike after 400 minutes:

    >>> import numpy as np
    >>> from stream_jobs.detectors.fixed_threshold import FixedThreshold
    >>> noise = np.sin(np.arange(400.0) ** 2)  # looks like noise, and is the same everywhere
    >>> values = np.r_[100.0 + 5.0 * noise, 180.0]
    >>> scores = FixedThreshold(["value"]).run(60_000 * np.arange(401), values[:, None])
    >>> round(float(scores.severity[-1]), 1), round(float(scores.lower[-1, 0]), 1), round(float(scores.upper[-1, 0]), 1)
    (7.6, 89.7, 110.7)

    Source: the three-sigma control chart with limits from a first phase (Shewhart, Economic Control of Quality of
    Manufactured Product, 1931).
    """

    NAME = "fixed_threshold"

    def __init__(
        self,
        channels: Sequence[str],
        *,
        lower: float | None = None,
        upper: float | None = None,
        first_points: int = 100,
    ) -> None:
        if first_points < 2 or (lower is not None and upper is not None and not lower < upper):
            raise ValueError(f"first_points {first_points}, lower {lower}, upper {upper}")
        super().__init__(channels, lower=lower, upper=upper, first_points=first_points)
        self._limits = (lower, upper)
        self._first_points = first_points
        self._learnt = np.zeros((3, len(self.channels)))
        """Number of values, their mean, their sum of squared deviations (Welford)."""

    def _judge(self, scaled: Scaled) -> Judged:
        shape = scaled.values.shape
        expected, lower, upper = np.full(shape, math.nan), np.full(shape, math.nan), np.full(shape, math.nan)
        severity = np.zeros(shape)
        for channel in range(shape[1]):
            rows = np.flatnonzero(scaled.ready[:, channel])
            first = rows[: max(0, self._first_points - int(self._learnt[0, channel]))]
            for value in scaled.learnt[first, channel].tolist():
                self._learn(channel, value)
            rows = rows[len(first) :]
            if len(rows):
                usual, low, high = self._usual_and_limits(channel)
                severity[rows, channel] = _on_the_way(scaled.values[rows, channel], usual, low, high)
                expected[rows, channel], lower[rows, channel], upper[rows, channel] = usual, low, high
        known = np.isfinite(expected)
        return Judged(
            severity=root_mean_square(severity, known),
            learning=~any_channel(known),
            shares=severity**2,
            expected=expected,
            lower=lower,
            upper=upper,
        )

    def _learn(self, channel: int, value: float) -> None:
        count, mean, squares = self._learnt[:, channel]
        off = value - mean
        mean += off / (count + 1)
        self._learnt[:, channel] = count + 1, mean, squares + off * (value - mean)

    def _usual_and_limits(self, channel: int) -> tuple[float, float, float]:
        """The usual value and both limits; NaN: there is none on that side."""
        count, mean, squares = self._learnt[:, channel].tolist()
        lower, upper = self._limits
        if lower is None and upper is None:
            half = LEARNT_LIMIT * math.sqrt(squares / (count - 1)) or 1e-9 * abs(mean) + 1e-12
            return mean, mean - half, mean + half
        return mean, math.nan if lower is None else lower, math.nan if upper is None else upper

    def _parts(self) -> list[bytes]:
        return [self._learnt.astype("<f8").tobytes()]

    def _take_parts(self, parts: list[bytes]) -> None:
        self._learnt = np.frombuffer(parts[0], dtype="<f8").astype(np.float64).reshape(self._learnt.shape)


def _on_the_way(values: Floats, usual: float, low: float, high: float) -> Floats:
    """0 at the usual value, 1 at a limit, more beyond it. A limit on the wrong side of the usual is always passed."""
    on_the_way = np.zeros(len(values))
    for limit, sign in ((low, -1.0), (high, 1.0)):
        if math.isfinite(limit):
            room = sign * (limit - usual)
            off = sign * (values - usual)
            passed = off / room if room > 0.0 else np.where(sign * (values - limit) > 0.0, 1.0, 0.0)
            on_the_way = np.maximum(on_the_way, passed)
    return np.minimum(on_the_way, 1e6)
