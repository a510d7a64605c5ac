"""What every detector of a series gives and how it is asked: one point at a time as in River, or many with one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

TIME_KEY = "time_ms"
"""The feature that holds a point's time, in milliseconds since 1970. All other features are channels."""
VALUE_KEY = "value"
"""The only channel of a series of one metric."""


@dataclass(frozen=True, slots=True)
class Scores:
    """What was said of n points of c channels, in order, each before it was learnt. NaN: no usable value there."""

    severity: Floats
    """(n,) How far off the point is, at least 0, comparable between series: for dense metrics, one threshold."""
    alarm: Floats
    """(n,) How rare the point is, at least 0: high for events that call for somebody."""
    score: Floats
    """(n,) 0 to 1: the share of this series' own past points that were less severe. 0 while learning."""
    confidence: Floats
    """(n,) 0 to 1: how much of what it takes has been learnt. 0 while learning."""
    expected: Floats
    """(n, c) In the channel's unit."""
    lower: Floats
    """(n, c) End of the band of usual values."""
    upper: Floats
    """(n, c) The other end."""
    contributions: Floats
    """(n, c) Shares of the severity by channel; they sum to 1 where the severity is above 0, else all are 0."""
    onset_ms: NDArray[np.int64]
    """(n,) Since when the point's run of unusual points goes on; -1: it is not in one."""


class SeriesDetector(Protocol):
    """A detector of one series. One call of `run` with n points gives bit for bit what n calls with one give."""

    @property
    def name(self) -> str:
        """The name it is selected by."""
        ...

    def score_one(self, x: Mapping[str, Any]) -> float:
        """River's: severity of a point, which is not learnt. `x` holds channels and `TIME_KEY`."""
        ...

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """River's: take a point in."""
        ...

    def run(self, time_ms: NDArray[np.int64], values: Floats) -> Scores:
        """Score each point and then learn it, before the next. `values` is (n, c); what is not finite is missing.

        A point whose time is not after the last one's is neither scored nor learnt, nor is one of a clock that jumped,
        until its third in a row: see `clock.passed_ms`.
        """
        ...

    def state(self) -> bytes:
        """Everything learnt, as plain numbers: `restore` in another process goes on bit for bit."""
        ...

    def restore(self, state: bytes) -> None:
        """Take over what `state` gave. Raises ValueError when it is cut, altered or of another configuration."""
        ...

    def digest(self) -> str:
        """Hash of the configuration, 16 hexadecimal characters."""
        ...
