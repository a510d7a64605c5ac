"""What stage 2 knows of each series: trigger, detector and incident per metric, scored window by window.

Owns the bound on series and their places in the state pages. Does not know where windows come from.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.alerts import AlertChanged
from schemas.anomalies import DetectorsRenewed
from schemas.windows import SeriesKey
from stream_jobs.attribution.regression import LatencyCauses, LatencyRegression, explain_together
from stream_jobs.decide import IncidentState, resolve
from stream_jobs.pages import ENTRIES_PER_GROUP
from stream_jobs.series_scoring import Look, SeriesScoring, Watched
from stream_jobs.stage import Limit
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import RATE, SeriesWindow, WindowId, name_of

FOLLOWING_SHARE = 0.5
"""Another version must answer so much of what a silent one used to: a canary's share alone hides no fault."""
RENEWED_NAMED = 20
"""Series that an event of detectors that learn anew names."""


@dataclass(slots=True)
class Series:
    """One series. `last_ms` is the end of the last window that held requests of it."""

    key: SeriesKey
    place: int
    last_ms: int
    metrics: dict[str, Watched]
    at_rest: bool = False
    serial: int = 0
    """Rises with every window that holds it: who was longest without."""
    latency: LatencyRegression = field(default_factory=LatencyRegression)
    after: str = ""
    """The series of the version before, while there is something to borrow of it."""


@dataclass(slots=True)
class Renewed:
    """Detectors whose state could not be taken over, until it is said."""

    reason: str
    count: int
    series: list[SeriesKey]


class SeriesBook:
    """Series by name, the one longest without requests first. Above `series_max` that one is forgotten."""

    def __init__(self, scoring: SeriesScoring, series_max: int, idle_ms: int, partition: int = 0) -> None:
        self.scoring, self.series_max, self.idle_ms, self.partition = scoring, series_max, idle_ms, partition
        self._series: dict[str, Series] = {}
        self._active: dict[str, Series] = {}
        self._places: dict[int, str] = {}
        self._free: list[int] = []
        self._serial = 0
        self._latest: dict[tuple[str, str], str] = {}
        """The series that was touched last, by scenario and model."""
        self._looks: list[Look] = []
        """What the window shows that is scored just now, and was not yet."""
        self.renewed: Renewed | None = None
        self.changed: set[int] = set()
        """Page groups changed since the owner last looked."""

    def __len__(self) -> int:
        return len(self._series)

    def score(
        self, window: WindowId, found: Mapping[str, SeriesWindow], complete: bool, effects: WindowEffects
    ) -> None:
        """Score a closed window: the series it holds, by name, then those that it should hold.

        In a window that is not complete nothing is said of what is missing: it may still come.
        """
        self._tell_renewed(window, effects)
        while len(self._series) > self.series_max:  # restored when more were allowed
            self._forget(next(iter(self._series)), window, effects)
        causes = self._causes(window, found)
        for name in sorted(found):
            series = self._touched(name, found[name].key, window, effects)
            if name not in causes:
                series.latency.explain_then_learn(found[name].latency, window.end_ms)
            one = found[name].explained(causes.get(name))
            effects.causes(window, one)
            for metric in self.scoring.metrics:
                value = metric.value_of(one) if complete or metric.absent_is is None else None
                watched, elder = series.metrics[metric.name], None
                if watched.first is not None and series.after in self._series:
                    elder = self._series[series.after].metrics[metric.name]
                self._looks.append(Look(series.key, watched, metric, value, one, elder))
        for name in sorted(self._active.keys() - found.keys()):
            self._look_at_absent(self._active[name], window, found, complete, effects)
        self._score_looks(window, effects)

    def series(self, name: str) -> Series:
        """One series, by `name_of` its key. Raises KeyError when it is not known."""
        return self._series[name]

    def groups(self) -> list[int]:
        """Numbers of all page groups."""
        return sorted({place // ENTRIES_PER_GROUP for place in self._places})

    def entries(self, group: int) -> list[dict[str, Any]]:
        """The state of a group's series; none when the group is empty."""
        places = range(group * ENTRIES_PER_GROUP, (group + 1) * ENTRIES_PER_GROUP)
        return [self._entry(self._series[self._places[place]]) for place in places if place in self._places]

    def restore(self, entries: Iterable[Any]) -> None:
        """Take over the entries of all groups. Raises ValueError when one is broken.

        A detector's state that is broken, or of another detector, costs that detector alone: see `renewed`.
        """
        taken = sorted((self._from_entry(entry) for entry in entries), key=lambda one: one.serial)
        self._serial = max((series.serial for series in taken), default=0)
        for series in taken:
            name = name_of(series.key)
            if name in self._series or series.place in self._places:
                raise ValueError(f"series {name!r} or its place {series.place} is there twice")
            self._series[name] = series
            self._places[series.place] = name
            self._latest[series.key.scenario, series.key.model] = name
            if not series.at_rest:
                self._active[name] = series
        self._free = sorted(set(range(max(self._places, default=-1) + 1)) - set(self._places), reverse=True)

    def _causes(self, window: WindowId, found: Mapping[str, SeriesWindow]) -> dict[str, LatencyCauses | None]:
        """Why the series that are known are slow, or not; learnt, too."""
        names = [name for name in sorted(found) if name in self._series]
        known = [self._series[name].latency for name in names]
        told = explain_together(known, window.end_ms, [found[name].latency for name in names])
        return dict(zip(names, told, strict=True))

    def _touched(self, name: str, key: SeriesKey, window: WindowId, effects: WindowEffects) -> Series:
        series, end_ms = self._series.pop(name, None), window.end_ms
        if series is None:
            if len(self._series) >= self.series_max:
                self._forget(next(iter(self._series)), window, effects)
            place = self._free.pop() if self._free else len(self._places)
            series = Series(key, place, end_ms, self.scoring.watched())
            self._places[series.place] = name
            self._may_borrow(series)
        self._series[name] = self._active[name] = series
        self._latest[key.scenario, key.model] = name
        self._serial += 1
        series.serial, series.last_ms, series.at_rest = self._serial, max(series.last_ms, end_ms), False
        self._mark(series)
        return series

    def _may_borrow(self, series: Series) -> None:
        """A new version's detectors begin from nothing, but with the scale of the version that answered until now."""
        before = self._latest.get((series.key.scenario, series.key.model), "")
        elder = self._series.get(before)
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
        if window.end_ms <= series.last_ms:
            return
        if complete and window.end_ms - series.last_ms > self.idle_ms:
            self._rest(series, window, "has had no requests for long", effects)
            return
        heir = self._latest.get((series.key.scenario, series.key.model), "")
        if complete and heir in found and self._follows(found[heir], series, window):
            self._rest(series, window, f"was followed by version {found[heir].key.version}", effects)
            return
        for metric in self.scoring.metrics:
            value, watched = metric.absent_is if complete else None, series.metrics[metric.name]
            if value is not None or watched.incident.is_open:
                self._mark(series)
                self._looks.append(Look(series.key, watched, metric, value, None))

    def _follows(self, heir: SeriesWindow, series: Series, window: WindowId) -> bool:
        """Whether another version answers what a silent one used to: then its silence is a deployment, no fault."""
        rate, watched = heir.values.get(RATE), series.metrics.get(RATE)
        judgement = None if watched is None else watched.trigger.judge(0.0, window.end_ms)
        if rate is None or judgement is None:
            return True  # what is usual for it is not known: nothing says that this is a fault
        return rate >= FOLLOWING_SHARE * judgement.expected

    def _rest(self, series: Series, window: WindowId, how: str, effects: WindowEffects) -> None:
        self._score_looks(window, effects)
        self._resolve_all(series, window.end_ms, how, effects)
        series.at_rest = True
        del self._active[name_of(series.key)]
        self._mark(series)

    def _score_looks(self, window: WindowId, effects: WindowEffects) -> None:
        """Score what is waiting, before anything is said or done that comes after it."""
        looks, self._looks = self._looks, []
        if looks:
            self.scoring.score(looks, window, effects)

    def _tell_renewed(self, window: WindowId, effects: WindowEffects) -> None:
        if self.renewed is None:
            return
        bank = self.scoring.bank
        effects.limit(Limit.DETECTOR_STATES, self.renewed.count)
        effects.renewed(
            DetectorsRenewed(
                partition=self.partition,
                at_ms=window.end_ms,
                detector=bank.name,
                config_digest=bank.digest,
                reason=self.renewed.reason,
                count=self.renewed.count,
                series=self.renewed.series,
            )
        )
        self.renewed = None

    def _forget(self, name: str, window: WindowId, effects: WindowEffects) -> None:
        self._score_looks(window, effects)
        effects.limit(Limit.KNOWN_SERIES, 1)
        series = self._series.pop(name)
        self._active.pop(name, None)
        self._resolve_all(series, window.end_ms, "is forgotten: too many series", effects)
        self.scoring.drop(series.metrics.values())
        if self._latest.get((series.key.scenario, series.key.model)) == name:
            del self._latest[series.key.scenario, series.key.model]
        del self._places[series.place]
        self._free.append(series.place)
        self._free.sort(reverse=True)
        self._mark(series)

    def _resolve_all(self, series: Series, at_ms: int, how: str, effects: WindowEffects) -> None:
        for metric in self.scoring.metrics:
            incident = series.metrics[metric.name].incident
            if incident.is_open:
                change: AlertChanged = resolve(incident, metric.alert, series.key, at_ms, 0.0, how)
                effects.alert(change)

    def _mark(self, series: Series) -> None:
        self.changed.add(series.place // ENTRIES_PER_GROUP)

    def _from_entry(self, entry: Any) -> Series:
        key = SeriesKey.model_validate(entry["key"])
        series = Series(
            key, entry["place"], entry["last_ms"], self.scoring.watched(), entry["at_rest"], entry["serial"]
        )
        numbers = (series.place, series.last_ms, series.serial)
        if any(type(number) is not int or number < 0 for number in numbers) or type(series.at_rest) is not bool:
            raise ValueError(f"series {key}: place, last_ms, serial or at_rest is broken")
        series.after = str(entry.get("after", ""))
        for name, first in entry.get("first", {}).items():
            if name in series.metrics:
                series.metrics[name].first = [(int(end_ms), float(value)) for end_ms, value in first]
        if "latency" in entry:  # a state of before has none
            series.latency.restore(entry["latency"])
        for name, watched in series.metrics.items():
            if name in entry["detectors"]:
                watched.trigger.restore(entry["detectors"][name])
            incident = entry["incidents"].get(name)
            watched.incident = IncidentState() if incident is None else IncidentState.restored(incident)
            if watched.row >= 0:
                self._restore_scores(key, name, watched, entry.get("scores"))
        return series

    def _restore_scores(self, key: SeriesKey, name: str, watched: Watched, scores: Any) -> None:
        try:
            if not isinstance(scores, dict):
                raise ValueError("no state: it is of an earlier version")
            learnt, state = scores.get(name, (0, ""))
            if type(learnt) is not int or learnt < 0 or type(state) is not str:
                raise ValueError("not a count and a state")
            self.scoring.bank.restore(watched.row, base64.b64decode(state, validate=True))
            watched.learnt = learnt
        except (ValueError, TypeError) as error:
            reason = f"{name} of {key}: {error}"[:1_000]
            self.renewed = self.renewed or Renewed(reason, 0, [])
            self.renewed.count += 1
            if key not in self.renewed.series and len(self.renewed.series) < RENEWED_NAMED:
                self.renewed.series.append(key)

    def _entry(self, series: Series) -> dict[str, Any]:
        metrics, bank = series.metrics, self.scoring.bank
        return {
            "key": series.key.model_dump(),
            "place": series.place,
            "last_ms": series.last_ms,
            "at_rest": series.at_rest,
            "serial": series.serial,
            "latency": series.latency.state(),
            **_first_of(series),
            "detectors": {name: one.trigger.state() for name, one in metrics.items()},
            "scores": {
                name: [one.learnt, base64.b64encode(bank.state(one.row)).decode()]
                for name, one in metrics.items()
                if one.row >= 0
            },
            "incidents": {name: one.incident.state() for name, one in metrics.items() if not one.incident.is_blank},
        }


def _first_of(series: Series) -> dict[str, Any]:
    """The first values of a new version, while they are collected."""
    first = {name: watched.first for name, watched in series.metrics.items() if watched.first is not None}
    return {"after": series.after, "first": first} if first else {}
