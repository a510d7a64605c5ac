"""River's ADWIN: by how much the mean moved, at the points where it says that it did."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from stream_jobs.detectors.channel_scaling import Scaled, as_learnt
from stream_jobs.detectors.river_channels import RiverChannels, Said

CLIP = 10.0


class Adwin(RiverChannels):
    """Severity is 0 but where ADWIN drops the old part of its window: there, the change of the window's mean over its
    standard deviation before.

    It reads usual deviations from a slow level, within 10: its bound assumes a bounded range. Its false alarms are
    bounded by `delta`. It says that a level moved, some points after it did, and nothing of single points, so there
    are no ranks between its few detections, no forecast and no band. It fails on spikes, however high: a test of levels
    that called one value a change would call every outlier one. It fails on rhythms slower than its window, which are
    changes to it.

    A level that moves after 400 minutes:

    >>> import numpy as np
    >>> from stream_jobs.detectors.adwin import Adwin
    >>> noise = np.sin(np.arange(400.0) ** 2)  # looks like noise, and is the same everywhere
    >>> values = 100.0 + 5.0 * np.r_[noise, noise + 3.0]
    >>> scores = Adwin(["value"]).run(60_000 * np.arange(800), values[:, None])
    >>> moved = np.flatnonzero(scores.severity > 0.0)
    >>> int(moved[0]), round(float(scores.severity[moved[0]]), 1)
    (431, 0.1)

    Source: Bifet and Gavalda, SIAM SDM 2007. The numbers that it keeps are given out by River's own `__getstate__`,
    a flat row of them: no code is in it.
    """

    NAME = "adwin"

    def __init__(self, channels: Sequence[str], *, delta: float = 0.002, clock: int = 32) -> None:
        if not 0 < delta < 1 or clock < 1:
            raise ValueError(f"delta {delta}, clock {clock}")
        super().__init__(channels, delta=delta, clock=clock)
        self._delta, self._clock = delta, clock

    def _new_model(self) -> Any:
        from river import drift

        model: Any = drift.ADWIN
        return model(delta=self._delta, clock=self._clock)

    def _say_then_learn(self, model: Any, scaled: Scaled, row: int, channel: int) -> Said | None:
        width, mean, variance = model.width, model.estimation, model.variance
        model.update(float(as_learnt(scaled.z[row, channel], CLIP)))
        if width < model.grace_period:
            return None
        if not model.drift_detected:
            return Said(0.0)
        return Said(abs(model.estimation - mean) / math.sqrt(max(variance, 1e-4)))

    def _pack(self, model: Any) -> bytes:
        return bytes([model.drift_detected]) + bytes(model._helper.__getstate__())

    def _unpack(self, state: bytes) -> Any:
        model = self._new_model()
        model._drift_detected = bool(state[0])
        model._helper.__setstate__(state[1:])
        return model
