"""Models of River's that read one number at a time: one for each channel, and their numbers as a state."""

from __future__ import annotations

import abc
from dataclasses import dataclass
from typing import Any

import numpy as np

from stream_jobs.detectors.channel_scaling import Scaled
from stream_jobs.detectors.series_model import Judged, SeriesModel, any_channel, nothing, root_mean_square


@dataclass(frozen=True, slots=True)
class Said:
    """What a model said of one value; NaN where it says nothing."""

    severity: float
    expected: float = float("nan")
    lower: float = float("nan")
    upper: float = float("nan")


class RiverChannels(SeriesModel):
    """One of River's models for each channel, made when first needed: importing River takes seconds.

    A point's severity is the root mean square over the channels that have one.
    """

    _models: list[Any] | None = None

    def _judge(self, scaled: Scaled) -> Judged:
        models = self._made()
        severity, known = np.zeros(scaled.values.shape), np.zeros(scaled.values.shape, dtype=np.bool_)
        expected, lower, upper = nothing(scaled), nothing(scaled), nothing(scaled)
        for channel, model in enumerate(models):
            for row in np.flatnonzero(scaled.ready[:, channel]).tolist():
                said = self._say_then_learn(model, scaled, row, channel)
                if said is not None:
                    known[row, channel] = True
                    severity[row, channel] = said.severity
                    expected[row, channel] = said.expected
                    lower[row, channel], upper[row, channel] = said.lower, said.upper
        return Judged(root_mean_square(severity, known), ~any_channel(known), severity**2, expected, lower, upper)

    @abc.abstractmethod
    def _new_model(self) -> Any:
        """One of River's models, fresh."""

    @abc.abstractmethod
    def _say_then_learn(self, model: Any, scaled: Scaled, row: int, channel: int) -> Said | None:
        """Score a value of a channel that is ready, and learn it. None: the model is still learning."""

    @abc.abstractmethod
    def _pack(self, model: Any) -> bytes:
        """What the model learnt."""

    @abc.abstractmethod
    def _unpack(self, state: bytes) -> Any:
        """A model that learnt this. Raises ValueError when it does not fit."""

    def _made(self) -> list[Any]:
        if self._models is None:
            self._models = [self._new_model() for _ in self.channels]
        return self._models

    def _parts(self) -> list[bytes]:
        return [] if self._models is None else [self._pack(model) for model in self._models]

    def _take_parts(self, parts: list[bytes]) -> None:
        if parts and len(parts) != len(self.channels):
            raise ValueError(f"{len(parts)} models for {len(self.channels)} channels")
        self._models = [self._unpack(part) for part in parts] or None


def packed(*numbers: float) -> bytes:
    """Numbers as little-endian floats."""
    return np.array(numbers, dtype="<f8").tobytes()


def unpacked(state: bytes) -> list[float]:
    """What `packed` was given. Raises ValueError when it is cut."""
    numbers: list[float] = np.frombuffer(state, dtype="<f8").tolist()
    return numbers
