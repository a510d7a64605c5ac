"""How sure an output is of itself, by task: what detectors and people watch for drift. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Statistics:
    """`confidence` the best probability, `margin` best minus second best, `entropy` over its largest possible; 0 where
    a task has no such thing. All from 0 to 1."""

    confidence: float = 0.0
    margin: float = 0.0
    entropy: float = 0.0


NONE = Statistics()


def statistics_of(probabilities: Sequence[float]) -> Statistics:
    """Of one distribution, or of independent probabilities (their entropy is then of their normalised sum)."""
    best = max(probabilities)
    if len(probabilities) == 1:
        return Statistics(confidence=_share(best))
    ordered = sorted(probabilities, reverse=True)
    total = sum(ordered)
    entropy = 0.0
    if total > 0:
        parts = [one / total for one in ordered if one > 0]
        entropy = -sum(part * math.log(part) for part in parts) / math.log(len(ordered))
    return Statistics(_share(best), _share(ordered[0] - ordered[1]), _share(entropy))


def mean_of(statistics: Sequence[Statistics]) -> Statistics:
    """The mean over a request's inputs."""
    count = len(statistics)
    if count == 1:
        return statistics[0]
    return Statistics(
        sum(one.confidence for one in statistics) / count,
        sum(one.margin for one in statistics) / count,
        sum(one.entropy for one in statistics) / count,
    )


def _share(value: float) -> float:
    return min(1.0, max(0.0, value))
