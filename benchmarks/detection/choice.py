"""Detectors by name: those of the product's registry, and the bench's own baselines."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from stream_jobs.detectors.base import VALUE_KEY, SeriesDetector

REGISTRY = "stream_jobs.detectors.registry"
DEFAULT = "two_heads"
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

    registry = _registry()
    return tuple(dict.fromkeys([*(registry.names() if registry else ()), *BASELINES]))


def maker(name: str) -> Make:
    """How to make the detector of that name. Raises KeyError for one that is not known."""
    from benchmarks.detection.baselines import BASELINES

    registry = _registry()
    if registry is not None and name in registry.names():
        return lambda channels: registry.detector_named(name, channel_names(channels))
    baseline = BASELINES[name]
    return lambda channels: baseline(channel_names(channels))


def channel_names(channels: int) -> tuple[str, ...]:
    """Of a series of so many channels."""
    return (VALUE_KEY,) if channels == 1 else tuple(f"c{i:02d}" for i in range(channels))


def every(name: str) -> int:
    """Of the long sets, which series a detector is tried on: every so many-th one."""
    return 1 if name in IN_FULL else EVERY


def _registry() -> Any:
    try:
        return import_module(REGISTRY)
    except ModuleNotFoundError as error:
        if error.name != REGISTRY:
            raise
        return None
