"""Telemetry events as the worker makes them, from short rows."""

from dataclasses import dataclass

from inference_workers.ports import Place
from inference_workers.telemetry.accumulator import Line, TelemetryAccumulator
from inference_workers.telemetry.served_page import BatchFacts
from infra.progress import Progress, Receipt
from schemas.predictions import ModelRef
from schemas.telemetry import BatchReason, WorkerRef

WORKER = WorkerRef(worker_id="w", host="h", pid=1, device="cpu")


@dataclass
class Record:
    receipt: Receipt
    identity: Place
    scenario: str | None
    model: ModelRef | None
    request_id: str = ""
    appended_ms: int = 1_000
    inputs: int = 1
    input_bytes: int = 9


def facts(model):
    return BatchFacts(model, 2, 7, 8, 0.1, 3.0004, BatchReason.FULL, 5, 100, 1, 0.4)


def served_event(*rows):
    """The event of rows of (outcome, scenario, model, is in a batch, total ms, queue ms, inputs, cached, error)."""
    telemetry, progress = TelemetryAccumulator(WORKER, flush_ms=200), Progress("t", 0, 1)
    batches = {id(row[2]): facts(row[2]) for row in rows if row[3]}
    for offset, (outcome, scenario, model, batched, total_ms, queue_ms, inputs, cached, error) in enumerate(rows):
        record = Record(Receipt(progress, offset), Place("c", "t", 0, offset), scenario, model, inputs=inputs)
        batch = batches[id(model)] if batched else None
        telemetry.add_all(
            [Line(record, outcome, 0, total_ms=total_ms, queue_ms=queue_ms, batch=batch, cached=cached, error=error)]
        )
    [(event, _)] = telemetry.take(0, everything=True)
    return event
