"""Every topic of ours, declared once: partitions, retention by time and bytes, keys, what it carries."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from schemas.alerts import ALERT_KINDS
from schemas.anomalies import ANOMALY_KINDS
from schemas.base import VALUE_BYTES_MAX, Message
from schemas.dead_letters import HEADROOM_BYTES, SUFFIX
from schemas.deployments import DEPLOYMENT_KINDS, MODEL_EVENT_KINDS
from schemas.drills import DRILL_KINDS
from schemas.logs import LOG_KINDS
from schemas.owed import OWED_KINDS
from schemas.predictions import PREDICTION_KINDS
from schemas.requests import InferenceRequested
from schemas.requeues import REQUEUE_KINDS
from schemas.telemetry import TELEMETRY_KINDS
from schemas.windows import WINDOW_KINDS

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MIB = 1_048_576
PARTITIONS = 6
"""Default partition count: divides by 2, 3 and 6 workers; dear to change later, because keys move."""
PARTITIONER = "murmur2_random"
"""The Java client's own partitioner; librdkafka's default would send 82 % of keys elsewhere."""


class Cleanup(StrEnum):
    """How old records go. COMPACT keeps each key's last record; BOTH also drops by age and size."""

    DELETE = "delete"
    COMPACT = "compact"
    BOTH = "compact,delete"


@dataclass(frozen=True, slots=True)
class Topic:
    """A topic. `retention_bytes` is per partition. `retention_ms` and `retention_bytes` are None for COMPACT alone."""

    name: str
    description: str
    kinds: tuple[type[Message], ...]
    key: str
    retention_ms: int | None
    retention_bytes: int | None
    cleanup: Cleanup = Cleanup.DELETE
    message_bytes_max: int = VALUE_BYTES_MAX
    partitions: int | None = None
    """None: as many as the setting `topic_partitions` says."""
    partitions_of: str | None = None
    """The topic whose partition numbers its records are put on, whatever their key: it has at least as many, and
    partitions may be added at any time, because nothing moves."""
    processed: bool = False
    """Whether a worker or a job works on its records: what it cannot use becomes a dead letter. Others only view."""
    internal: bool = False
    """Whether only our own parts write and read it, and all that is on it can be told again: events of kinds that a
    newer release made are passed over there, and are no dead letters."""

    def config(self) -> dict[str, str]:
        """The topic's settings, as Kafka names them."""
        settings = {
            "cleanup.policy": self.cleanup.value,
            "max.message.bytes": str(self.message_bytes_max),
            "message.timestamp.type": "LogAppendTime",
            "segment.bytes": str(16 * MIB),
            "segment.ms": str(HOUR_MS),
        }
        if self.retention_ms is not None:
            settings["retention.ms"] = str(self.retention_ms)
        if self.retention_bytes is not None:
            settings["retention.bytes"] = str(self.retention_bytes)
        if self.cleanup is not Cleanup.DELETE:
            settings["min.cleanable.dirty.ratio"] = "0.3"
            settings["max.compaction.lag.ms"] = str(HOUR_MS)
        return settings


REQUESTS = Topic(
    "inference.requests",
    "What event producers ask. Plain JSON without CloudEvents headers is accepted.",
    (InferenceRequested,),
    "the producer's choice: user, session or query; requests of one key keep their order",
    retention_ms=2 * DAY_MS,
    retention_bytes=64 * MIB,
    processed=True,
)
PREDICTIONS = Topic(
    "inference.predictions",
    "What workers answered: answered, failed or shed. On the request's partition.",
    PREDICTION_KINDS,
    "the request's key",
    retention_ms=DAY_MS,
    retention_bytes=128 * MIB,
    partitions_of=REQUESTS.name,
)
TELEMETRY = Topic(
    "inference.telemetry",
    "What workers did, columnar, an outcome for every consumed request. On the request's partition.",
    TELEMETRY_KINDS,
    "none: the partition is the request's",
    retention_ms=7 * DAY_MS,
    retention_bytes=128 * MIB,
    processed=True,
    partitions_of=REQUESTS.name,
)
WINDOWS = Topic(
    "inference.windows",
    "Partial windows from stage 1, and what the ledger counts, for stage 2 of the stream jobs; internal. By series.",
    (*WINDOW_KINDS, *OWED_KINDS),
    "none: the partition is the series'",
    retention_ms=7 * DAY_MS,
    retention_bytes=64 * MIB,
    processed=True,
    internal=True,
)
ANOMALIES = Topic(
    "anomaly.events",
    "One event per anomalous window of a series' metric; corrections of late windows; detectors that learn anew.",
    ANOMALY_KINDS,
    "the series, or the partition of detectors",
    retention_ms=30 * DAY_MS,
    retention_bytes=32 * MIB,
)
ALERTS = Topic(
    "alerts",
    "Incidents: opened, updated, resolved. Of the records of a key, the one with the highest sequence is the state.",
    ALERT_KINDS,
    "the incident id",
    retention_ms=90 * DAY_MS,
    retention_bytes=32 * MIB,
    cleanup=Cleanup.BOTH,
)
DRILLS = Topic(
    "control.drills",
    "Faults asked for on purpose; workers that allow drills follow it.",
    DRILL_KINDS,
    "the drill id",
    retention_ms=30 * DAY_MS,
    retention_bytes=8 * MIB,
    partitions=1,
    processed=True,
)
DEPLOYMENTS = Topic(
    "control.deployments",
    "Which models answer which scenario. Compacted: the last record of a scenario holds; workers follow it.",
    DEPLOYMENT_KINDS,
    "the scenario",
    retention_ms=None,
    retention_bytes=None,
    cleanup=Cleanup.COMPACT,
    partitions=1,
    processed=True,
)
REQUEUES = Topic(
    "control.requeues",
    "Which dead letters were put back, and where: so that none is put back twice. Kept for longer than dead letters.",
    REQUEUE_KINDS,
    "the requeue's id",
    retention_ms=30 * DAY_MS,
    retention_bytes=32 * MIB,
    cleanup=Cleanup.BOTH,
    partitions=1,
)
MODEL_EVENTS = Topic(
    "model.events",
    "What workers made of the models they were told to load: ready, refused and why, retired.",
    MODEL_EVENT_KINDS,
    "the worker",
    retention_ms=30 * DAY_MS,
    retention_bytes=16 * MIB,
    partitions=1,
)
LOGS = Topic(
    "inference.logs",
    "What workers log, as JSON with trace ids.",
    LOG_KINDS,
    "the worker",
    retention_ms=3 * DAY_MS,
    retention_bytes=32 * MIB,
)
REQUEST_STATE = Topic(
    "jobs.score.requests.state",
    "State of stage 1, snapshots by owner; internal. Same partitions as the telemetry topic.",
    (),
    "owner and page",
    retention_ms=None,
    retention_bytes=None,
    cleanup=Cleanup.COMPACT,
    partitions_of=TELEMETRY.name,
)
WINDOW_STATE = replace(
    REQUEST_STATE,
    name="jobs.score.windows.state",
    description="State of stage 2, snapshots by owner; internal. Same partitions as the windows topic.",
    partitions_of=WINDOWS.name,
)
LEDGER_STATE = replace(
    REQUEST_STATE,
    name="jobs.ledger.state",
    description="State of the ledger, snapshots by owner; internal. Same partitions as the request topic.",
    partitions_of=REQUESTS.name,
)


def dead_letters_of(topic: Topic) -> Topic:
    """The dead-letter topic of a topic that is processed: records may be 64 KiB larger than their source's."""
    return Topic(
        topic.name + SUFFIX,
        f"Records of {topic.name} that could not be used: bytes unchanged, origin and reason as headers.",
        (),
        "the original key",
        retention_ms=14 * DAY_MS,
        retention_bytes=32 * MIB,
        message_bytes_max=topic.message_bytes_max + HEADROOM_BYTES,
        partitions=1,
    )


_SOURCES = (
    REQUESTS,
    PREDICTIONS,
    TELEMETRY,
    WINDOWS,
    ANOMALIES,
    ALERTS,
    DRILLS,
    DEPLOYMENTS,
    REQUEUES,
    MODEL_EVENTS,
    LOGS,
    REQUEST_STATE,
    WINDOW_STATE,
    LEDGER_STATE,
)
DECLARED: tuple[Topic, ...] = (*_SOURCES, *(dead_letters_of(topic) for topic in _SOURCES if topic.processed))
KINDS = frozenset(kind.KIND for topic in DECLARED for kind in topic.kinds)
"""Every kind of event that this release knows, whatever its topic."""
