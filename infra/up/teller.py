"""Puts what a watchdog says of the pipeline on its topics and into its tables, each as soon as they take it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any

from infra.metrics import HELD, HELD_MAX, WATCHDOG_ALERTS_DROPPED
from infra.ports import Fatal, InvalidRecord, Publisher, RetryLater, TableWriter
from infra.up.lag_alert import Told
from schemas.alerts import AlertChanged, alert_row
from schemas.anomalies import AnomalyDetected, anomaly_row
from schemas.base import Message, encode, headers_for
from schemas.tables import ALERTS, ANOMALIES
from schemas.topics import ALERTS as ALERTS_TOPIC
from schemas.topics import ANOMALIES as ANOMALIES_TOPIC

LOG = logging.getLogger(__name__)
PENDING_MAX = 200
"""What neither Kafka nor ClickHouse took yet, of each: a hundred changes with their anomalies. Above, the oldest goes,
is logged and counted: later ones say more."""
DELIVERY_SECONDS = 5.0
SOURCE = "inferwatch/watchdog"


@dataclass(frozen=True, slots=True)
class _Waiting:
    """An anomaly or a change, and where it goes. `name`: its event's id, and the token of its row."""

    message: Message
    name: str
    subject: str
    at_ms: int
    topic: str
    table: str
    row: Mapping[str, Any]


class Teller:
    """Tells anomalies and changes of alerts, the anomaly first. For one thread."""

    def __init__(self, publisher: Publisher, writer: TableWriter) -> None:
        self._publisher, self._writer = publisher, writer
        self._events: deque[_Waiting] = deque()
        self._rows: deque[_Waiting] = deque()
        for what, waiting in (("alert_events", self._events), ("alert_rows", self._rows)):
            HELD.labels(what).follow(partial(len, waiting))
            HELD_MAX.labels(what).set(float(PENDING_MAX))
            for reason in ("too_many", "refused"):  # what must stay 0 is shown as 0, too
                WATCHDOG_ALERTS_DROPPED.labels(what, reason)

    def tell(self, told: Told | None) -> None:
        """Tell this, and what could not be told before. Blocks shortly; raises nothing."""
        found = [] if told is None else [*_of_anomaly(told.anomaly), _of_change(told.change)]
        for waiting, send, what in (
            (self._events, self._publish, "alert_events"),
            (self._rows, self._store, "alert_rows"),
        ):
            waiting.extend(found)
            while len(waiting) > PENDING_MAX:
                self._drop(waiting, what, "too_many")
            self._drain(waiting, send, what)

    def _drain(self, waiting: deque[_Waiting], send: Callable[[_Waiting], None], what: str) -> None:
        try:
            while waiting:
                try:
                    send(waiting[0])
                    waiting.popleft()
                except InvalidRecord as error:
                    LOG.error("%s is refused: %s", waiting[0].name, error)
                    self._drop(waiting, what, "refused")
        except RetryLater as error:
            LOG.warning("%d %s about the pipeline are told later: %s", len(waiting), what, error)
        except Fatal as error:  # of this publisher: the other place may well take it
            LOG.error("%d %s about the pipeline cannot be told: %s", len(waiting), what, error)

    def _drop(self, waiting: deque[_Waiting], what: str, reason: str) -> None:
        gone = waiting.popleft()
        LOG.error("%s of %s is dropped (%s)", gone.name, gone.subject, reason)
        WATCHDOG_ALERTS_DROPPED.labels(what, reason).inc()

    def _publish(self, one: _Waiting) -> None:
        headers = headers_for(
            one.message,
            event_id=one.name,
            source=SOURCE,
            time=datetime.fromtimestamp(one.at_ms / 1000, UTC),
            subject=one.subject,
        )
        refused: list[Exception | None] = []
        self._publisher.publish(
            one.topic,
            encode(one.message),
            key=one.subject.encode(),
            headers=headers,
            on_delivery=lambda offset, error: refused.append(error),
        )
        if self._publisher.flush(DELIVERY_SECONDS) or not refused:
            raise RetryLater("Kafka took it not in time")  # and may take it later: told twice, it counts once
        if refused[0] is not None:
            raise refused[0]

    def _store(self, one: _Waiting) -> None:
        self._writer.insert(one.table, {name: [value] for name, value in one.row.items()}, token=one.name)


def _of_anomaly(event: AnomalyDetected | None) -> list[_Waiting]:
    if event is None:
        return []
    names = (event.anomaly_id, str(event.series), event.window_end_ms)
    return [_Waiting(event, *names, ANOMALIES_TOPIC.name, ANOMALIES.name, anomaly_row(event))]


def _of_change(change: AlertChanged) -> _Waiting:
    names = (f"{change.incident_id}/{change.sequence}", change.incident_id, change.changed_ms)
    return _Waiting(change, *names, ALERTS_TOPIC.name, ALERTS.name, alert_row(change))
