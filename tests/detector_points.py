"""Series that detectors are tried on, and detectors that say something after a few points."""

import numpy as np

from stream_jobs.detectors.base import VALUE_KEY
from stream_jobs.detectors.registry import detector_named

START_MS, STEP_MS = 1_700_000_000_000, 60_000
QUICK = {
    "adwin": {},
    "fixed_threshold": {"first_points": 20},
    "gaussian_scorer": {"grace_period": 20},
    "half_space_trees": {"n_trees": 3, "height": 4, "window_size": 30},
    "kswin": {"window_size": 40, "stat_size": 15},
    "loda": {"n_random_cuts": 15, "warmup_period": 20},
    "page_hinkley": {},
    "predictive_anomaly_detection": {"warmup_period": 20},
    "two_heads": {"learning_points": 20, "alarm_learning_points": 30},
}
"""Options with which a detector says something after a few points; one that is not here has its defaults."""
FIELDS = ("severity", "alarm", "score", "confidence", "expected", "lower", "upper", "contributions", "onset_ms")


def new(name, channels=1):
    return detector_named(name, channel_names(channels), **QUICK.get(name, {}))


def channel_names(channels):
    return (VALUE_KEY,) if channels == 1 else tuple(f"m{number}" for number in range(channels))


def walk(seed, points, channels=1):
    """Times that rise unevenly, and values with noise, a rhythm and a step."""
    rng = np.random.default_rng(seed)
    time_ms = START_MS + STEP_MS * np.cumsum(rng.integers(1, 4, points))
    values = rng.normal(size=(points, channels)) + 5 * np.sin(np.arange(points) / 9)[:, None] + 40
    values[points // 2 :] += rng.choice([0.0, 8.0])
    return time_ms, values
