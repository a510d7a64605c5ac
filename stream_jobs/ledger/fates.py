"""What a record says of a request: which scenario asked, or how the request ended. Pure; never raises on bad bytes."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from infra.ports import Record
from infra.up.request_heads import as_scenario, scenario_of
from infra.up.traffic import dead_letter_origin, is_of_another_topic
from schemas.dead_letters import CUT_HEADER
from schemas.predictions import PREDICTION_KINDS

ANSWERED, FAILED, SHED, DEAD_LETTERED, EXPIRED = "answered", "failed", "shed", "dead_lettered", "expired"
_OUTCOMES = {kind.event_type().encode(): kind.KIND.rpartition(".")[2] for kind in PREDICTION_KINDS}


@dataclass(frozen=True, slots=True)
class Fate:
    """How a request ended. `worker` is who said so, empty where nobody signed.

    `is_served`: something was computed for it; shed requests and cache hits are no sign of life.
    """

    offset: int
    outcome: str
    scenario: str
    is_served: bool
    worker: str
    at_ms: int
    """When it was appended, by its record."""
    heard_ms: int
    """The same, by its log's time, which believes no clock that jumps."""


def fate_of_prediction(record: Record, cluster_id: str, topic_id: str, heard_ms: int) -> Fate | None:
    """What a prediction says, `heard_ms` in its log's time; None when it is none, or of another request topic or
    partition."""
    kind = next((raw for name, raw in record.headers if name == "ce_type"), None)
    outcome = _OUTCOMES.get(kind or b"")
    if outcome is None or record.value is None:
        return None
    try:
        said = orjson.loads(record.value)
        request, scenario, worker = said["request"], said["scenario"], said.get("worker_id", "")
        offset = request["offset"]
        named = request["cluster_id"], request["topic_id"], request["partition"]
        is_served = outcome == FAILED or (outcome == ANSWERED and said.get("cached") is not True)
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
        return None
    texts = type(scenario) is str and type(worker) is str and type(offset) is int
    if named != (cluster_id, topic_id, record.partition) or not texts or offset < 0:
        return None
    return Fate(offset, outcome, as_scenario(scenario), is_served, worker[:200], record.timestamp_ms, heard_ms)


def fate_of_dead_letter(record: Record, topic: str, topic_id: str) -> tuple[int, Fate] | None:
    """Partition and fate of the request that a dead letter is about; None when it is not about `topic`'s, or about that
    of another one of that name."""
    origin = dead_letter_origin(record.headers)
    if origin is None or origin[0] != topic or is_of_another_topic(record.headers, topic_id):
        return None
    is_cut = any(name == CUT_HEADER for name, _ in record.headers)
    scenario = scenario_of(record.value, is_cut=is_cut)
    return origin[1], Fate(origin[2], DEAD_LETTERED, scenario, False, "", record.timestamp_ms, record.timestamp_ms)
