"""The telemetry accumulator: one event a partition, bounded, rising offsets, receipts handed back."""

from dataclasses import dataclass

import pytest

from inference_workers.ports import Place
from inference_workers.tasks.statistics import Statistics
from inference_workers.telemetry import EVENT_BYTES_MAX, BatchFacts, TelemetryAccumulator
from infra.progress import Progress, Receipt
from infra.trusted_messages import encode_trusted
from schemas.base import encode
from schemas.predictions import ModelRef
from schemas.telemetry import (
    REQUESTS_PER_EVENT_MAX,
    BatchReason,
    InferenceServed,
    Outcome,
    ProcessSample,
    WorkerRef,
)

WORKER = WorkerRef(worker_id="w", host="h", pid=1, device="cpu")


def batch(version="1"):
    model = ModelRef(name="m", version=version)
    return BatchFacts(model, 2, 8, 8, 0.1, 3.0004, BatchReason.FULL, 5, 100, 2)


@dataclass
class Record:
    receipt: Receipt
    identity: Place
    scenario: str | None
    model: ModelRef | None
    request_id: str
    appended_ms: int = 1_000
    inputs: int = 1
    input_bytes: int = 9


@pytest.fixture
def telemetry():
    return TelemetryAccumulator(WORKER, flush_ms=200)


@pytest.fixture
def add(telemetry):
    assigned = {}

    def put(offset, now_ms=0, *, partition=0, scenario="search", model=None, request_id="", assignment=1, **more):
        progress = assigned.setdefault((partition, assignment), Progress("t", partition, 1))
        record = Record(Receipt(progress, offset), Place("c", "t", partition, offset), scenario, model, request_id)
        telemetry.add(record, Outcome.ANSWERED, now_ms, total_ms=12.5, **more)

    return put


def test_events_are_due_after_the_flush_time_one_a_partition(telemetry, add):
    assert telemetry.seconds_until_due(0) is None
    add(0, 10)
    add(0, 50, partition=1)
    assert (telemetry.seconds_until_due(20), telemetry.take(209)) == (0.19, [])
    [(event, receipts)] = telemetry.take(210)
    assert (event.partition, event.requests.offset, [one.offset for one in receipts]) == (0, [0], [0])
    assert len(telemetry) == 1
    [(event, _)] = telemetry.take(210, everything=True)
    assert event.partition == 1
    assert len(telemetry) == 0


def test_offsets_rise_and_batches_and_scenarios_are_indexed(telemetry, add):
    first, second = batch(), batch("2")
    add(4, batch=first, scenario="ads")
    add(2, batch=second)
    add(3, scenario=None)
    [(event, _)] = telemetry.take(0, everything=True)
    assert event.requests.offset == [2, 3, 4]
    assert event.requests.batch == [0, -1, 1]
    assert [event.scenarios[i] if i >= 0 else None for i in event.requests.scenario] == ["search", None, "ads"]
    assert sorted(event.scenarios) == ["ads", "search"]
    assert [event.models[i].version for i in event.batches.model] == ["2", "1"]
    assert event.batches.compute_ms == [3.0, 3.0]


def test_an_event_holds_so_many_rows_at_most(telemetry, add):
    for offset in range(REQUESTS_PER_EVENT_MAX + 1):
        add(offset)
    assert telemetry.seconds_until_due(0) == 0.0
    [(event, _)] = telemetry.take(0)
    assert len(event.requests.offset) == REQUESTS_PER_EVENT_MAX
    assert len(telemetry) == 1


def test_an_event_stays_below_its_bytes_whatever_the_ids_hold(telemetry, add):
    for offset in range(2**40, 2**40 + 600):
        add(offset, request_id="\x01" * 512, batch=batch())
    events = telemetry.take(0, everything=True)
    assert len(events) > 1
    assert sum(len(event.requests.offset) for event, _ in events) == 600
    assert max(len(encode(event)) for event, _ in events) <= EVENT_BYTES_MAX


def test_an_event_holds_256_scenarios_at_most(telemetry, add):
    for offset in range(300):
        add(offset, scenario=f"s{offset}")
    events = telemetry.take(0, everything=True)
    assert sum(len(event.scenarios) for event, _ in events) == 300
    assert max(len(event.scenarios) for event, _ in events) <= 256


def test_what_is_made_without_checks_passes_them(telemetry, add):
    add(0, batch=batch(), model=ModelRef(name="m", version="1", arm="canary"), fingerprint="f", cached=0.5)
    add(1, scenario=None, statistics=Statistics(0.9, 0.5, 0.1))
    sample = ProcessSample(process_cpu_share=0.5, process_memory_bytes=1)
    [(event, _)] = telemetry.take(0, everything=True, sample=lambda: sample)
    assert InferenceServed.model_validate_json(encode(event)) == event
    assert InferenceServed.model_validate_json(encode_trusted(event)) == event
    assert [one.arm for one in event.models] == ["canary", ""]
    assert (event.requests.model, event.batches.model) == ([0, -1], [1])
    assert (event.requests.confidence, event.requests.margin, event.requests.entropy) == ([0, 0.9], [0, 0.5], [0, 0.1])


def test_an_offset_that_comes_back_is_told_in_an_event_of_its_own(telemetry, add):
    add(3)
    add(3, assignment=2)
    events = telemetry.take(0, everything=True)
    assert [event.requests.offset for event, _ in events] == [[3], [3]]


def test_times_of_clocks_that_disagree_are_no_error(telemetry, add):
    add(0, queue_ms=-5.0)
    [(event, _)] = telemetry.take(0, everything=True)
    assert event.requests.queue_ms == [0.0]
