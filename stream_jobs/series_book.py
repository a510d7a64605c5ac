"""What stage 2 knows of each series: a detector and an incident per metric, scored window by window.

Owns the bound on series and their places in the state pages. Does not know where windows come from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.alerts import AlertChanged
from schemas.anomalies import AnomalyDetected, Score
from schemas.windows import SeriesKey
from stream_jobs.attribution.regression import LatencyCauses, LatencyRegression, explain_together
from stream_jobs.attribution.sentence import contributors, effects, sentence
from stream_jobs.decide import IncidentState, Observation, observe, resolve, unjudged
from stream_jobs.detectors.forecast_residual import Judgement
from stream_jobs.pages import ENTRIES_PER_GROUP
from stream_jobs.scored_metric import Detector, Metric, Value, actual_of, contributors_of, effects_of, is_nothing
from stream_jobs.stage import Limit
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import SeriesWindow, WindowId, name_of


@dataclass(slots=True)
class Series:
    """One series. `last_ms` is the end of the last window that held requests of it."""

    key: SeriesKey
    place: int
    last_ms: int
    detectors: dict[str, Detector]
    incidents: dict[str, IncidentState]
    at_rest: bool = False
    serial: int = 0
    """Rises with every window that holds it: who was longest without."""
    latency: LatencyRegression = field(default_factory=LatencyRegression)


class SeriesBook:
    """Series by name, the one longest without requests first. Above `series_max` that one is forgotten."""

    def __init__(self, metrics: Iterable[Metric], series_max: int, idle_ms: int) -> None:
        self.metrics, self.series_max, self.idle_ms = tuple(metrics), series_max, idle_ms
        self._digests = {metric.name: metric.policy.digest() for metric in self.metrics}
        self._series: dict[str, Series] = {}
        self._active: dict[str, Series] = {}
        self._places: dict[int, str] = {}
        self._free: list[int] = []
        self._serial = 0
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
        while len(self._series) > self.series_max:  # restored when more were allowed
            self._forget(next(iter(self._series)), window.end_ms, effects)
        causes = self._causes(window, found)
        for name in sorted(found):
            series = self._touched(name, found[name].key, window.end_ms, effects)
            if name not in causes:
                series.latency.explain_then_learn(found[name].latency, window.end_ms)
            one = found[name].explained(causes.get(name))
            effects.causes(window, one)
            for metric in self.metrics:
                value = metric.value_of(one) if complete or metric.absent_is is None else None
                self._score(series, metric, value, window, one, effects)
        for name in sorted(self._active.keys() - found.keys()):
            self._score_absent(self._active[name], window, complete, effects)

    def series(self, name: str) -> Series:
        """One series, by `name_of` its key. Raises KeyError when it is not known."""
        return self._series[name]

    def groups(self) -> list[int]:
        """Numbers of all page groups."""
        return sorted({place // ENTRIES_PER_GROUP for place in self._places})

    def entries(self, group: int) -> list[dict[str, Any]]:
        """The state of a group's series; none when the group is empty."""
        places = range(group * ENTRIES_PER_GROUP, (group + 1) * ENTRIES_PER_GROUP)
        return [_entry(self._series[self._places[place]]) for place in places if place in self._places]

    def restore(self, entries: Iterable[Any]) -> None:
        """Take over the entries of all groups. Raises ValueError when one is broken."""
        taken = sorted((self._from_entry(entry) for entry in entries), key=lambda one: one.serial)
        self._serial = max((series.serial for series in taken), default=0)
        for series in taken:
            name = name_of(series.key)
            if name in self._series or series.place in self._places:
                raise ValueError(f"series {name!r} or its place {series.place} is there twice")
            self._series[name] = series
            self._places[series.place] = name
            if not series.at_rest:
                self._active[name] = series
        self._free = sorted(set(range(max(self._places, default=-1) + 1)) - set(self._places), reverse=True)

    def _causes(self, window: WindowId, found: Mapping[str, SeriesWindow]) -> dict[str, LatencyCauses | None]:
        """Why the series that are known are slow, or not; learnt, too."""
        names = [name for name in sorted(found) if name in self._series]
        known = [self._series[name].latency for name in names]
        told = explain_together(known, window.end_ms, [found[name].latency for name in names])
        return dict(zip(names, told, strict=True))

    def _touched(self, name: str, key: SeriesKey, end_ms: int, effects: WindowEffects) -> Series:
        series = self._series.pop(name, None)
        if series is None:
            if len(self._series) >= self.series_max:
                self._forget(next(iter(self._series)), end_ms, effects)
            series = Series(key, self._free.pop() if self._free else len(self._places), end_ms, {}, {})
            for metric in self.metrics:
                series.detectors[metric.name] = metric.policy.detector()
                series.incidents[metric.name] = IncidentState()
            self._places[series.place] = name
        self._series[name] = self._active[name] = series
        self._serial += 1
        series.serial, series.last_ms, series.at_rest = self._serial, max(series.last_ms, end_ms), False
        self._mark(series)
        return series

    def _score_absent(self, series: Series, window: WindowId, complete: bool, effects: WindowEffects) -> None:
        if window.end_ms <= series.last_ms:
            return
        if complete and window.end_ms - series.last_ms > self.idle_ms:
            self._resolve_all(series, window.end_ms, "has had no requests for long", effects)
            series.at_rest = True
            del self._active[name_of(series.key)]
            self._mark(series)
            return
        for metric in self.metrics:
            self._score(series, metric, metric.absent_is if complete else None, window, None, effects)

    def _score(
        self,
        series: Series,
        metric: Metric,
        value: Value | None,
        window: WindowId,
        found: SeriesWindow | None,
        effects: WindowEffects,
    ) -> None:
        detector, incident = series.detectors[metric.name], series.incidents[metric.name]
        if metric.is_rare and incident.is_calm and is_nothing(value):
            # What usually does not happen, and did not, is no news: nearly every window of nearly every series.
            self._mark(series)
            detector.learn(value, window.end_ms)
            return
        judgement = detector.judge(value, window.end_ms)
        if value is None or judgement is None:
            if value is not None:
                detector.learn(value, window.end_ms)
            self._unjudged(series, metric, window, effects)
            return
        self._mark(series)
        actual, anomaly_id = actual_of(judgement, value), ""
        if judgement.anomalous:
            anomaly_id = _anomaly_id(window, series.key, metric.name)
        confirmed = metric.confirmed(found, judgement.expected, judgement.upper)
        causes = found.causes if found is not None and metric.is_latency else None
        seen = Observation(
            *(series.key, window.start_ms, window.end_ms, actual, judgement, anomaly_id, confirmed),
            cause=sentence(causes),
        )
        change = observe(incident, metric.alert, seen)
        digest = self._digests[metric.name]
        if judgement.anomalous:
            event = _anomaly(seen, metric, incident.run_onset_ms, digest, found, causes)
            effects.anomaly(window, event, detector.state())
        if change is not None:
            effects.alert(change)
        effects.score(window, seen, metric.name, metric.policy.name, digest)
        detector.learn(value, window.end_ms)

    def _unjudged(self, series: Series, metric: Metric, window: WindowId, effects: WindowEffects) -> None:
        incident = series.incidents[metric.name]
        if incident.is_open:
            self._mark(series)
            change = unjudged(incident, metric.alert, series.key, window.start_ms, window.end_ms)
            if change is not None:
                effects.alert(change)

    def _forget(self, name: str, at_ms: int, effects: WindowEffects) -> None:
        effects.limit(Limit.KNOWN_SERIES, 1)
        series = self._series.pop(name)
        self._active.pop(name, None)
        self._resolve_all(series, at_ms, "is forgotten: too many series", effects)
        del self._places[series.place]
        self._free.append(series.place)
        self._free.sort(reverse=True)
        self._mark(series)

    def _resolve_all(self, series: Series, at_ms: int, how: str, effects: WindowEffects) -> None:
        for metric in self.metrics:
            incident = series.incidents[metric.name]
            if incident.is_open:
                change: AlertChanged = resolve(incident, metric.alert, series.key, at_ms, 0.0, how)
                effects.alert(change)

    def _mark(self, series: Series) -> None:
        self.changed.add(series.place // ENTRIES_PER_GROUP)

    def _from_entry(self, entry: Any) -> Series:
        key = SeriesKey.model_validate(entry["key"])
        series = Series(key, entry["place"], entry["last_ms"], {}, {}, entry["at_rest"], entry["serial"])
        numbers = (series.place, series.last_ms, series.serial)
        if any(type(number) is not int or number < 0 for number in numbers) or type(series.at_rest) is not bool:
            raise ValueError(f"series {key}: place, last_ms, serial or at_rest is broken")
        if "latency" in entry:  # a state of before has none
            series.latency.restore(entry["latency"])
        for metric in self.metrics:
            detector = series.detectors[metric.name] = metric.policy.detector()
            if metric.name in entry["detectors"]:
                detector.restore(entry["detectors"][metric.name])
            incident = entry["incidents"].get(metric.name)
            series.incidents[metric.name] = IncidentState() if incident is None else IncidentState.restored(incident)
        return series


def _entry(series: Series) -> dict[str, Any]:
    return {
        "key": series.key.model_dump(),
        "place": series.place,
        "last_ms": series.last_ms,
        "at_rest": series.at_rest,
        "serial": series.serial,
        "latency": series.latency.state(),
        "detectors": {name: detector.state() for name, detector in series.detectors.items()},
        "incidents": {name: one.state() for name, one in series.incidents.items() if not one.is_blank},
    }


def _anomaly_id(window: WindowId, key: SeriesKey, metric: str) -> str:
    text = "\x1f".join((window.topic_id, name_of(key), metric, str(window.start_ms), str(window.end_ms)))
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def _anomaly(
    seen: Observation,
    metric: Metric,
    onset_ms: int,
    digest: str,
    found: SeriesWindow | None,
    causes: LatencyCauses | None,
) -> AnomalyDetected:
    return AnomalyDetected.model_construct(
        anomaly_id=seen.anomaly_id,
        kind=metric.alert.kind,
        series=seen.series,
        metric=metric.name,
        window_start_ms=seen.window_start_ms,
        window_end_ms=seen.window_end_ms,
        onset_ms=onset_ms,
        score=_score_of(seen.judgement, seen.actual, metric.policy.name, digest),
        contributors=contributors(causes) or contributors_of(seen.judgement, metric.name),
        effects=effects(causes) or effects_of(seen.judgement),
        inputs=list(found.inputs) if found is not None else [],
        state_digest="",
    )


def _score_of(judgement: Judgement, actual: float, detector: str, digest: str) -> Score:
    return Score.model_construct(
        score=judgement.score,
        confidence=judgement.confidence,
        actual=actual,
        expected=judgement.expected,
        lower=judgement.lower,
        upper=judgement.upper,
        detector=detector,
        config_digest=digest,
    )
