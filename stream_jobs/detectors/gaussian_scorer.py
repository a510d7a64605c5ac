"""River's GaussianScorer, not cut at 1: standard deviations from the mean of all that came before."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from stream_jobs.detectors.channel_scaling import Scaled
from stream_jobs.detectors.river_channels import RiverChannels, Said, packed, unpacked

BAND_DEVIATIONS = 3.0
FLOOR_SHARE = 0.05


class GaussianScorer(RiverChannels):
    """Severity is |value - mean| / standard deviation of a normal distribution fitted to the past of each channel.

    River's own score is the probability of a smaller deviation: it reaches 1.0 at eight deviations, and all that is
    further off ties. The deviations rank the same and do not tie. With `window_size` the past is the last so many
    values; None: all of it. The standard deviation is at least 5 % of the channel's usual one (a window may be flat).
    It fails on levels that move, on rhythms, and on distributions with long tails.

    A spike after 400 minutes, in standard deviations:

    >>> import numpy as np
    >>> from stream_jobs.detectors.gaussian_scorer import GaussianScorer
    >>> noise = np.sin(np.arange(400.0) ** 2)  # looks like noise, and is the same everywhere
    >>> values = np.r_[100.0 + 5.0 * noise, 180.0]
    >>> scores = GaussianScorer(["value"]).run(60_000 * np.arange(401), values[:, None])
    >>> round(float(scores.severity[-1]), 1), round(float(scores.score[-1]), 3), round(float(scores.upper[-1, 0]), 1)
    (22.6, 1.0, 110.7)

    Source: River's `anomaly.GaussianScorer`; the running variance is Welford's, Technometrics 4, 1962.
    """

    NAME = "gaussian_scorer"

    def __init__(self, channels: Sequence[str], *, window_size: int | None = None, grace_period: int = 100) -> None:
        if grace_period < 2 or (window_size is not None and window_size < grace_period):
            raise ValueError(f"window_size {window_size}, grace_period {grace_period}")
        super().__init__(channels, window_size=window_size, grace_period=grace_period)
        self._window_size, self._grace_period = window_size, grace_period

    def _new_model(self) -> Any:
        from river import anomaly

        model: Any = anomaly.GaussianScorer
        return model(window_size=self._window_size, grace_period=self._grace_period)

    def _say_then_learn(self, model: Any, scaled: Scaled, row: int, channel: int) -> Said | None:
        fitted, said = _distribution(model), None
        if fitted.n_samples >= self._grace_period:
            # Not `sigma`: rounding makes the variance of a flat window negative, and its root a complex number.
            deviation = math.sqrt(max(0.0, fitted._var.get()))
            deviation = max(deviation, FLOOR_SHARE * float(scaled.spread[row, channel]))
            mean, half = fitted.mu, BAND_DEVIATIONS * deviation
            off = min(abs(float(scaled.values[row, channel]) - mean) / deviation, 1e6)
            said = Said(off, mean, mean - half, mean + half)
        model.learn_one(None, float(scaled.learnt[row, channel]))
        return said

    def _pack(self, model: Any) -> bytes:
        variance = _distribution(model)._var
        window = [] if self._window_size is None else [args[0] for args, _ in model.gaussian.window]
        return packed(variance.mean.n, variance.mean._mean, variance._S, *window)

    def _unpack(self, state: bytes) -> Any:
        count, mean, squares, *window = unpacked(state)
        if count < 0 or len(window) != (0 if self._window_size is None else min(count, self._window_size)):
            raise ValueError(f"{len(window)} values in the window of {count}")
        model = self._new_model()
        variance = _distribution(model)._var
        variance.mean.n, variance.mean._mean, variance._S = count, mean, squares
        if self._window_size is not None:
            model.gaussian.window = deque((((value,), {}) for value in window), maxlen=self._window_size)
        return model


def _distribution(model: Any) -> Any:
    """The fitted distribution, of a window or not."""
    return getattr(model.gaussian, "obj", model.gaussian)
