"""One series of stage 2, and its state as an entry: exact, whether it is in a page of live series or parked."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Any

import orjson

from schemas.windows import SeriesKey
from stream_jobs import packing
from stream_jobs.attribution.regression import LatencyRegression
from stream_jobs.decide import IncidentState
from stream_jobs.entry_pages import Entry, is_of_entries, packed_entry, unpacked_entry
from stream_jobs.renewed import BROKEN, Renewed
from stream_jobs.series_scoring import SeriesScoring, Watched
from stream_jobs.trigger_states import TriggerStates

_COUNTS, _LATENCY = "counts", "latency"
"""Columns of the entries' numbers; in those named as a scored metric is what the detector learnt of it."""


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
        self._triggers = TriggerStates(scoring.metrics)
        self.columns = {_COUNTS: 1, _LATENCY: 1, **{metric.name: 8 for metric in scoring.metrics if metric.scored}}
        """Of the entries' numbers: as `pack_entries` takes them."""
        self.renewed: Renewed | None = None
        """Detectors and triggers of the series made so far whose state was broken, or of another detector."""

    def entry(self, series: Series) -> Entry:
        """The state of a series."""
        metrics, bank = series.metrics, self.scoring.bank
        scored = {name: one for name, one in metrics.items() if one.row >= 0}
        triggers, counts = self._triggers.parted({name: one.trigger for name, one in metrics.items()})
        plain = {
            "key": series.key.model_dump(),
            "place": series.place,
            "last_ms": series.last_ms,
            "at_rest": series.at_rest,
            "serial": series.serial,
            **_first_of(series),
            "detectors": triggers,
            "digest": bank.digest,
            "scores": {name: one.learnt for name, one in scored.items()},
            "incidents": {name: one.incident.state() for name, one in metrics.items() if not one.incident.is_blank},
        }
        numbers = {_COUNTS: counts, _LATENCY: series.latency.state()}
        return Entry(plain, numbers | {name: bank.numbers(one.row) for name, one in scored.items()})

    def series(self, entry: Entry) -> Series:
        """The inverse of `entry`. Raises ValueError, KeyError or TypeError when it is broken.

        A part of it that is broken, or of another detector, costs that part alone: see `renewed`.
        """
        plain = entry.plain
        key = SeriesKey.model_validate(plain["key"])
        watched = self.scoring.watched()
        series = Series(key, plain["place"], plain["last_ms"], watched, plain["at_rest"], plain["serial"])
        try:
            self._fill(series, entry)
        except BaseException:
            self.scoring.drop(watched.values())
            raise
        return series

    def packed(self, series: Series) -> bytes:
        """The entry in as few bytes as is cheap."""
        return packed_entry(self.entry(series), self.columns)

    def unpacked(self, packed: bytes) -> Series:
        """The inverse of `packed`. Raises ValueError, KeyError or TypeError when it is broken."""
        if is_of_entries(packed):
            return self.series(unpacked_entry(packed))
        return self.series(Entry(orjson.loads(packing.unpacked(packed))))  # of an earlier version

    def _fill(self, series: Series, entry: Entry) -> None:
        plain = entry.plain
        numbers = (series.place, series.last_ms, series.serial)
        if any(type(number) is not int or number < 0 for number in numbers) or type(series.at_rest) is not bool:
            raise ValueError(f"series {series.key}: place, last_ms, serial or at_rest is broken")
        series.after = str(plain.get("after", ""))
        for name, first in plain.get("first", {}).items():
            if name in series.metrics:
                series.metrics[name].first = [(int(end_ms), float(value)) for end_ms, value in first]
        self._restore_latency(series, entry)
        triggers = self._joined_triggers(series.key, entry)
        for name, watched in series.metrics.items():
            self._restore_trigger(series.key, name, watched, triggers)
            self._restore_incident(series.key, name, watched, plain)
            if watched.row >= 0:
                try:
                    self._restore_scores(name, watched, entry)
                except (ValueError, TypeError) as error:
                    self._broken(series.key, f"{name} of {series.key}: {error}")

    def _restore_scores(self, name: str, watched: Watched, entry: Entry) -> None:
        scores, bank = entry.plain.get("scores"), self.scoring.bank
        if not isinstance(scores, dict):
            raise ValueError("no state: it is of an earlier version")
        learnt, record = scores.get(name, 0), None
        if isinstance(learnt, list):  # of an earlier version, with a record that says whose it is
            learnt, record = learnt
        if type(learnt) is not int or learnt < 0:
            raise ValueError("not a count of windows learnt")
        if record is not None:
            bank.restore(watched.row, base64.b64decode(record, validate=True))
        elif entry.plain.get("digest") != bank.digest:
            raise ValueError("the state belongs to another detector, version or configuration")
        else:
            bank.take_numbers(watched.row, entry.numbers.get(name, b""))
        watched.learnt = learnt

    def _restore_latency(self, series: Series, entry: Entry) -> None:
        try:
            if _LATENCY in entry.numbers:
                series.latency.restore(entry.numbers[_LATENCY])
            elif _LATENCY in entry.plain:  # of an earlier version; one before that has none
                series.latency.restore(base64.b64decode(entry.plain[_LATENCY], validate=True))
        except BROKEN as error:
            series.latency = LatencyRegression()
            self._broken(series.key, f"causes of latency of {series.key}: {error}")

    def _joined_triggers(self, key: SeriesKey, entry: Entry) -> dict[str, Any]:
        try:
            return self._triggers.joined(entry.plain["detectors"], entry.numbers.get(_COUNTS, b""))
        except BROKEN as error:  # the counts are of all of them
            self._broken(key, f"triggers of {key}: {error}", len(self.scoring.metrics))
            return {}

    def _restore_trigger(self, key: SeriesKey, name: str, watched: Watched, triggers: dict[str, Any]) -> None:
        try:
            if name in triggers:
                watched.trigger.restore(triggers[name])
        except BROKEN as error:
            watched.trigger = self.scoring.trigger(name)
            self._broken(key, f"trigger {name} of {key}: {error}")

    def _restore_incident(self, key: SeriesKey, name: str, watched: Watched, plain: Any) -> None:
        try:
            incident = plain["incidents"].get(name)
            watched.incident = IncidentState() if incident is None else IncidentState.restored(incident)
        except BROKEN as error:
            watched.incident = IncidentState()
            self._broken(key, f"incident of {name} of {key}: {error}")

    def lost(self, name: str, reason: str) -> None:
        """All detectors of a series begin from nothing, because its entry is broken. `name`: see `name_of`."""
        scenario, model, version = name.split("\x1f")[:3]
        self._lost(SeriesKey(scenario=scenario, model=model, version=version), reason)

    def lost_entry(self, entry: Entry, reason: str) -> None:
        """So do those of the series of this entry, which may not even say which it is."""
        try:
            key = SeriesKey.model_validate(entry.plain["key"])
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
