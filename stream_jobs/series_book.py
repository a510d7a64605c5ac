"""The series of stage 2: which are live, at rest or parked, scored window by window.

Owns the bound on series and their places in the state pages. Does not know where windows come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from itertools import islice

from infra.log_clock import BEHIND_MS_MAX
from schemas.alerts import AlertChanged
from schemas.anomalies import DetectorsRenewed, SeriesBoundReached
from schemas.windows import SeriesKey
from stream_jobs.attribution.regression import LatencyCauses, LatencyRegression, explain_together
from stream_jobs.decide import resolve
from stream_jobs.live_series import LiveSeries
from stream_jobs.moved_requests import FOUND_SHARE, follow_moves
from stream_jobs.parked_series import ParkedSeries
from stream_jobs.series_scoring import Look, SeriesScoring
from stream_jobs.series_state import Series
from stream_jobs.stage import Limit
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import RATE, SeriesWindow, WindowId, name_of

BOUND_NAMED = 20
"""Series that an event of the bound names."""


class SeriesBook:
    """Series by name, the one longest without requests first. At most `series_max` are in memory between two windows.

    Above that those are parked which are at rest, and come back exact: nothing that is said changes. Where too many are
    not at rest, those longest without requests rest early. What is parked is bounded by `parked`, see there.
    """

    def __init__(
        self,
        scoring: SeriesScoring,
        series_max: int,
        idle_ms: int,
        partition: int = 0,
        parked_max: int = 0,
        shelf: MutableMapping[str, bytes] | None = None,
        owns: Callable[[SeriesKey], bool] = lambda key: True,
        behind_ms_max: int = BEHIND_MS_MAX,
    ) -> None:
        """`shelf` takes the pages of at most `parked_max` parked series; None: they stay in memory. `owns`: what series
        belong here; others are known from before they were assigned as they are now. `behind_ms_max`: a series that
        was seen so much later than a window ends, milliseconds, was seen by a clock that was set back since."""
        self.owns, self.behind_ms_max = owns, behind_ms_max
        self.scoring, self.series_max, self.idle_ms, self.partition = scoring, series_max, idle_ms, partition
        self.live = LiveSeries(scoring, ParkedSeries({} if shelf is None else shelf, parked_max))
        self._looks: list[Look] = []
        """What the window shows that is scored just now, and was not yet."""

    def __len__(self) -> int:
        return len(self.live)

    def score(
        self, window: WindowId, found: Mapping[str, SeriesWindow], complete: bool, effects: WindowEffects
    ) -> None:
        """Score a closed window: the series it holds, by name, then those that it should hold.

        In a window that is not complete nothing is said of what is missing: it may still come.
        """
        self._tell_renewed(window, effects)
        names = sorted(found)
        for at in range(0, len(names), self.series_max):
            if at:  # not after the last: those of a window are scored together, also with those that are absent
                self._make_room(window, effects)
            self._look_at_found(names[at : at + self.series_max], window, found, complete, effects)
        for name in sorted(self.live.active.keys() - found.keys()):
            self._look_at_absent(self.live.active[name], window, found, complete, effects)
        self._score_looks(window, effects)
        self._make_room(window, effects)

    def series(self, name: str) -> Series:
        """One series in memory, by `name_of` its key. Raises KeyError when it is not known."""
        return self.live[name]

    def _look_at_found(
        self,
        names: Sequence[str],
        window: WindowId,
        found: Mapping[str, SeriesWindow],
        complete: bool,
        effects: WindowEffects,
    ) -> None:
        self.live.bring_back({name: found[name].key for name in names})
        for name in names:
            if name in self.live:
                self._follow_back(self.live[name], window, effects)
        causes = self._causes(window, names, found)
        rested = {name for name in names if name in self.live and self.live[name].at_rest}
        for name in names:
            series = self._touched(name, found[name].key, window)
            if name not in causes:
                series.latency.explain_then_learn(found[name].latency, window.end_ms)
            one = found[name].explained(causes.get(name))
            effects.causes(window, one)
            for metric in self.scoring.metrics:
                value = metric.value_of(one) if complete or metric.absent_is is None else None
                watched, elder = series.metrics[metric.name], None
                if watched.first is not None and series.after in self.live:
                    elder = self.live[series.after].metrics[metric.name]
                self._looks.append(Look(series.key, watched, metric, value, one, elder))
        if complete:
            follow_moves(self.live, names, rested, found, window)

    def _causes(
        self, window: WindowId, names: Iterable[str], found: Mapping[str, SeriesWindow]
    ) -> dict[str, LatencyCauses | None]:
        """Why the series that are known are slow, or not; learnt, too."""
        names = [name for name in names if name in self.live]
        known = [self.live[name].latency for name in names]
        told = explain_together(known, window.end_ms, [found[name].latency for name in names])
        return dict(zip(names, told, strict=True))

    def _touched(self, name: str, key: SeriesKey, window: WindowId) -> Series:
        series = self.live.get(name)
        if series is None:
            series = self.live.new(key, window.end_ms)
            self._may_borrow(series)
        self.live.touch(name, series)
        series.last_ms, series.at_rest = max(series.last_ms, window.end_ms), False
        return series

    def _make_room(self, window: WindowId, effects: WindowEffects) -> None:
        """Park what is above the bound."""
        excess = len(self.live) - self.series_max
        if excess <= 0:
            return
        self._score_looks(window, effects)
        leaving = list(islice((name for name, series in self.live.items() if series.at_rest), excess))
        early = list(islice((name for name in self.live if name in self.live.active), excess - len(leaving)))
        first = not len(self.live.parked)
        for name in early:
            self._rest(self.live[name], window, "rests early: too many series have requests", effects)
        leaving.extend(early)
        forgotten = [gone for name in leaving for gone in self.live.park(name)]
        effects.limit(Limit.LIVE_SERIES, len(leaving))
        effects.limit(Limit.ACTIVE_SERIES, len(early))
        effects.limit(Limit.KNOWN_SERIES, len(forgotten))
        if first or early or forgotten:
            self._tell_bound(window, leaving, early, forgotten, effects)

    def _tell_bound(
        self,
        window: WindowId,
        leaving: Sequence[str],
        early: Sequence[str],
        forgotten: Sequence[str],
        effects: WindowEffects,
    ) -> None:
        named = [name.split("\x1f") for name in (*forgotten, *early, *leaving)[:BOUND_NAMED]]
        effects.bound(
            SeriesBoundReached(
                partition=self.partition,
                at_ms=window.end_ms,
                live_max=self.series_max,
                live=len(self.live),
                parked=len(self.live.parked),
                parked_now=len(leaving),
                rested_early=len(early),
                forgotten=len(forgotten),
                series=[SeriesKey(scenario=one[0], model=one[1], version=one[2]) for one in named],
            )
        )

    def _follow_back(self, series: Series, window: WindowId, effects: WindowEffects) -> None:
        """A series that was seen by a clock that was set back since begins anew: what it knows lies in the future."""
        ahead_ms = series.last_ms - window.end_ms
        if ahead_ms <= self.behind_ms_max:
            return
        self._score_looks(window, effects)
        self._resolve_all(series, window.end_ms, "can no longer be judged: the log's clock went back", effects)
        self.scoring.drop(series.metrics.values())
        series.metrics, series.latency, series.after = self.scoring.watched(), LatencyRegression(), ""
        series.last_ms = window.end_ms
        self.live.mark(series)
        self.live.states.lost(name_of(series.key), f"the log's clock went back by {ahead_ms} ms")

    def _may_borrow(self, series: Series) -> None:
        """A new version's detectors begin from nothing, but with the scale of the version that answered until now."""
        before = self.live.latest(series.key)
        elder = self.live.get(before)
        # One that begins in this very window has nothing to lend.
        if series.key.model and elder is not None and any(one.learnt for one in elder.metrics.values()):
            series.after = before
            for watched in series.metrics.values():
                watched.first = [] if watched.row >= 0 else None

    def _look_at_absent(
        self,
        series: Series,
        window: WindowId,
        found: Mapping[str, SeriesWindow],
        complete: bool,
        effects: WindowEffects,
    ) -> None:
        self._follow_back(series, window, effects)
        if window.end_ms <= series.last_ms:
            return
        if not self.owns(series.key):
            self._rest(series, window, "is judged in another partition now", effects)
            return
        if complete and window.end_ms - series.last_ms > self.idle_ms:
            self._rest(series, window, "has had no requests for long", effects)
            return
        heir = self.live.latest(series.key)
        if complete and heir in found and self._follows(found[heir], series, window):
            self._rest(series, window, f"was followed by version {found[heir].key.version}", effects)
            return
        for metric in self.scoring.metrics:
            value, watched = metric.absent_is if complete else None, series.metrics[metric.name]
            if value is not None or watched.incident.is_open:
                self.live.mark(series)
                self._looks.append(Look(series.key, watched, metric, value, None))

    def _follows(self, heir: SeriesWindow, series: Series, window: WindowId) -> bool:
        """Whether a silent version has no more to answer, because another does: a deployment, no fault.

        Of one whose requests moved nothing is expected any more. Where they did not, and its silence is outside its
        band, it is no matter how much others answer: they did so before.
        """
        rate, watched = heir.values.get(RATE), series.metrics.get(RATE)
        judgement = None if watched is None else watched.trigger.judge(0.0, window.end_ms)
        if rate is None or judgement is None:
            return True  # what is usual for it is not known: nothing says that this is a fault
        return judgement.lower <= 0.0 and rate >= FOUND_SHARE * judgement.expected

    def _rest(self, series: Series, window: WindowId, how: str, effects: WindowEffects) -> None:
        self._score_looks(window, effects)
        self._resolve_all(series, window.end_ms, how, effects)
        series.at_rest = True
        del self.live.active[name_of(series.key)]
        self.live.mark(series)

    def _score_looks(self, window: WindowId, effects: WindowEffects) -> None:
        """Score what is waiting, before anything is said or done that comes after it."""
        looks, self._looks = self._looks, []
        if looks:
            self.scoring.score(looks, window, effects)

    def _tell_renewed(self, window: WindowId, effects: WindowEffects) -> None:
        renewed, self.live.states.renewed = self.live.states.renewed, None
        if renewed is None:
            return
        bank = self.scoring.bank
        effects.limit(Limit.DETECTOR_STATES, max(1, renewed.count))
        effects.renewed(
            DetectorsRenewed(
                partition=self.partition,
                at_ms=window.end_ms,
                detector=bank.name,
                config_digest=bank.digest,
                reason=renewed.reason,
                count=renewed.count,
                series=renewed.series,
            )
        )

    def _resolve_all(self, series: Series, at_ms: int, how: str, effects: WindowEffects) -> None:
        for metric in self.scoring.metrics:
            incident = series.metrics[metric.name].incident
            if incident.is_open:
                change: AlertChanged = resolve(incident, metric.alert, series.key, at_ms, 0.0, how)
                effects.alert(change)
