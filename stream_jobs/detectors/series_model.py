"""What the selectable detectors share: which points count, ranks in the own past, state, digest. Scoring is theirs."""

from __future__ import annotations

import abc
import hashlib
import math
import numbers
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import orjson
from numpy.typing import NDArray

from stream_jobs.detectors.base import TIME_KEY, Floats, Scores
from stream_jobs.detectors.channel_scaling import ChannelScaling, Scaled
from stream_jobs.detectors.own_past import OwnPast

_LAYOUT = 2
"""Of the states: another one makes another digest, so that a state of before is known as such."""
_MAGIC = b"SDM2"
_DIGEST_BYTES, _CHECK_BYTES = 8, 8
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class Judged:
    """What a model says of n scaled points of c channels. NaN where it has nothing to say."""

    severity: Floats
    """(n,) At least 0; anything finite where `learning`."""
    learning: NDArray[np.bool_]
    """(n,) It has not learnt enough to say."""
    shares: Floats
    """(n, c) How much each channel has to do with it, in any unit, at least 0."""
    expected: Floats
    lower: Floats
    upper: Floats


class SeriesModel(abc.ABC):
    """A detector of one series that scores points which were cleaned and scaled. See `SeriesDetector`.

    A subclass gives its NAME, scores and learns in `_judge`, and packs what it learnt in `_parts`. Scoring one point
    without learning it is a run that is taken back: exact, and as slow as saving the state.
    """

    NAME: ClassVar[str]

    def __init__(self, channels: Sequence[str], **options: float | int | str | None) -> None:
        if not channels or len(set(channels)) != len(channels) or TIME_KEY in channels:
            raise ValueError(f"channels {list(channels)}: at least one, each once, and none called {TIME_KEY}")
        self.channels = tuple(channels)
        described = {"name": self.NAME, "channels": self.channels, "options": options, "layout": _LAYOUT}
        self._digest = hashlib.sha256(orjson.dumps(described, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]
        self._scaling = ChannelScaling(len(self.channels))
        self._past = OwnPast()

    @property
    def name(self) -> str:
        """The name it is selected by."""
        return self.NAME

    def digest(self) -> str:
        """Hash of name, channels, options and the state's layout, 16 hexadecimal characters."""
        return self._digest

    def score_one(self, x: Mapping[str, Any]) -> float:
        """Severity of a point, which is not learnt; NaN when none of its channels or its time is usable."""
        before = self._all_parts()
        try:
            return float(self.run(*self._point(x)).severity[0])
        finally:
            self._take(before)

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """Take a point in."""
        self.run(*self._point(x))

    def run(self, time_ms: NDArray[np.int64], values: Floats) -> Scores:
        """Score each point and then learn it, before the next. `values` is (n, c); what is not finite is missing."""
        time_ms = np.ascontiguousarray(time_ms, dtype=np.int64)
        values = np.ascontiguousarray(values, dtype=np.float64)
        if values.shape != (len(time_ms), len(self.channels)):
            raise ValueError(f"values {values.shape} for {len(time_ms)} times and {len(self.channels)} channels")
        keep, scaled = self._scaling.run(time_ms, values)
        judged = self._judge(scaled)
        severity = np.where(judged.learning, 0.0, judged.severity)
        ranks = self._past.run(scaled.time_ms, scaled.elapsed_ms, severity, judged.learning)
        return Scores(
            severity=_spread(keep, severity),
            alarm=_spread(keep, ranks.alarm),
            score=_spread(keep, ranks.score),
            confidence=_spread(keep, ranks.confidence),
            expected=_spread(keep, judged.expected),
            lower=_spread(keep, judged.lower),
            upper=_spread(keep, judged.upper),
            contributions=_spread(keep, _contributions(severity, judged.shares, scaled)),
            onset_ms=_spread(keep, ranks.onset_ms, -1),
        )

    def state(self) -> bytes:
        """Everything learnt, as numbers; begins with the digest of the configuration, ends with a checksum."""
        parts = self._all_parts()
        body = _MAGIC + bytes.fromhex(self.digest()) + b"".join(_LENGTH.pack(len(part)) + part for part in parts)
        return body + _check(body)

    def restore(self, state: bytes) -> None:
        """Take over what `state` gave. Raises ValueError, and changes nothing, when it is broken or another model's."""
        parts = self._unpacked(state)
        before = self._all_parts()
        try:
            self._take(parts)
        except (ValueError, IndexError, struct.error) as error:
            self._take(before)
            raise ValueError(f"{self.NAME}: {error}") from None

    @abc.abstractmethod
    def _judge(self, scaled: Scaled) -> Judged:
        """Score each point and then learn it, before the next."""

    @abc.abstractmethod
    def _parts(self) -> list[bytes]:
        """What was learnt, as numbers."""

    @abc.abstractmethod
    def _take_parts(self, parts: list[bytes]) -> None:
        """Take over what `_parts` gave. Raises ValueError when it does not fit."""

    def _all_parts(self) -> list[bytes]:
        return [self._scaling.state(), self._past.state(), *self._parts()]

    def _take(self, parts: list[bytes]) -> None:
        self._scaling.restore(parts[0])
        self._past.restore(parts[1])
        self._take_parts(parts[2:])

    def _unpacked(self, state: bytes) -> list[bytes]:
        body, check = state[:-_CHECK_BYTES], state[-_CHECK_BYTES:]
        at = len(_MAGIC) + _DIGEST_BYTES
        if len(body) < at or body[: len(_MAGIC)] != _MAGIC or check != _check(body):
            raise ValueError(f"{self.NAME}: the state is cut or altered")
        if body[len(_MAGIC) : at] != bytes.fromhex(self.digest()):
            raise ValueError(f"{self.NAME}: the state is of another configuration")
        parts = []
        while at < len(body):
            (length,) = _LENGTH.unpack_from(body, at)
            parts.append(body[at + _LENGTH.size : at + _LENGTH.size + length])
            at += _LENGTH.size + length
        return parts

    def _point(self, x: Mapping[str, Any]) -> tuple[NDArray[np.int64], Floats]:
        """A point of features as arrays of one. Without a usable time nothing of it is."""
        when = usable(x.get(TIME_KEY))
        values = np.array([[usable(x.get(channel)) for channel in self.channels]])
        if math.isnan(when) or abs(when) > 2.0**62:
            return np.zeros(1, dtype=np.int64), np.full_like(values, math.nan)
        return np.array([int(when)], dtype=np.int64), values


def usable(value: Any) -> float:
    """A feature as a number, or NaN: None, text, truth values and what is not finite are missing."""
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        number = float(value)
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def nothing(scaled: Scaled) -> Floats:
    """An array for every point and channel, all NaN."""
    return np.full(scaled.values.shape, math.nan)


def any_channel(flags: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """(n,) True where a flag of (n, c) is."""
    rows: NDArray[np.bool_] = np.logical_or.reduce(flags, axis=1)
    return rows


def root_mean_square(channels: Floats, there: NDArray[np.bool_]) -> Floats:
    """Of each row over the channels that are there; 0 where none is."""
    squares = np.where(there, channels, 0.0) ** 2
    # Summed channel by channel: numpy sums a row of many in another order than a row of few.
    total = np.zeros(len(channels))
    for column in range(channels.shape[1]):
        total += squares[:, column]
    root: Floats = np.sqrt(total / np.maximum(there.sum(axis=1), 1))
    return root


def _contributions(severity: Floats, shares: Floats, scaled: Scaled) -> Floats:
    """Shares that sum to 1; equal ones of the channels that are there when the model has none; 0 without severity."""
    if shares.shape[1] == 1:
        return (severity > 0.0).astype(np.float64)[:, None]
    shares = np.where(np.isfinite(shares) & np.isfinite(scaled.values), shares, 0.0)
    shares[shares.sum(axis=1) <= 0.0] = 1.0
    shares = np.where(np.isfinite(scaled.values), shares, 0.0)
    shares = np.where((severity > 0.0)[:, None], shares, 0.0)
    divided: Floats = shares / np.maximum(shares.sum(axis=1), 1e-300)[:, None]
    return divided


def _spread(keep: NDArray[np.bool_], of_kept: NDArray[Any], otherwise: float = math.nan) -> NDArray[Any]:
    if len(of_kept) == len(keep):
        return of_kept
    spread = np.full((len(keep), *of_kept.shape[1:]), otherwise, dtype=of_kept.dtype)
    spread[keep] = of_kept
    return spread


def _check(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK_BYTES).digest()
