"""What the topics say of a run, folded from their records. Pure: reading and time are given from outside."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from infra.ports import Record
from infra.up.books import Books, Fate
from infra.up.latency import LatencyHistogram, RecentLatency
from infra.up.outcomes import ANSWERED, DEAD_LETTERED
from schemas import topics
from schemas.alerts import ALERT_KINDS, AlertChanged, AlertStatus
from schemas.anomalies import ANOMALY_KINDS, AnomalyDetected
from schemas.base import DecodeError, Headers, Identity, decode
from schemas.dead_letters import CONNECT, REASON_HEADER, SUFFIX, TOPIC_ID_HEADER
from schemas.predictions import PREDICTION_KINDS
from schemas.telemetry import TELEMETRY_KINDS, InferenceServed, Outcome

OPEN_ALERTS_MAX = 200
INCIDENTS_MAX = 20_000
"""Incidents of which the last change is remembered, those longest without one forgotten first."""
REQUEST_DEAD_LETTERS = topics.REQUESTS.name + SUFFIX
_FATES = {kind.event_type(): kind.KIND.rpartition(".")[2] for kind in PREDICTION_KINDS}


class _PredictionHead(BaseModel):
    """The part of a prediction that the books need; vectors are not looked at."""

    model_config = ConfigDict(strict=True, extra="ignore")

    request: Annotated[Identity, Field()]


def prediction_fate(headers: Headers, value: bytes | None) -> tuple[Identity, str] | None:
    """Whose fate a prediction record says, and which; None when it is no prediction of ours."""
    kind = next((raw for name, raw in headers if name == "ce_type"), None)
    outcome = _FATES.get((kind or b"").decode("utf-8", "replace"))
    if outcome is None or value is None:
        return None
    try:
        return _PredictionHead.model_validate_json(value).request, outcome
    except ValidationError:
        return None


def dead_letter_origin(headers: Headers) -> tuple[str, int, int, str] | None:
    """Topic, partition, offset and reason of a dead letter; None when its origin is not readable."""
    ours = {name: raw or b"" for name, raw in headers if name.startswith((CONNECT, "inferwatch."))}
    try:
        return (
            ours[CONNECT + "topic"].decode(),
            int(ours[CONNECT + "partition"]),
            int(ours[CONNECT + "offset"]),
            ours[REASON_HEADER].decode(),
        )
    except (KeyError, ValueError):
        return None


def is_of_another_topic(headers: Headers, topic_id: str) -> bool:
    """Whether a dead letter says that it is of another topic of the same name, one that was deleted. Those that
    jobs send, and those from before there was the header, do not say."""
    said = next((raw for name, raw in headers if name == TOPIC_ID_HEADER), None)
    return bool(said) and said != topic_id.encode()


class Traffic:
    """Everything shown about a run that comes from topics."""

    def __init__(self, books: Books, alert_ends: Mapping[int, int]) -> None:
        """`alert_ends`: next offsets of the alert topic when the run began; earlier records are history."""
        self.books = books
        self.latency = LatencyHistogram()
        self.recent_latency = RecentLatency()
        self.dead_letters: Counter[str] = Counter()
        """By reason, of all topics."""
        self.anomalies = 0
        self.alerts_opened = 0
        self.alerts_resolved = 0
        self.open_alerts: dict[str, AlertChanged] = {}
        self.devices: set[str] = set()
        self.models: set[str] = set()
        self.unreadable = 0
        """Records on our own topics that are not what the topic carries."""
        self.first_answer_at: float | None = None
        """When the first answered prediction of this run was read, monotonic seconds."""
        self._alert_ends = alert_ends
        self._alert_sequences: dict[str, int] = {}

    def fold(self, records: Sequence[Record], now: float) -> None:
        """Take records in, of any of the topics, in the order read. `now`: monotonic seconds."""
        predictions = [one for one in records if one.topic == topics.PREDICTIONS.name]
        if predictions:
            fates = list(self._prediction_fates(predictions))
            self.books.settle(fates)
            if self.first_answer_at is None and any(fate.outcome == ANSWERED for fate in fates):
                self.first_answer_at = now
        for record in records:
            if record.topic == topics.TELEMETRY.name:
                self._telemetry(record, now)
            elif record.topic.endswith(SUFFIX):
                self._dead_letter(record)
            elif record.topic == topics.ANOMALIES.name:
                self._anomaly(record)
            elif record.topic == topics.ALERTS.name:
                self._alert(record)

    def _prediction_fates(self, records: Iterable[Record]) -> Iterable[Fate]:
        for record in records:
            found = prediction_fate(record.headers, record.value)
            if found is None:
                self.unreadable += 1
            elif self.books.is_ours(found[0]):
                yield Fate(found[0].partition, found[0].offset, found[1])

    def _telemetry(self, record: Record, now: float) -> None:
        try:
            event = decode(record.headers, record.value, TELEMETRY_KINDS).data
        except DecodeError:
            self.unreadable += 1
            return
        if not isinstance(event, InferenceServed):
            return
        if event.topic_id != self.books.topic_id or event.cluster_id != self.books.cluster_id:
            return
        rows = event.requests
        self.books.observe(
            [
                Fate(event.partition, offset, outcome.value)
                for offset, outcome in zip(rows.offset, rows.outcome, strict=True)
            ]
        )
        answered = [ms for ms, how in zip(rows.total_ms, rows.outcome, strict=True) if how is Outcome.ANSWERED]
        if answered:
            self.latency.add(answered)
            self.recent_latency.add(answered, now)
        if len(self.devices) < OPEN_ALERTS_MAX and len(self.models) < OPEN_ALERTS_MAX:
            self.devices.add(event.worker.device)
            self.models.update(model.name for model in event.models)

    def _dead_letter(self, record: Record) -> None:
        origin = dead_letter_origin(record.headers)
        if origin is None:
            self.unreadable += 1
            return
        topic, partition, offset, reason = origin
        self.dead_letters[reason] += 1
        ours = record.topic == REQUEST_DEAD_LETTERS and topic == topics.REQUESTS.name
        if ours and not is_of_another_topic(record.headers, self.books.topic_id):
            self.books.settle([Fate(partition, offset, DEAD_LETTERED)])

    def _anomaly(self, record: Record) -> None:
        try:
            event = decode(record.headers, record.value, ANOMALY_KINDS).data
        except DecodeError:
            self.unreadable += 1
        else:
            self.anomalies += isinstance(event, AnomalyDetected)

    def _alert(self, record: Record) -> None:
        if record.value is None:  # a tombstone: the incident is forgotten
            self.open_alerts.pop((record.key or b"").decode("utf-8", "replace"), None)
            return
        try:
            alert = decode(record.headers, record.value, ALERT_KINDS).data
        except DecodeError:
            self.unreadable += 1
            return
        if not self._is_news(alert):
            return
        of_this_run = record.offset >= self._alert_ends.get(record.partition, 0)
        if alert.status is AlertStatus.RESOLVED:
            self.open_alerts.pop(alert.incident_id, None)
            self.alerts_resolved += of_this_run
            return
        self.alerts_opened += of_this_run and alert.status is AlertStatus.OPEN
        if alert.incident_id in self.open_alerts or len(self.open_alerts) < OPEN_ALERTS_MAX:
            self.open_alerts[alert.incident_id] = alert

    def _is_news(self, alert: AlertChanged) -> bool:
        """Whether no later change of the incident was read, nor this one: a job that was killed says things again."""
        known = self._alert_sequences.pop(alert.incident_id, -1)
        self._alert_sequences[alert.incident_id] = max(known, alert.sequence)
        if len(self._alert_sequences) > INCIDENTS_MAX:
            del self._alert_sequences[next(iter(self._alert_sequences))]
        return alert.sequence > known
