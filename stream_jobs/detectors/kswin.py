"""River's KSWIN: whether the last values come from another distribution than those before them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from typing import Any

from stream_jobs.detectors.channel_scaling import Scaled
from stream_jobs.detectors.river_channels import RiverChannels, Said, packed, unpacked

_P_MIN = 1e-300


class Kswin(RiverChannels):
    """Severity is log(p) / log(`alpha`) of a Kolmogorov-Smirnov test of the last `stat_size` values against as many
    drawn from the rest of the window: 1 where River says that the distribution changed.

    It sees changes of spread and shape that means do not show. The draw is seeded by how many values there were, so
    that no generator has to be kept. It takes about half a millisecond a value: for single series, not for files of
    millions. No forecast and no band. It fails on spikes, however high:
    one value of 30 moves the test by a thirtieth at most. It fails on rhythms longer than its window of `window_size`.

    A level that moves after 400 minutes:

    >>> import numpy as np
    >>> from stream_jobs.detectors.kswin import Kswin
    >>> noise = np.sin(np.arange(400.0) ** 2)  # looks like noise, and is the same everywhere
    >>> values = 100.0 + 5.0 * np.r_[noise, noise + 3.0]
    >>> scores = Kswin(["value"]).run(60_000 * np.arange(800), values[:, None])
    >>> moved = np.flatnonzero(scores.severity >= 1.0)
    >>> int(moved[0]), round(float(scores.severity[moved[0]]), 1)
    (412, 1.1)

    Source: Raab, Heusinger, Schleif, Neurocomputing 416, 2020.
    """

    NAME = "kswin"

    def __init__(
        self,
        channels: Sequence[str],
        *,
        alpha: float = 0.005,
        window_size: int = 100,
        stat_size: int = 30,
        seed: int = 1,
    ) -> None:
        if not 0 < alpha < 1 or not 2 <= stat_size <= window_size - stat_size:
            raise ValueError(f"alpha {alpha}, window_size {window_size}, stat_size {stat_size}")
        super().__init__(channels, alpha=alpha, window_size=window_size, stat_size=stat_size, seed=seed)
        self._settings = (alpha, window_size, stat_size, seed)

    def _new_model(self) -> Any:
        from river import drift

        model: Any = drift.KSWIN
        return model(*self._settings)

    def _say_then_learn(self, model: Any, scaled: Scaled, row: int, channel: int) -> Said | None:
        alpha, window_size, _, seed = self._settings
        model._rng.seed(seed * 1_000_003 + model.n)
        model.update(float(scaled.learnt[row, channel]))
        if len(model.window) < window_size and not model.drift_detected:
            return None
        return Said(math.log(max(_P_MIN, min(1.0, float(model.p_value)))) / math.log(alpha))

    def _pack(self, model: Any) -> bytes:
        return packed(float(model.drift_detected), float(model.n), float(model.p_value), *model.window)

    def _unpack(self, state: bytes) -> Any:
        detected, count, p_value, *window = unpacked(state)
        model = self._new_model()
        if len(window) > model.window_size:
            raise ValueError(f"{len(window)} values in a window of {model.window_size}")
        model._drift_detected, model.n, model.p_value = bool(detected), int(count), p_value
        model.window = deque(window, maxlen=model.window_size)
        return model
