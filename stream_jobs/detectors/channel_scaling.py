"""Values of any unit as usual deviations from a usual level, learnt online: what goes into models of fixed range."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.base import Floats

VALUE_MAX = 1e100
"""Its square is finite. Larger values count as this one."""
ABSURD, ABSURD_CLIP = 200.0, 3.0
"""A value so many usual deviations off says nothing of what is usual: it is learnt as few."""
CLOCK_NUMBERS, CHANNEL_NUMBERS = 7, 22


@dataclass(frozen=True, slots=True)
class Scaled:
    """n usable points of c channels, each as it looked before it was learnt."""

    time_ms: NDArray[np.int64]
    elapsed_ms: Floats
    """(n,) Since the point before; a pause counts as a few usual intervals."""
    values: Floats
    """(n, c) As they came, within VALUE_MAX; NaN: missing."""
    z: Floats
    """(n, c) Usual deviations from the level, within 1e6 on both sides. 0: missing, or not ready."""
    step: Floats
    """(n, c) The change of z, in usual changes."""
    learnt: Floats
    """(n, c) The value as a model should learn it: within 10 usual deviations of the level, or 3 when it is absurd."""
    spread: Floats
    """(n, c) The usual deviation, root mean square, above 0. NaN: missing, or not ready."""
    ready: NDArray[np.bool_]
    """(n, c) There is a value, and level and deviation are known."""


def as_learnt(z: Floats, clip: float) -> Floats:
    """Usual deviations as a model should learn them: within `clip`, what is absurd within ABSURD_CLIP."""
    most = np.where(np.abs(z) > ABSURD, ABSURD_CLIP, clip)
    learnt: Floats = np.clip(z, -most, most)
    return learnt


class ChannelScaling:
    """Level and root-mean-square deviation of each channel, with a memory of 14 days.

    A channel starts from the median of its first 16 values. Later ones move its level and deviation, clipped, so that
    one broken value moves neither much; a channel that never changed takes some points to get used to changing. It
    fails on values that rise for ever: those of a counter, not of its rate.
    """

    def __init__(self, channels: int) -> None:
        self.channels = channels
        self._clock = np.array([-np.inf, *[0.0] * (CLOCK_NUMBERS - 1)])
        self._numbers = np.zeros((channels, CHANNEL_NUMBERS))

    def run(self, time_ms: NDArray[np.int64], values: Floats) -> tuple[NDArray[np.bool_], Scaled]:
        """Which of the points count, (n,), and those that do, scaled. They are learnt."""
        from stream_jobs.detectors.compiled_scaling import scale, usable_points  # numba takes a second to import

        keep, elapsed_ms = np.zeros(len(time_ms), dtype=np.bool_), np.empty(len(time_ms))
        usable_points(time_ms, values, self._clock, keep, elapsed_ms)
        time_ms, values, elapsed_ms = time_ms[keep], values[keep], elapsed_ms[keep]
        values = np.clip(np.where(np.isfinite(values), values, np.nan), -VALUE_MAX, VALUE_MAX)
        shape = values.shape
        scaled = Scaled(
            time_ms, elapsed_ms, values, np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape),
            np.empty(shape, dtype=np.bool_),
        )  # fmt: skip
        scale(
            values, self._numbers, elapsed_ms, scaled.z, scaled.step, scaled.learnt, scaled.spread, scaled.ready,
            ABSURD, ABSURD_CLIP,
        )  # fmt: skip
        return keep, scaled

    def state(self) -> bytes:
        """Everything learnt, as little-endian floats."""
        return self._clock.astype("<f8").tobytes() + self._numbers.astype("<f8").tobytes()

    def restore(self, state: bytes) -> None:
        """Take over what `state` gave. Raises ValueError when it is of other channels."""
        if len(state) != 8 * (CLOCK_NUMBERS + self.channels * CHANNEL_NUMBERS):
            raise ValueError(f"channel scaling: {len(state)} bytes of state for {self.channels} channels")
        numbers = np.frombuffer(state, dtype="<f8").astype(np.float64)
        self._clock = numbers[:CLOCK_NUMBERS].copy()
        self._numbers = numbers[CLOCK_NUMBERS:].reshape(self.channels, CHANNEL_NUMBERS).copy()
