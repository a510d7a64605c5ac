"""Detectors to compare with: a random score, and River's GaussianScorer over each channel, as shipped and as z."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from river import anomaly, proba, stats

from stream_jobs.detectors.base import TIME_KEY, Floats, Scores

SEED = 1
_COUNT = struct.Struct("<4sQ")


class _Baseline:
    """What the baselines share: only a severity, which is the alarm as well; no band, no onset, always sure."""

    name: str

    def __init__(self, channels: tuple[str, ...]) -> None:
        self.channels = channels
        self._last_ms = -(2**62)

    def score_one(self, x: Mapping[str, Any]) -> float:
        """Severity of the point, which is not learnt."""
        return self._severity(self._row(x))

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """Take the point in."""
        self._learn(self._row(x))

    def run(self, time_ms: NDArray[np.int64], values: Floats) -> Scores:
        """Score and learn point after point; one that has no finite value or comes late counts as missing."""
        severity = np.full(len(values), np.nan)
        usable: list[bool] = np.all(np.isfinite(values), axis=1).tolist()
        for i, (at, row) in enumerate(zip(time_ms.tolist(), values.tolist(), strict=True)):
            if at > self._last_ms:
                self._last_ms = at
                if usable[i]:
                    severity[i] = self._severity(row)
                    self._learn(row)
        return plain_scores(severity, values.shape[1])

    def digest(self) -> str:
        """Hash of the configuration."""
        return hashlib.sha256(f"{self.name} {self.channels} {SEED}".encode()).hexdigest()[:16]

    def _row(self, x: Mapping[str, Any]) -> list[float]:
        return [float(x[name]) for name in self.channels if name != TIME_KEY]

    def _severity(self, row: list[float]) -> float:
        raise NotImplementedError

    def _learn(self, row: list[float]) -> None:
        raise NotImplementedError


class RandomScore(_Baseline):
    """A score from 0 to 1 that knows nothing. Whatever does not clearly beat it is of no use."""

    name = "random"

    def __init__(self, channels: tuple[str, ...]) -> None:
        super().__init__(channels)
        self._count = 0
        self._draws = np.random.default_rng(SEED)
        self._next = float(self._draws.random())

    def run(self, time_ms: NDArray[np.int64], values: Floats) -> Scores:
        """The same draws as in the loop, all at once."""
        severity = np.full(len(values), np.nan)
        before = np.maximum.accumulate(np.append(self._last_ms, time_ms))
        at = np.flatnonzero((time_ms > before[:-1]) & np.isfinite(values).all(axis=1))
        draws = np.append(self._next, self._draws.random(len(at)))
        severity[at] = draws[:-1]
        self._last_ms, self._count, self._next = int(before[-1]), self._count + len(at), float(draws[-1])
        return plain_scores(severity, values.shape[1])

    def state(self) -> bytes:
        """How many points were learnt, and the last one's time."""
        return _COUNT.pack(b"RND1", self._count) + struct.pack("<q", self._last_ms)

    def restore(self, state: bytes) -> None:
        """Go on from there."""
        if len(state) != _COUNT.size + 8 or state[:4] != b"RND1":
            raise ValueError("random: not a state of this detector")
        self._count, self._last_ms = _COUNT.unpack_from(state)[1], struct.unpack_from("<q", state, _COUNT.size)[0]
        self._draws = np.random.default_rng(SEED)
        self._draws.bit_generator.advance(self._count)  # type: ignore[attr-defined]  # PCG64 has it
        self._next = float(self._draws.random())

    def _severity(self, row: list[float]) -> float:
        return self._next

    def _learn(self, row: list[float]) -> None:
        self._count += 1
        self._next = float(self._draws.random())


class GaussianScorer(_Baseline):
    """River's GaussianScorer of each channel, one after the other; the mean over the channels.

    Assumes normal values around one level. It saturates: far enough from the mean every score is 1.0 exactly.
    """

    name = "gaussian_as_shipped"

    def __init__(self, channels: tuple[str, ...]) -> None:
        super().__init__(channels)
        self._models: list[Any] = [anomaly.GaussianScorer() for _ in channels]  # type: ignore[no-untyped-call]

    def state(self) -> bytes:
        """Count, mean and squared deviations of each channel, and the last point's time."""
        parts = [struct.pack("<q", self._last_ms)]
        for model in self._models:
            moments = model.gaussian._var
            parts.append(struct.pack("<ddd", moments.mean.n, moments.mean._mean, moments._S))
        return b"".join(parts)

    def restore(self, state: bytes) -> None:
        """Go on from there."""
        if len(state) != 8 + 24 * len(self._models):
            raise ValueError(f"{self.name}: not a state of this detector")
        (self._last_ms,) = struct.unpack_from("<q", state)
        for number, model in enumerate(self._models):
            moments: Any = stats.Var()
            moments.mean.n, moments.mean._mean, moments._S = struct.unpack_from("<ddd", state, 8 + 24 * number)
            model.gaussian = proba.Gaussian()  # type: ignore[no-untyped-call]
            model.gaussian._var = moments

    def _severity(self, row: list[float]) -> float:
        total = 0.0
        for model, value in zip(self._models, row, strict=True):
            total += model.score_one(None, value)
        return total / len(row)

    def _learn(self, row: list[float]) -> None:
        for model, value in zip(self._models, row, strict=True):
            model.learn_one(None, value)


class GaussianZ(GaussianScorer):
    """The same running mean and variance; the score is the distance in standard deviations (RMS over channels)."""

    name = "gaussian_z"

    def _severity(self, row: list[float]) -> float:
        total = 0.0
        for model, value in zip(self._models, row, strict=True):
            gaussian = model.gaussian
            if gaussian.n_samples >= model.grace_period and gaussian.sigma > 0.0:
                total += ((value - gaussian.mu) / gaussian.sigma) ** 2
        return float((total / len(row)) ** 0.5)


BASELINES = {cls.name: cls for cls in (RandomScore, GaussianZ, GaussianScorer)}


def plain_scores(severity: Floats, channels: int) -> Scores:
    """Scores of a detector that has nothing but a severity (n,)."""
    n = len(severity)
    unknown = np.full((n, channels), np.nan)
    said = np.where(np.isnan(severity), 0.0, 1.0)
    return Scores(
        severity=severity,
        alarm=severity,
        score=np.full(n, np.nan),
        confidence=said,
        expected=unknown,
        lower=unknown,
        upper=unknown,
        contributions=np.zeros((n, channels)),
        onset_ms=np.full(n, -1, dtype=np.int64),
    )
