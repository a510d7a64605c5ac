"""When requests are due, seconds after the start: Poisson or evenly spaced, from a seed. Pure."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Arrivals = Literal["poisson", "constant"]


def due_seconds(arrivals: Arrivals, rate: float, seconds: float, seed: int) -> NDArray[np.float64]:
    """Rising due times below `seconds`, at `rate` a second on average. The same seed gives the same times."""
    if rate <= 0 or seconds <= 0:
        raise ValueError(f"a rate of {rate} for {seconds} s: both must be above 0")
    if arrivals == "constant":
        return np.arange(int(np.ceil(rate * seconds))) / rate
    random = np.random.default_rng(seed)
    # Six standard deviations above the mean: too few gaps come up once in a billion seeds, and then are added to.
    count = int(rate * seconds + 6 * np.sqrt(rate * seconds) + 10)
    times = np.cumsum(random.exponential(1 / rate, count))
    while times[-1] < seconds:
        times = np.concatenate([times, times[-1] + np.cumsum(random.exponential(1 / rate, count))])
    return times[times < seconds]
