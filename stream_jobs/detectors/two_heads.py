"""The default detector: many causal residuals of a series in their usual sizes (severity), and how rare it is (alarm).

One compact row of numbers a series serves both heads. Everything is learnt online, a point is scored before it is
learnt, and clocks are in seconds, so that a series of one point a second and one of a point an hour forget alike.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from stream_jobs.detectors import two_heads_layout as at
from stream_jobs.detectors.base import TIME_KEY, VALUE_KEY, Floats, Scores
from stream_jobs.detectors.two_heads_record import pack_row, unpack_row

NAME = "two_heads"
MINUTE_MS = 60_000
TIME_MS_MAX = 1 << 53
"""Further from 1970 is no time: the state holds times as float64."""


@dataclass(frozen=True, slots=True)
class TwoHeadsPolicy:
    """One configuration for every series. The order of the fields is that of the compiled loop's policy row."""

    fast_share: float = 0.2
    """By how much the fast mean moves towards a point."""
    middle_share: float = 0.05
    holt_level_share: float = 0.3
    holt_trend_share: float = 0.05
    spike_size: float = 3.0
    """A difference of so many times its usual size is a spike."""
    spike_share: float = 0.05
    slow_seconds: float = 4 * 86_400.0
    scale_seconds: float = 30 * 86_400.0
    """Memory of the residuals' sizes: with a long one a single threshold holds over many series."""
    smooth_seconds: float = 150.0
    smooth_many_seconds: float = 3_000.0
    """The same for points of several channels: faults of a service last."""
    scale_floor: float = 0.05
    """A residual's size is at least this share of the channel's standard deviation: flat stretches are not precise."""
    learn_deviations: float = 100.0
    """A value is learnt as if it were at most so many standard deviations off."""
    peak_power: float = 0.3
    """The severity is divided by the mean of past hours' highest one to this power: jumpy series are used to it."""
    peak_hours: float = 7 * 24.0
    gap_intervals: float = 3.0
    """Time without points counts for at most so many usual intervals."""
    learning_points: float = 30.0
    alarm_learning_points: float = 180.0
    """Two blocks: before that everything is rare."""
    block_points: float = 90.0
    block_decay: float = 0.5 ** (90.0 / 8000.0)
    """What a block of points weighs after each later one."""
    margin: float = 0.055
    """Beyond a past extreme is what is further by this share of the range: steady noise sets records all the time."""
    unseen_blocks: float = 0.6
    """Blocks that count as having reached everything inside the range: little has been seen at first."""
    excess: float = 1.0
    """Weight of how far outside its range a feature is."""
    rare: float = 0.37
    """The alarm that calls somebody."""
    cool_points: float = 40.0
    tally_seconds: float = 14 * 86_400.0
    """Memory of the past severities that `score` is a share of."""
    unusual: float = 0.98
    """A score from which a run of unusual points begins, and `usual` one below which it ends."""
    usual: float = 0.9
    band_scales: float = 3.0
    usual_power: float = 0.2
    """The severity is also divided by the 95 % quantile of its past to this power."""
    absurd_deviations: float = 200.0
    """A value further off is absurd: it is scored, but only the third of them in days is learnt. Down to 150 that costs
    nothing on the sets tried; with 100 what is flat and jumps stays unusual (AIOPS event-F1 .709 instead of .722)."""

    def row(self) -> Floats:
        """For the compiled loop."""
        return np.array(astuple(self), dtype=np.float64)

    def digest(self) -> str:
        """Hash of the configuration, 16 hexadecimal characters."""
        return hashlib.sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


DEFAULT = TwoHeadsPolicy()


def new_states(series: int, channels: int) -> Floats:
    """States of that many series that have seen nothing, (series, numbers)."""
    states = np.zeros((series, at.width(channels)))
    states[:, at.ONSET_MS] = -1.0
    states[:, at.TALLY_WEIGHT] = 1.0
    return states


def run_many(
    states: Floats,
    rows: NDArray[np.int64],
    time_ms: NDArray[np.int64],
    values: Floats,
    policy: TwoHeadsPolicy = DEFAULT,
) -> Scores:
    """Score points of many series in one call: point i is of the series with the state in row `rows[i]`, in order.

    `values` is (n, c) and `states` (series, numbers of c channels), changed in place. The scores are bit for bit
    those of each series on its own. Raises ValueError where the shapes do not fit.
    """
    values = np.ascontiguousarray(values, dtype=np.float64)
    n, channels = values.shape
    if states.shape[1] != at.width(channels) or len(rows) != n or len(time_ms) != n:
        raise ValueError(f"{NAME}: {states.shape} states, {len(rows)} rows, {len(time_ms)} times, {values.shape}")
    if n and not 0 <= int(rows.min()) <= int(rows.max()) < len(states):
        raise ValueError(f"{NAME}: rows {rows.min()} to {rows.max()} of {len(states)} states")
    return _run(states, np.ascontiguousarray(rows, dtype=np.int64), time_ms, values, policy.row())


def _run(states: Floats, rows: NDArray[np.int64], time_ms: NDArray[np.int64], values: Floats, policy: Floats) -> Scores:
    from stream_jobs.detectors.compiled_two_heads import score_then_learn  # numba takes a second to import

    n, channels = values.shape
    per_point = np.full((4, n), np.nan)
    per_channel = np.full((4, n, channels), np.nan)
    per_channel[3] = 0.0
    onset_ms = np.full(n, -1, dtype=np.int64)
    times = np.ascontiguousarray(time_ms, dtype=np.int64)
    score_then_learn(states, rows, times, values, policy, per_point, per_channel, onset_ms)
    severity, alarm, score, confidence = per_point
    expected, lower, upper, contributions = per_channel
    return Scores(severity, alarm, score, confidence, expected, lower, upper, contributions, onset_ms)


class TwoHeads:
    """A detector of one series of one or several channels, with River's `score_one` and `learn_one`.

    *Severity*: each channel's value is compared with moving means of several speeds, Holt's forecast (Holt 1957) and
    the last value but one. Each residual is divided by the root of its mean square over weeks, floored by a share of
    the channel's deviation; their root mean square, over the worst channels, is smoothed and divided by powers of
    what the series' past hours peaked at and of its 95 % quantile. *Alarm*: how few past blocks of points had an
    extreme as high, or as low, as this point's, over several features: block extremes as in extreme value theory
    (Gumbel 1958), counted, not fitted. It fails on faults that creep more slowly than days, on rhythms that are only
    wrong in their phase, and on what lasts for weeks, which becomes usual.

    Without `channels` they are the first point's features. A value that is None, no number or not finite is missing. A
    huge one is scored high and not learnt: one of more than 200 deviations until its third in days, and then as 100
    deviations, one above 1e30 never. A point without any usable value or time is as if it had never come, and so is one
    that is not after the last; a clock that jumps is believed at the third point in a row (`clock.passed_ms`). Points
    without `time_ms` count as one minute apart.

    A spike after 2,000 minutes, as River asks and with one call for all:

    >>> import numpy as np
    >>> from stream_jobs.detectors.two_heads import TwoHeads
    >>> noise = np.sin(np.arange(2000.0) ** 2)  # looks like noise, and is the same everywhere
    >>> detector = TwoHeads()
    >>> scores = detector.run(60_000 * np.arange(2000), 100.0 + 5.0 * noise[:, None])
    >>> point = {"time_ms": 60_000 * 2000, "value": 180.0}
    >>> round(detector.score_one(point), 1)
    6.2
    >>> told = detector.run(np.array([point["time_ms"]]), np.array([[point["value"]]]))
    >>> round(float(told.severity[0]), 1), round(float(told.score[0]), 3), round(float(told.alarm[0]), 1)
    (6.2, 0.999, 2.2)
    """

    name = NAME

    def __init__(
        self, channels: Sequence[str] | None = (VALUE_KEY,), policy: TwoHeadsPolicy | None = None, **changes: float
    ) -> None:
        """`changes` are fields of the policy by name. Raises TypeError for a name that is none."""
        known = {one.name for one in fields(TwoHeadsPolicy)}
        if not changes.keys() <= known:
            raise TypeError(f"no option {min(changes.keys() - known)!r}: there are {', '.join(sorted(known))}")
        if changes:
            policy = replace(policy or DEFAULT, **changes)
        if channels is not None and (not channels or TIME_KEY in channels or len(set(channels)) != len(channels)):
            raise ValueError(f"{NAME}: channels {list(channels)}")
        self.channels = channels
        self.policy = policy
        self._digest = (policy or DEFAULT).digest()
        self._policy = (policy or DEFAULT).row()
        self._names = None if channels is None else tuple(channels)
        self._states = new_states(1, len(self._names or ()))

    def score_one(self, x: Mapping[str, Any]) -> float:
        """Severity of a point; 0 while learning, NaN for one that is not usable. Nothing is learnt."""
        if self._names is None:
            return 0.0
        return float(self._point(x, self._states.copy()).severity[0])

    def learn_one(self, x: Mapping[str, Any]) -> None:
        """Take a point in."""
        if self._names is None:
            self._names = tuple(sorted(name for name in x if name != TIME_KEY)) or None
            self._states = new_states(1, len(self._names or ()))
        if self._names is not None:
            self._point(x, self._states)

    def run(self, time_ms: NDArray[np.int64], values: Floats) -> Scores:
        """Score each point and then learn it, before the next. `values` is (n, c); what is not finite is missing."""
        if self._names is None:
            raise ValueError(f"{NAME}: the channels are not known yet")
        rows = np.zeros(len(time_ms), dtype=np.int64)
        values = np.ascontiguousarray(values, dtype=np.float64)
        if values.shape != (len(rows), len(self._names)):
            raise ValueError(f"{NAME}: {values.shape} values for {len(rows)} points of {len(self._names)} channels")
        return _run(self._states, rows, time_ms, values, self._policy)

    def state(self) -> bytes:
        """The row of numbers with its version, configuration and checksum."""
        return pack_row(self._states[0], self.digest())

    def restore(self, state: bytes) -> None:
        """Take over what `state` gave. Raises ValueError when it is cut, altered or of another configuration."""
        self._states[0] = unpack_row(state, self._states.shape[1], self.digest())

    def digest(self) -> str:
        """Hash of the policy, the channels and the state's layout, 16 hexadecimal characters."""
        return hashlib.sha256(repr((at.LAYOUT, self._digest, self._names)).encode()).hexdigest()[:16]

    def _point(self, x: Mapping[str, Any], states: Floats) -> Scores:
        assert self._names is not None
        values = np.array([[_number(x.get(name)) for name in self._names]])
        time_ms = _number(x.get(TIME_KEY, states[0, at.LAST_MS] + MINUTE_MS))
        if not abs(time_ms) <= TIME_MS_MAX:
            time_ms, values[:] = 0.0, np.nan
        return _run(states, np.zeros(1, dtype=np.int64), np.array([int(time_ms)]), values, self._policy)


def _number(value: Any) -> float:
    """What is not a number is missing: text that looks like one, too."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.floating | np.integer):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def warm_up() -> None:
    """Load the compiled loop, compiling it where it is not cached: seconds, better spent before the first record."""
    TwoHeads().learn_one({VALUE_KEY: 0.0})
