"""Half-space trees over the points of a series: its values are scaled online, as the trees want features in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from stream_jobs.detectors.base import Floats
from stream_jobs.detectors.channel_scaling import Scaled
from stream_jobs.detectors.half_space_trees import HalfSpaceTrees
from stream_jobs.detectors.series_model import Judged, SeriesModel, any_channel, nothing

HALF_RANGE = 6.0
"""Usual deviations from the level to an end of the trees' range; what is further off lies at the end."""


class SeriesTrees(SeriesModel):
    """River's HalfSpaceTrees on where each channel is and how much it changed, both in usual deviations.

    Severity is the trees' score: near 1 where few of the previous `window_size` points were. It has no forecast, so
    there is no band, and channels share it by the squares of their deviations, which is not the trees' own view.
    Of one channel it is a weak detector; it earns its place where several metrics are unusual together only. It fails
    on anomalies that fill a window, and it says nothing until the first one is over.

    Two metrics of which one has a spike after 400 minutes:

    >>> import numpy as np
    >>> from stream_jobs.detectors.series_trees import SeriesTrees
    >>> noise = np.sin(np.arange(400.0) ** 2)  # looks like noise, and is the same everywhere
    >>> hosts = np.c_[np.r_[50.0 + 5.0 * noise, 50.0], np.r_[9.0 + noise[::-1], 40.0]]
    >>> scores = SeriesTrees(["cpu", "memory"]).run(60_000 * np.arange(401), hosts)
    >>> round(float(scores.severity[-1]), 2), round(float(np.median(scores.severity[300:-1])), 2)
    (0.96, 0.71)
    >>> [round(float(share), 2) for share in scores.contributions[-1]]
    [0.0, 1.0]

    Source: Tan, Ting, Liu, IJCAI 2011.
    """

    NAME = "half_space_trees"

    def __init__(
        self, channels: Sequence[str], *, n_trees: int = 10, height: int = 8, window_size: int = 250, seed: int = 1
    ) -> None:
        super().__init__(channels, n_trees=n_trees, height=height, window_size=window_size, seed=seed)
        features = [f"{kind}{number:06d}" for kind in ("step", "z") for number in range(len(self.channels))]
        self._trees = HalfSpaceTrees(features, n_trees=n_trees, height=height, window_size=window_size, seed=seed)

    def _judge(self, scaled: Scaled) -> Judged:
        ready = any_channel(scaled.ready)
        rows = np.concatenate([_share(scaled.step[ready]), _share(scaled.z[ready])], axis=1)
        severity, learning = np.zeros(len(ready)), np.ones(len(ready), dtype=np.bool_)
        severity[ready], learning[ready] = self._trees.score_then_learn_many(rows)
        none = nothing(scaled)
        return Judged(severity, learning, shares=scaled.z**2, expected=none, lower=none, upper=none)

    def _parts(self) -> list[bytes]:
        return [self._trees.state()]

    def _take_parts(self, parts: list[bytes]) -> None:
        self._trees.restore(parts[0])


def _share(deviations: Floats) -> Floats:
    """Deviations as a place in [0, 1]."""
    place: Floats = np.clip(0.5 + deviations / (2.0 * HALF_RANGE), 0.0, 1.0)
    return place
