"""Recomputes one anomaly with the job's own code, from what is stored with it. Pure; says why when it cannot."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from schemas.alerts import ALERT_KINDS, PIPELINE, AlertChanged
from schemas.anomalies import AnomalyKind, InputRange
from schemas.base import decode
from schemas.tables import ANOMALIES
from schemas.topics import ALERTS as ALERTS_TOPIC
from schemas.windows import SeriesKey
from stream_jobs.alert_budget import AlertBudget
from stream_jobs.anomaly_basis import SCORING_FORMAT, ScoredInput, configured, input_of
from stream_jobs.decide import IncidentState
from stream_jobs.detector_bank import bank_named
from stream_jobs.metrics import metrics_of
from stream_jobs.scored_metric import Metric, Value
from stream_jobs.series_scoring import Look, SeriesScoring, Watched
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Effects
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import SeriesWindow, WindowId

OF_THE_LEDGER = {AnomalyKind.STALL.value, AnomalyKind.LAG.value}
BUDGET_UNBOUNDED = 1_000_000
"""Whether the budget let an incident open depends on all that came before, and is not recomputed: it is granted."""


class NotReproducible(Exception):
    """It cannot be recomputed; the text says why, and the ways out. Says nothing of whether it was right."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A column that came out otherwise."""

    column: str
    stored: Any
    recomputed: Any


@dataclass(frozen=True, slots=True)
class Recomputed:
    """What came out. `alert`: the change of the incident that this window makes, if any, with the budget granted."""

    row: Mapping[str, Any]
    differences: tuple[Difference, ...]
    alert: AlertChanged | None


class AnomalyRow:
    """A row of `anomalies` as it was stored; times in epoch milliseconds."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        """Raises NotReproducible when what recomputes it is not there, broken, or of another program."""
        self.row = row
        self.key = SeriesKey.model_construct(scenario=row["scenario"], model=row["model"], version=row["model_version"])
        self.window = WindowId(row["source_topic_id"], row["window_start"], row["window_end"])
        self._check()
        self.metric, self._options = self._configured()
        try:
            self.input = input_of(row["scored_input"], self.metric)
        except ValueError as error:
            raise NotReproducible(str(error)) from None

    @property
    def inputs(self) -> tuple[InputRange, ...]:
        """The telemetry that it was made from."""
        columns = (self.row[f"source_{name}"] for name in ("partitions", "first_offsets", "next_offsets"))
        return tuple(
            InputRange.model_construct(partition=number, first_offset=first, next_offset=after)
            for number, first, after in zip(*columns, strict=True)
        )

    def state_difference(self) -> Difference | None:
        """Whether the stored state is not the one that the event named by its digest."""
        found = hashlib.sha256(self.row["state"].encode()).hexdigest()
        told = self.row["state_digest"]
        return None if found == told else Difference("state_digest", told, found)

    def scoring(self) -> SeriesScoring:
        """The job's own, as it was configured, for this metric alone. Raises NotReproducible."""
        metric = self.metric
        name = self.row["detector"] if metric.scored else ""
        bank = bank_named(name, **self._options) if metric.scored else bank_named("two_heads")
        scoring = SeriesScoring([metric], bank, AlertBudget(BUDGET_UNBOUNDED))
        digest = scoring.digest_of(metric.name)
        if digest != self.row["config_digest"]:
            raise NotReproducible(
                f"this program's {self.row['detector']} is configured otherwise: digest {digest}, stored "
                f"{self.row['config_digest']}. Way out: the release that scored it"
            )
        return scoring

    def watched(self, scoring: SeriesScoring) -> Watched:
        """Trigger, detector and incident as they stood before the window. Raises NotReproducible."""
        watched = scoring.watched()[self.metric.name]
        try:
            state = orjson.loads(self.row["state"])
            if self.metric.scored:
                watched.trigger.restore(state["trigger"])
                scoring.bank.restore(watched.row, base64.b64decode(state["detector"], validate=True))
            else:
                watched.trigger.restore(state)
            watched.incident = IncidentState.restored(self.input.incident)
        except (ValueError, TypeError, KeyError) as error:
            raise NotReproducible(f"the stored state is broken: {error}") from None
        watched.learnt = self.input.learnt
        return watched

    def _check(self) -> None:
        theirs = self.row["scoring_format"]
        if self.row["scenario"] == PIPELINE:
            raise NotReproducible("a watchdog told it, from what it saw of Kafka then: nothing of that is kept")
        if self.row["kind"] in OF_THE_LEDGER and not self.row["scored_input"]:
            raise NotReproducible(
                "it was told from what the ledger said was owed at that moment, which no window holds. Way out: "
                "`inferwatch books --since` counts the range again"
            )
        if theirs == 0 or not self.row["scored_input"]:
            raise NotReproducible("it was stored before what recomputes it was kept (scoring_format 0)")
        if theirs != SCORING_FORMAT:
            raise NotReproducible(
                f"it was scored with format {theirs}, this program has {SCORING_FORMAT}: a difference would say "
                "nothing. Way out: the release that scored it"
            )

    def _configured(self) -> tuple[Metric, dict[str, float]]:
        known = {metric.name: metric for metric in metrics_of(JobSettings())}
        metric = known.get(self.row["metric"])
        if metric is None:
            raise NotReproducible(f"this program does not score {self.row['metric']}")
        try:
            return configured(self.row["scored_config"], metric)
        except ValueError as error:
            raise NotReproducible(str(error)) from None


def recompute(stored: AnomalyRow, value: Value | None = None) -> Recomputed:
    """Score the window again; `value` instead of the stored one, where it was recomputed from telemetry.

    Raises NotReproducible.
    """
    scoring = stored.scoring()
    if (altered := stored.state_difference()) is not None:
        return Recomputed({}, (altered,), None)
    watched, taken = stored.watched(scoring), stored.input
    look = Look(stored.key, watched, stored.metric, taken.value if value is None else value, _seen(stored, taken))
    effects, given = WindowEffects(), Effects()
    scoring.score([look], stored.window, effects)
    effects.into(given)
    rows = given.rows.get(ANOMALIES.name)
    if rows is None:
        return Recomputed({}, (Difference("anomalous", True, False),), None)
    row = {name: column[0] for name, column in rows.items()}
    changes = [one for one in given.events if one.topic == ALERTS_TOPIC.name]
    alert = decode(changes[0].headers, changes[0].value, ALERT_KINDS).data if changes else None
    return Recomputed(row, tuple(differences(stored.row, row)), alert)


def differences(stored: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[Difference]:
    """Columns that are not the same, bit for bit."""
    for name in ANOMALIES.column_names:
        if not same_bits(stored[name], found[name]):
            yield Difference(name, stored[name], found[name])


def same_bits(one: Any, other: Any) -> bool:
    """Whether two values are the same; of floats every bit counts, and NaN is itself."""
    if isinstance(one, float) and isinstance(other, float):
        return struct.pack("<d", one) == struct.pack("<d", other) or (math.isnan(one) and math.isnan(other))
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same_bits(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def _seen(stored: AnomalyRow, taken: ScoredInput) -> SeriesWindow | None:
    """As much of the window as deciding asks for."""
    if not taken.is_present:
        return None
    values = {}
    if stored.metric.confirmed_by is not None and taken.confirming is not None:
        values[stored.metric.confirmed_by] = taken.confirming
    return SeriesWindow(stored.key, 0, 0, values, {}, stored.inputs, causes=taken.causes)
