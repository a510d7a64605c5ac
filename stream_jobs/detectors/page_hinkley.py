"""River's PageHinkley: how close the sums of deviations from the mean are to saying that the mean moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from stream_jobs.detectors.channel_scaling import Scaled, as_learnt
from stream_jobs.detectors.river_channels import RiverChannels, Said, packed, unpacked

CLIP = 10.0


class PageHinkley(RiverChannels):
    """Severity is the larger of the two test sums over the `threshold`: above 1 the mean moved, and it starts afresh.

    It reads usual deviations from a slow level, so that one threshold fits every unit. A point is scored by what the
    test says with the point in it. There is no forecast and no band. It fails on single spikes, however high: a value
    counts as at most 10 deviations, of the 50 that make a change. It fails on rhythms slower than the sums are long,
    which it calls a change every time.

    A level that moves after 400 minutes:

    >>> import numpy as np
    >>> from stream_jobs.detectors.page_hinkley import PageHinkley
    >>> noise = np.sin(np.arange(400.0) ** 2)  # looks like noise, and is the same everywhere
    >>> values = 100.0 + 5.0 * np.r_[noise, noise + 3.0]
    >>> scores = PageHinkley(["value"]).run(60_000 * np.arange(800), values[:, None])
    >>> moved = np.flatnonzero(scores.severity >= 1.0)
    >>> int(moved[0]), round(float(scores.severity[moved[0]]), 1)
    (414, 1.0)

    Source: Page, Biometrika 41, 1954; Sebastiao and Fernandes, IbPRIA 2017.
    """

    NAME = "page_hinkley"

    def __init__(
        self,
        channels: Sequence[str],
        *,
        min_instances: int = 30,
        delta: float = 0.1,
        threshold: float = 50.0,
        alpha: float = 0.9999,
    ) -> None:
        if min_instances < 1 or delta < 0 or threshold <= 0 or not 0 < alpha <= 1:
            raise ValueError(f"min_instances {min_instances}, delta {delta}, threshold {threshold}, alpha {alpha}")
        super().__init__(channels, min_instances=min_instances, delta=delta, threshold=threshold, alpha=alpha)
        self._settings = (min_instances, delta, threshold, alpha)

    def _new_model(self) -> Any:
        from river import drift

        model: Any = drift.PageHinkley
        return model(*self._settings)

    def _say_then_learn(self, model: Any, scaled: Scaled, row: int, channel: int) -> Said | None:
        model.update(float(as_learnt(scaled.z[row, channel], CLIP)))
        if model._x_mean.n < model.min_instances:
            return None
        rise = model._sum_increase - model._min_increase
        fall = model._max_decrease - model._sum_decrease
        return Said(max(0.0, rise, fall) / model.threshold)

    def _pack(self, model: Any) -> bytes:
        return packed(
            float(model.drift_detected), model._x_mean.n, model._x_mean._mean,
            model._sum_increase, model._sum_decrease, model._min_increase, model._max_decrease,
        )  # fmt: skip

    def _unpack(self, state: bytes) -> Any:
        detected, count, mean, rising, falling, lowest, highest = unpacked(state)
        model = self._new_model()
        model._drift_detected = bool(detected)
        model._x_mean.n, model._x_mean._mean = count, mean
        model._sum_increase, model._sum_decrease = rising, falling
        model._min_increase, model._max_decrease = lowest, highest
        return model
