"""Records of the three topics that a ledger reads, made by hand, and events that it tells."""

import json

from infra.ports import Record
from infra.up.traffic import REQUEST_DEAD_LETTERS
from schemas.base import Reason, encode
from schemas.dead_letters import DeadLetter
from schemas.owed import PartitionOwed, RequestsOwed, ScenarioOwed
from schemas.topics import PREDICTIONS, REQUESTS, WINDOWS

T0 = 1_800_000_000_000
CLUSTER, TOPIC = "cluster-1", "topic-1"


def asked(offset, *, scenario="search", at_ms=T0, partition=0, **more):
    """A request; `scenario` None: no JSON."""
    said = {"input": "red shoes", "scenario": scenario, **more}
    value = b"\xff{" if scenario is None else json.dumps(said).encode()
    return Record(REQUESTS.name, partition, offset, at_ms, None, value)


def predicted(offset, request, *, outcome="answered", scenario="search", at_ms=T0, worker="w1", **more):
    """A prediction at `offset` for the request at offset `request`."""
    topic_id, partition = more.pop("topic_id", TOPIC), more.pop("partition", 0)
    identity = {"cluster_id": CLUSTER, "topic_id": topic_id, "partition": partition, "offset": request}
    value = {"request": identity, "scenario": scenario, "worker_id": worker, **more}
    headers = (("ce_type", f"inferwatch.inference.{outcome}.v1".encode()),)
    return Record(PREDICTIONS.name, partition, offset, at_ms, None, json.dumps(value).encode(), headers)


def dead_letter(offset, request, *, at_ms=T0, partition=0, topic=REQUESTS.name, topic_id=""):
    """A dead letter at `offset` for a request Record."""
    letter = DeadLetter.of(
        topic=topic,
        partition=partition,
        offset=request.offset,
        stage="worker",
        reason=Reason.NOT_JSON,
        detail="",
        key=None,
        value=request.value,
        headers=(),
        value_bytes_max=1_048_576,
        topic_id=topic_id,
    )
    return Record(REQUEST_DEAD_LETTERS, 0, offset, at_ms, None, letter.value, tuple(letter.record_headers()))


def owed_record(offset, at_ms, *books, topic_id=TOPIC):
    """What a ledger says, as a record of the windows topic."""
    event = RequestsOwed(cluster_id=CLUSTER, topic_id=topic_id, partitions=list(books))
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"ledger")]
    headers.append(("ce_type", RequestsOwed.event_type().encode()))
    return Record(WINDOWS.name, 0, offset, at_ms, None, encode(event), tuple(headers))


def book(partition=0, *, owed=0, oldest_ms=None, served_ms=None, worker="w1", scenario="search", epoch=1):
    """What a ledger says of one partition with one scenario."""
    row = ScenarioOwed(
        scenario=scenario,
        asked=100_000,
        owed=owed,
        oldest_ms=oldest_ms,
        oldest_offset=None if not owed else 100_000 - owed,
    )
    return PartitionOwed(
        partition=partition,
        epoch=epoch,
        first_offset=0,
        next_offset=100_000,
        served_ms=served_ms,
        worker=worker,
        scenarios=[row],
    )
