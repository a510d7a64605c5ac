"""One series of stage 2, and its state as plain values: exact, whether it is in a page of live series or parked."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas.windows import SeriesKey
from stream_jobs import packing
from stream_jobs.attribution.regression import LatencyRegression
from stream_jobs.decide import IncidentState
from stream_jobs.renewed import BROKEN, Renewed
from stream_jobs.series_scoring import SeriesScoring, Watched


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


class SeriesStates:
    """Makes entries of series and series of entries."""

    def __init__(self, scoring: SeriesScoring) -> None:
        self.scoring = scoring
        fresh = {metric.name: metric.policy.detector().state() for metric in scoring.metrics}
        self._names = {name: tuple(state) for name, state in fresh.items() if isinstance(state, dict)}
        """Of triggers whose state has names: the values alone, in this order, are a third of it."""
        self.renewed: Renewed | None = None
        """Detectors and triggers of the series made so far whose state was broken, or of another detector."""

    def entry(self, series: Series) -> dict[str, Any]:
        """The state of a series; JSON keeps it exact."""
        metrics, bank = series.metrics, self.scoring.bank
        return {
            "key": series.key.model_dump(),
            "place": series.place,
            "last_ms": series.last_ms,
            "at_rest": series.at_rest,
            "serial": series.serial,
            "latency": series.latency.state(),
            **_first_of(series),
            "detectors": {name: self._bare(name, one.trigger.state()) for name, one in metrics.items()},
            "scores": {
                name: [one.learnt, base64.b64encode(bank.state(one.row)).decode()]
                for name, one in metrics.items()
                if one.row >= 0
            },
            "incidents": {name: one.incident.state() for name, one in metrics.items() if not one.incident.is_blank},
        }

    def series(self, entry: Any) -> Series:
        """The inverse of `entry`. Raises ValueError, KeyError or TypeError when it is broken.

        A part of it that is broken, or of another detector, costs that part alone: see `renewed`.
        """
        key = SeriesKey.model_validate(entry["key"])
        watched = self.scoring.watched()
        series = Series(key, entry["place"], entry["last_ms"], watched, entry["at_rest"], entry["serial"])
        try:
            self._fill(series, entry)
        except BaseException:
            self.scoring.drop(watched.values())
            raise
        return series

    def packed(self, series: Series) -> bytes:
        """The entry in as few bytes as is cheap."""
        return packing.packed(orjson.dumps(self.entry(series)))

    def unpacked(self, packed: bytes) -> Series:
        """The inverse of `packed`. Raises ValueError, KeyError or TypeError when it is broken."""
        return self.series(orjson.loads(packing.unpacked(packed)))

    def _fill(self, series: Series, entry: Any) -> None:
        numbers = (series.place, series.last_ms, series.serial)
        if any(type(number) is not int or number < 0 for number in numbers) or type(series.at_rest) is not bool:
            raise ValueError(f"series {series.key}: place, last_ms, serial or at_rest is broken")
        series.after = str(entry.get("after", ""))
        for name, first in entry.get("first", {}).items():
            if name in series.metrics:
                series.metrics[name].first = [(int(end_ms), float(value)) for end_ms, value in first]
        if "latency" in entry:  # a state of before has none
            self._restore_latency(series, entry["latency"])
        for name, watched in series.metrics.items():
            self._restore_trigger(series.key, name, watched, entry)
            if watched.row >= 0:
                self._restore_scores(series.key, name, watched, entry.get("scores"))

    def _bare(self, name: str, state: Any) -> Any:
        return [state[one] for one in self._names[name]] if name in self._names else state

    def _named(self, name: str, state: Any) -> Any:
        if name not in self._names or isinstance(state, dict):  # of an earlier version
            return state
        return dict(zip(self._names[name], state, strict=True))

    def _restore_latency(self, series: Series, state: Any) -> None:
        try:
            series.latency.restore(state)
        except BROKEN as error:
            series.latency = LatencyRegression()
            self._broken(series.key, f"causes of latency of {series.key}: {error}")

    def _restore_trigger(self, key: SeriesKey, name: str, watched: Watched, entry: Any) -> None:
        try:
            if name in entry["detectors"]:
                watched.trigger.restore(self._named(name, entry["detectors"][name]))
        except BROKEN as error:
            watched.trigger = self.scoring.trigger(name)
            self._broken(key, f"trigger {name} of {key}: {error}")
        try:
            incident = entry["incidents"].get(name)
            watched.incident = IncidentState() if incident is None else IncidentState.restored(incident)
        except BROKEN as error:
            watched.incident = IncidentState()
            self._broken(key, f"incident of {name} of {key}: {error}")

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
            self._broken(key, f"{name} of {key}: {error}")

    def lost(self, name: str, reason: str) -> None:
        """All detectors of a series begin from nothing, because its entry is broken. `name`: see `name_of`."""
        scenario, model, version = name.split("\x1f")[:3]
        self._lost(SeriesKey(scenario=scenario, model=model, version=version), reason)

    def lost_entry(self, entry: Any, reason: str) -> None:
        """So do those of the series of this entry, which may not even say which it is."""
        try:
            key = SeriesKey.model_validate(entry["key"])
        except BROKEN:
            key = None
        self._lost(key, reason)

    def _lost(self, key: SeriesKey | None, reason: str) -> None:
        self._broken(key, f"{key or 'a series'}: {reason}", sum(metric.scored for metric in self.scoring.metrics))

    def _broken(self, key: SeriesKey | None, reason: str, count: int = 1) -> None:
        self.renewed = self.renewed or Renewed(reason)
        self.renewed.add(key, count)


def _first_of(series: Series) -> dict[str, Any]:
    """The first values of a new version, while they are collected."""
    first = {name: watched.first for name, watched in series.metrics.items() if watched.first is not None}
    return {"after": series.after, "first": first} if first else {}
