"""Detectors by name: those of the product's registry, and the bench's own baselines."""

from __future__ import annotations

from collections.abc import Callable

from stream_jobs.detectors import registry
from stream_jobs.detectors.base import VALUE_KEY, SeriesDetector

DEFAULT = registry.DEFAULT
ALWAYS_SHOWN = ("fixed_threshold", "gaussian_z", "gaussian_as_shipped", "random")
"""Printed beside the detector under test, those of them that are known."""
IN_FULL = {DEFAULT, *ALWAYS_SHOWN}
"""Fast enough for every series; of the sets of many long series the others see every tenth one."""
EVERY = 10

Make = Callable[[int], SeriesDetector]
"""A fresh detector of so many channels."""


def names() -> tuple[str, ...]:
    """All that can be asked for."""
    from benchmarks.detection.baselines import BASELINES

    return tuple(dict.fromkeys([*registry.names(), *BASELINES]))


def maker(name: str) -> Make:
    """How to make the detector of that name. Raises KeyError for one that is not known."""
    from benchmarks.detection.baselines import BASELINES

    if name in registry.names():
        return lambda channels: registry.detector_named(name, channel_names(channels))
    baseline = BASELINES[name]
    return lambda channels: baseline(channel_names(channels))


def channel_names(channels: int) -> tuple[str, ...]:
    """Of a series of so many channels."""
    return (VALUE_KEY,) if channels == 1 else tuple(f"c{i:02d}" for i in range(channels))


def every(name: str) -> int:
    """Of the long sets, which series a detector is tried on: every so many-th one."""
    return 1 if name in IN_FULL else EVERY
