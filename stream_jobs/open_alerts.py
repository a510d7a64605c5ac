"""Which incidents are open, as the alert topic says: what stage 2 must end when its own state of them is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from itertools import chain

from infra.kafka import KafkaCluster
from infra.ports import RangeReader, Record
from schemas.alerts import ALERT_KINDS, PIPELINE, AlertChanged, AlertStatus
from schemas.base import DecodeError, decode
from schemas.topics import ALERTS

LOG = logging.getLogger(__name__)


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


def read_open_alerts(cluster: KafkaCluster, reader: RangeReader) -> list[AlertChanged]:
    """Read the alert topic to its end. Blocks for as long as that takes; raises RetryLater."""
    ranges = {(ALERTS.name, number): both for number, both in cluster.ranges(ALERTS.name).items()}
    return open_alerts(chain.from_iterable(reader.read(ranges)))
