"""Detectors by name. Each is imported when it is asked for: some need River, and importing it takes seconds.

Also numpy is not imported with the names: the settings check them.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from stream_jobs.detectors.base import SeriesDetector

DETECTORS = {
    "adwin": "stream_jobs.detectors.adwin:Adwin",
    "fixed_threshold": "stream_jobs.detectors.fixed_threshold:FixedThreshold",
    "gaussian_scorer": "stream_jobs.detectors.gaussian_scorer:GaussianScorer",
    "half_space_trees": "stream_jobs.detectors.series_trees:SeriesTrees",
    "kswin": "stream_jobs.detectors.kswin:Kswin",
    "loda": "stream_jobs.detectors.loda:Loda",
    "page_hinkley": "stream_jobs.detectors.page_hinkley:PageHinkley",
    "predictive_anomaly_detection": "stream_jobs.detectors.predictive_anomaly_detection:PredictiveAnomalyDetection",
    "two_heads": "stream_jobs.detectors.two_heads:TwoHeads",
}
"""Name to module and class. A class takes the channels and then options by name, all with defaults."""
DEFAULT = "two_heads"


def names() -> list[str]:
    """The detectors that can be selected, sorted."""
    return sorted(DETECTORS)


def detector_named(name: str, channels: Sequence[str] | None = None, **options: Any) -> SeriesDetector:
    """A fresh detector of one series, of one metric unless told otherwise. Raises ValueError when there is none of that
    name, or an option cannot be."""
    from stream_jobs.detectors.base import VALUE_KEY

    if name not in DETECTORS:
        raise ValueError(f"no detector {name!r}: there are {', '.join(names())}")
    module, _, cls = DETECTORS[name].partition(":")
    try:
        return cast(
            "SeriesDetector", getattr(importlib.import_module(module), cls)(channels or (VALUE_KEY,), **options)
        )
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from None
