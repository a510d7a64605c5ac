"""Which incidents are open, as the alert topic says: what stage 2 must end when its own state of them is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator

from infra.kafka import KafkaCluster, KafkaTail
from infra.ports import Clock, Record, RetryLater
from infra.settings import KafkaSettings
from schemas.alerts import ALERT_KINDS, PIPELINE, AlertChanged, AlertStatus
from schemas.base import DecodeError, decode
from schemas.topics import ALERTS

LOG = logging.getLogger(__name__)
READ_RECORDS_MAX = 500
SILENCE_SECONDS = 30.0
"""Longest wait for the next records, though there are some."""


def open_alerts(records: Iterable[Record]) -> list[AlertChanged]:
    """The incidents that these records leave open, in their last state: of each key the highest sequence counts.

    Those about the pipeline itself are its watchdogs': no stage ends them.
    """
    sequences: dict[str, int] = {}
    found: dict[str, AlertChanged] = {}
    for record in records:
        if record.value is None:  # a tombstone: the incident is forgotten
            found.pop((record.key or b"").decode("utf-8", "replace"), None)
            continue
        try:
            alert = decode(record.headers, record.value, ALERT_KINDS).data
        except DecodeError as error:
            LOG.warning("%s[%d]@%d is no alert: %s", record.topic, record.partition, record.offset, error)
            continue
        if alert.series.scenario == PIPELINE or alert.sequence < sequences.get(alert.incident_id, 0):
            continue
        sequences[alert.incident_id] = alert.sequence
        if alert.status is AlertStatus.RESOLVED:
            found.pop(alert.incident_id, None)
        else:
            found[alert.incident_id] = alert
    return sorted(found.values(), key=lambda alert: (alert.opened_ms, alert.incident_id))


def read_open_alerts(kafka: KafkaSettings, cluster: KafkaCluster, clock: Clock) -> list[AlertChanged]:
    """Read the alert topic to its end. Blocks for as long as that takes; raises RetryLater."""
    left = {(ALERTS.name, number): both for number, both in cluster.ranges(ALERTS.name).items() if both[1] > both[0]}
    if not left:
        return []
    tail = KafkaTail(kafka, (), start={place: first for place, (first, _) in left.items()}, client_id="inferwatch-jobs")
    try:
        return open_alerts(_to_the_end(tail, {place: after for place, (_, after) in left.items()}, clock))
    finally:
        tail.close()


def _to_the_end(tail: KafkaTail, ends: dict[tuple[str, int], int], clock: Clock) -> Iterator[Record]:
    heard_at = clock.monotonic()
    while ends:
        records = tail.poll(READ_RECORDS_MAX, 0.2)
        yield from records
        if records:
            heard_at = clock.monotonic()
        elif clock.monotonic() - heard_at > SILENCE_SECONDS:
            raise RetryLater(f"{ALERTS.name}: nothing came for {SILENCE_SECONDS:.0f} s, though records are left")
        for place, offset in tail.position().items():
            if offset >= ends.get(place, offset + 1):
                del ends[place]
