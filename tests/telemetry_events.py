"""Telemetry records for tests: events with chosen offsets, latencies and labels, and the stages over them."""

from datetime import UTC, datetime

from infra.columns import plain
from infra.ports import Record
from schemas.base import encode, headers_for
from schemas.predictions import ModelRef
from schemas.telemetry import (
    BatchColumns,
    BatchReason,
    InferenceServed,
    Outcome,
    RequestColumns,
    TelemetryTicked,
    WorkerRef,
)

T0 = 1_700_000_000_000
MODELS = (ModelRef(name="mini", version="1"), ModelRef(name="mini", version="2"))
SCENARIOS = ("search", "recommend")


def served(
    offsets,
    *,
    partition=0,
    total_ms=50.0,
    topic_id="requests-1",
    worker="w1",
    outcome=None,
    scenario=None,
    model=0,
    tokens=6,
    batches=1,
    scenarios=SCENARIOS,
):
    """An event for these request offsets. `outcome`, `scenario`: functions of the offset."""
    offsets = list(offsets)
    n = len(offsets)
    outcomes = [Outcome.ANSWERED if outcome is None else outcome(o) for o in offsets]
    in_batch = [o in (Outcome.ANSWERED, Outcome.FAILED) for o in outcomes]
    size = max(1, n // batches)
    return InferenceServed(
        cluster_id="cluster-1",
        topic_id=topic_id,
        partition=partition,
        worker=WorkerRef(worker_id=worker, host="h", pid=1, device="cpu"),
        models=list(MODELS),
        scenarios=list(scenarios),
        batches=BatchColumns(
            model=[model] * batches,
            size=[size] * batches,
            tokens=[size * tokens] * batches,
            padded_tokens=[size * tokens * 2] * batches,
            tokenise_ms=[1.0] * batches,
            compute_ms=[total_ms * 0.6] * batches,
            reason=[BatchReason.FULL] * batches,
            queue_depth=[3] * batches,
            memory_bytes=[10**9] * batches,
        ),
        requests=RequestColumns(
            offset=offsets,
            appended_ms=[T0 + o for o in offsets],
            outcome=outcomes,
            scenario=[(o % 2) if scenario is None else scenario(o) for o in offsets],
            batch=[(i % batches) if inside else -1 for i, inside in enumerate(in_batch)],
            request_id=[f"r{o}" for o in offsets],
            queue_ms=[total_ms * 0.3 + o % 7 for o in offsets],
            total_ms=[total_ms + o % 11 for o in offsets],
            inputs=[1] * n,
            input_bytes=[20 + o % 13 for o in offsets],
            tokens=[tokens if inside else 0 for inside in in_batch],
            unknown_share=[0.1] * n,
            output_norm=[4.0 if inside else 0.0 for inside in in_batch],
            truncated=[o % 5 == 0 for o in offsets],
            error=["" if o is Outcome.ANSWERED else "ValueError" for o in outcomes],
        ),
    )


def ticked(partition=0):
    return TelemetryTicked(partition=partition)


def record(message, offset, timestamp_ms, *, topic="inference.telemetry", partition=0):
    """The message as the record that a broker would hand out."""
    headers = headers_for(message, event_id=f"e{offset}", source="test", time=datetime.fromtimestamp(0, UTC))
    return Record(topic, partition, offset, timestamp_ms, None, encode(message), tuple(headers))


def as_record(outgoing, offset, timestamp_ms=T0):
    """An effect's event as the record that its reader sees."""
    return Record(
        outgoing.topic, outgoing.partition or 0, offset, timestamp_ms, outgoing.key, outgoing.value, outgoing.headers
    )


def stored(effects, table="requests_stored"):
    """The rows for a table as lists of plain values, by column."""
    return {name: plain(column) for name, column in effects.rows[table].items()}
