"""Drift of distributions against a frozen reference, judged by its size and by what chance alone would make of it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

import orjson

from stream_jobs.detectors.clock import NOT_BELIEVED, Clock
from stream_jobs.detectors.forecast_residual import Judgement
from stream_jobs.detectors.histogram_difference import Difference, Histogram, compared_names, compared_numbers

BINS_MAX = 32
COUNT_MAX = 2**53
"""Above this a count is no longer exact as a float."""


@dataclass(frozen=True, slots=True)
class DriftPolicy:
    """How long things are compared, and what difference is worth an alarm."""

    psi_min: float = 0.25
    """Smallest population stability index that can be anomalous: by common use, above 0.25 a population is another."""
    delta_min: float = 0.15
    """Least Cliff's delta beside it: 0.147 is where a difference is called small and not negligible (Romano 2006)."""
    usual_factor: float = 2.0
    """The index must be so many times the series' usual one, too."""
    reference_windows: int = 60
    reference_requests: int = 2_000
    """The reference is frozen when it holds so many windows and requests of the version."""
    epoch_seconds: float = 120.0
    epoch_requests: int = 300
    """What is compared with it holds at least so much."""
    significance: float = 1e-6
    """Of the Kolmogorov-Smirnov test that confirms it: one in a million comparisons of equals."""
    usual_epochs: float = 720.0
    """Memory of the usual index, epochs: a day of them."""
    nominal: tuple[str, ...] = ()
    """Histograms whose bins are names in no order."""
    moved_min: float = 0.15
    """Of those, in the place of the delta: the share of requests that are in other bins (total variation)."""

    @property
    def name(self) -> str:
        """The detector's."""
        return "histogram_drift"

    def detector(self) -> HistogramDrift:
        """A new one."""
        return HistogramDrift(self)

    def digest(self) -> str:
        """Hash of the configuration, 16 hexadecimal characters."""
        return hashlib.sha256(orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class DriftJudgement(Judgement):
    """Of a distribution: `actual` is the largest index of the histograms, `contributors` their shares of the sum,
    `effects` index and delta of each, by name."""

    actual: float
    contributors: Mapping[str, float]
    effects: Mapping[str, float]


class HistogramDrift:
    """An online detector of drift of one or more histograms of a series of one version.

    The first windows are the reference and then frozen: a version is compared with itself, and a new version, which is
    a new series, begins anew. Later windows are added up to epochs of some minutes, and at the end of each its
    population stability index (Siddiqi 2006), less what chance alone makes of it (each bin adds 1/n + 1/m), is compared
    with what is usual for the series. It alarms when the difference is also large (Cliff's delta of the bins) and the
    Kolmogorov-Smirnov test confirms it. Fails where the reference was no usual time (a test run, a night), on
    changes within a bin, and where both ends grow at the middle's cost: the delta is near 0 then. Bins that are names
    have no such order: there it is the share of requests that moved to other bins, and the chi-squared test.

    Requests of mostly few tokens, which become mostly long:

    >>> from stream_jobs.detectors.histogram_drift import DriftPolicy, HistogramDrift
    >>> trigger, said = HistogramDrift(DriftPolicy(reference_windows=30)), []
    >>> for number in range(60):
    ...     bins = {"tokens": [70, 20, 10]} if number < 45 else {"tokens": [10, 20, 70]}
    ...     said.append(trigger.judge(bins, 10_000 * number))
    ...     trigger.learn(bins, 10_000 * number)
    >>> [(round(one.actual, 2), one.anomalous) for one in said if one is not None]
    [(0.0, False), (1.57, True)]
    """

    # There are thousands of them.
    __slots__ = (
        *("_clock", "_epochs", "_frozen", "_recent", "_reference", "_since_ms", "_usual", "_windows"),
        "policy",
    )

    def __init__(self, policy: DriftPolicy) -> None:
        self.policy = policy
        self._windows, self._frozen = 0, False
        self._epochs, self._usual = 0, 0.0
        self._clock, self._since_ms = Clock(round(policy.epoch_seconds * 1000)), -1
        self._reference: dict[str, list[int]] = {}
        self._recent: dict[str, list[int]] = {}

    @property
    def frozen(self) -> bool:
        """Whether the reference is complete."""
        return self._frozen

    def judge(self, value: Mapping[str, Histogram] | None, time_ms: int) -> DriftJudgement | None:
        """What to say when this window ends an epoch; None when it ends none, holds nothing or comes at a time that is
        not believed."""
        if value is None or not self._frozen or self._since_ms < 0 or not _holds(value):
            return None
        passed_ms = self._clock.passed_ms(time_ms)
        if passed_ms == NOT_BELIEVED or not self._is_long(passed_ms):
            return None
        recent = _added(self._recent, value)
        if _requests(recent) < self.policy.epoch_requests:
            return None
        found = {name: self._compared(name, recent.get(name, [])) for name in sorted(self._reference)}
        psi = {name: one.psi for name, one in found.items()}
        room = self._room()
        real = [name for name, one in found.items() if self._is_real(name, one, room)]
        largest = max((psi[name] for name in real or psi), default=0.0)
        beyond = max(0.0, (largest - self._usual) / room)
        beyond = beyond if real else min(beyond, 1.0)
        total = sum(psi.values())
        return DriftJudgement(
            score=beyond / (1.0 + beyond),
            confidence=(self._epochs + 1) / (self._epochs + 3),
            expected=self._usual,
            lower=0.0,
            upper=self._usual + room,
            learning=False,
            actual=largest,
            contributors={name: one / total for name, one in psi.items()} if total > 0.0 else {},
            effects={
                f"{name}_{what}": size
                for name, one in found.items()
                for what, size in (("psi", one.psi), ("moved" if name in self.policy.nominal else "delta", one.effect))
            },
        )

    def learn(self, value: Mapping[str, Histogram] | None, time_ms: int) -> None:
        """Take a window in, unless it holds nothing or its time is not believed."""
        if value is None or not _holds(value):
            return
        judged, last_ms = self.judge(value, time_ms), self._clock.last_ms
        passed_ms = self._clock.take(time_ms)
        if passed_ms == NOT_BELIEVED:
            return
        if not self._frozen:
            self._windows += 1
            self._reference = _added(self._reference, value)
            self._freeze()
            return
        if judged is None:
            self._recent = _added(self._recent, value)
            # A clock that jumped takes the epoch's start along.
            self._since_ms = time_ms if self._since_ms < 0 else self._since_ms + time_ms - passed_ms - last_ms
            return
        self._epochs += 1
        cut = min(judged.actual, judged.upper)
        self._usual += max(1.0 / (self._epochs + 6), 1.0 / self.policy.usual_epochs) * (cut - self._usual)
        self._recent, self._since_ms = {}, -1

    def state(self) -> list[Any]:
        """Plain numbers; exact through JSON."""
        numbers = [self._windows, self._epochs, self._usual, self._since_ms, self._clock.state()]
        return [*numbers, self._reference, self._recent]

    def restore(self, state: Any) -> None:
        """Take over what `state` gave. Raises ValueError when it is broken or not finite."""
        try:
            windows, epochs, usual, since_ms, clock, reference, recent = state
            taken = [{str(name): [*counts] for name, counts in one.items()} for one in (reference, recent)]
        except (TypeError, ValueError, AttributeError):
            raise ValueError("histogram drift: not four numbers, a clock and two sets of histograms") from None
        whole = [windows, epochs, since_ms]
        if any(type(number) is not int for number in whole) or type(usual) is not float or not math.isfinite(usual):
            raise ValueError("histogram drift: a number is of the wrong type or not finite")
        for one in taken:
            for counts in one.values():
                if len(counts) > BINS_MAX or any(type(one) is not int or not 0 <= one <= COUNT_MAX for one in counts):
                    raise ValueError("histogram drift: counts are not whole numbers, or too large or many")
        try:
            self._clock.restore(clock)
        except ValueError as error:
            raise ValueError(f"histogram drift: {error}") from None
        self._windows, self._epochs, self._usual, self._since_ms = windows, epochs, usual, since_ms
        self._reference, self._recent = taken
        self._freeze()

    def _freeze(self) -> None:
        enough = _requests(self._reference) >= self.policy.reference_requests
        self._frozen = self._windows >= self.policy.reference_windows and enough

    def _is_long(self, passed_ms: int) -> bool:
        return self._clock.last_ms + passed_ms - self._since_ms >= self.policy.epoch_seconds * 1000

    def _room(self) -> float:
        return max(self.policy.psi_min, self.policy.usual_factor * self._usual)

    def _compared(self, name: str, recent: Histogram) -> Difference:
        compared = compared_names if name in self.policy.nominal else compared_numbers
        return compared(self._reference[name], recent, self.policy.significance)

    def _is_real(self, name: str, one: Difference, room: float) -> bool:
        least = self.policy.moved_min if name in self.policy.nominal else self.policy.delta_min
        return one.psi - self._usual > room and abs(one.effect) >= least and one.significant


def _holds(value: Mapping[str, Histogram]) -> bool:
    return any(map(sum, value.values()))


def _requests(histograms: Mapping[str, Histogram]) -> int:
    return max(map(sum, histograms.values()), default=0)


def _added(one: Mapping[str, Histogram], other: Mapping[str, Histogram]) -> dict[str, list[int]]:
    names = one.keys() | other.keys()
    return {
        name: [min(a + b, COUNT_MAX) for a, b in zip_longest(one.get(name, ()), other.get(name, ()), fillvalue=0)]
        for name in sorted(names)
    }
