"""The telemetry accumulator: one event a partition, bounded, rising offsets, receipts handed back."""

import pytest

from inference_workers.ports import Place
from inference_workers.tasks.statistics import Statistics
from inference_workers.telemetry.accumulator import NEVER_MS, Line, TelemetryAccumulator
from inference_workers.telemetry.served_page import EVENT_BYTES_MAX, MODELS_MAX
from infra.progress import Progress, Receipt
from schemas.predictions import ModelRef
from schemas.telemetry import REQUESTS_PER_EVENT_MAX, InferenceServed, Outcome, ProcessSample
from tests.unit.inference_workers.telling import WORKER, Record, facts


def batch(version="1"):
    return facts(ModelRef(name="m", version=version))


def decoded(event):
    return InferenceServed.model_validate_json(event.as_json())


@pytest.fixture
def telemetry():
    return TelemetryAccumulator(WORKER, flush_ms=200)


@pytest.fixture
def add(telemetry):
    assigned = {}

    def put(
        offset,
        now_ms=0,
        *,
        partition=0,
        scenario="search",
        model=None,
        request_id="",
        assignment=1,
        outcome=Outcome.ANSWERED,
        total_ms=12.5,
        **more,
    ):
        progress = assigned.setdefault((partition, assignment), Progress("t", partition, 1))
        record = Record(Receipt(progress, offset), Place("c", "t", partition, offset), scenario, model, request_id)
        telemetry.add_all([Line(record, outcome, now_ms, total_ms=total_ms, **more)])

    return put


def test_events_are_due_together_after_the_flush_time_one_a_partition(telemetry, add):
    assert telemetry.look_ms == NEVER_MS
    add(0, 10)
    add(0, 50, partition=1)
    assert (telemetry.look_ms, telemetry.take(209)) == (210, [])
    (first, receipts), (second, _) = telemetry.take(210)
    assert (first.place.partition, first.column("offset"), receipts.offsets) == (0, [0], [0])
    assert decoded(second).partition == 1
    assert (len(telemetry), telemetry.look_ms) == (0, NEVER_MS)
    add(1, 500)
    assert (telemetry.take(699), telemetry.look_ms) == ([], 700)
    assert len(telemetry.take(699, everything=True)) == 1


def test_a_clock_that_is_set_back_keeps_no_outcome_until_it_is_as_late_again(telemetry, add):
    add(0, 600_000)
    assert telemetry.take(600_199) == []
    assert len(telemetry.take(50)) == 1
    assert telemetry.look_ms == NEVER_MS


def test_each_event_has_the_rows_of_its_own_partition(telemetry, add):
    for offset in (7, 3, 5):
        for partition in (2, 0, 1):
            add(offset, partition=partition, total_ms=100 * partition + offset, request_id=f"{partition}/{offset}")
    add(4, partition=1, error="E", outcome=Outcome.FAILED)
    events = {event.place.partition: event for event, _ in telemetry.take(0, everything=True)}
    for partition, event in events.items():
        told = decoded(event)
        offsets = [3, 4, 5, 7] if partition == 1 else [3, 5, 7]
        assert told.requests.offset == offsets
        assert told.requests.request_id == ["" if one == 4 else f"{partition}/{one}" for one in offsets]
        assert told.requests.total_ms == [12.5 if one == 4 else 100 * partition + one for one in offsets]
        assert told.requests.error == ["E" if one == 4 else "" for one in offsets]
    assert sorted(events) == [0, 1, 2]


def test_offsets_rise_and_batches_and_scenarios_are_indexed(telemetry, add):
    first, second = batch(), batch("2")
    add(4, batch=first, scenario="ads")
    add(2, batch=second)
    add(3, scenario=None)
    [(told, _)] = telemetry.take(0, everything=True)
    event = decoded(told)
    assert event.requests.offset == [2, 3, 4]
    assert event.requests.batch == [1, -1, 0]
    assert [event.scenarios[i] if i >= 0 else None for i in event.requests.scenario] == ["search", None, "ads"]
    assert sorted(event.scenarios) == ["ads", "search"]
    assert [event.models[i].version for i in event.batches.model] == ["1", "2"]
    assert event.batches.compute_ms == [3.0, 3.0]


def test_an_event_holds_so_many_rows_at_most(telemetry, add):
    most = REQUESTS_PER_EVENT_MAX // 2
    for offset in range(most + 1):
        add(offset)
    assert telemetry.look_ms == 0
    [(event, _)] = telemetry.take(0)
    assert telemetry.look_ms == 200
    assert 0.9 * most < len(event) <= most
    assert len(telemetry) == most + 1 - len(event)


def all_of(telemetry):
    return [event for event, _ in telemetry.take(0, everything=True)]


def test_an_event_stays_below_its_bytes_whatever_the_ids_and_errors_hold(telemetry, add):
    for offset in range(2**40, 2**40 + 600):
        add(offset, request_id="\x01" * 512, error="\x01" * 200, batch=batch())
    events = all_of(telemetry)
    assert len(events) > 1
    assert sum(map(len, events)) == 600
    assert max(len(event.as_json()) for event in events) <= EVENT_BYTES_MAX


def test_rows_of_long_numbers_stay_below_what_is_counted_for_them(telemetry, add):
    numbers = {"queue_ms": 123_456_789_012.345, "unknown_share": 0.1234, "output_norm": 123_456_789_012.3456}
    numbers |= {"cached": 0.1234, "statistics": Statistics(0.1234, 0.1234, 0.1234), "tokens": 2**40}
    for offset in range(2**40, 2**40 + REQUESTS_PER_EVENT_MAX):
        add(
            offset,
            total_ms=123_456_789_012.345,
            outcome=Outcome.DEAD_LETTERED,
            error="e",
            fingerprint="f" * 16,
            **numbers,
        )
    assert max(len(event.as_json()) for event in all_of(telemetry)) <= EVENT_BYTES_MAX


def test_an_event_holds_256_scenarios_and_models_at_most(telemetry, add):
    for offset in range(300):
        add(offset, scenario=f"s{offset}", model=ModelRef(name="m", version=str(offset)))
    events = all_of(telemetry)
    assert sum(len(event.scenarios) for event in events) == 300
    assert max(len(event.models) for event in events) == MODELS_MAX
    assert sum(len(decoded(event).models) for event in events) == 300


def test_what_is_told_passes_the_checks_of_the_message(telemetry, add):
    model = ModelRef(name="m", version="1", arm="canary")
    add(1, scenario=None, statistics=Statistics(confidence=0.9, margin=0.5, entropy=0.1), request_id="b")
    trouble = {"outcome": Outcome.FAILED, "error": "oom", "fingerprint": "f"}
    add(
        0,
        script=13,
        direction=16,
        batch=batch(),
        model=model,
        cached=0.5,
        truncated=True,
        tokens=7,
        request_id="a",
        **trouble,
    )
    sample = ProcessSample(process_cpu_share=0.5, process_memory_bytes=1)
    [(told, _)] = telemetry.take(0, everything=True, sample=lambda: sample)
    event = decoded(told)
    rows = event.requests
    assert (event.sample, event.worker, [one.arm for one in event.models]) == (sample, WORKER, ["canary", ""])
    assert (rows.model, event.batches.model) == ([0, -1], [1])
    assert (rows.confidence, rows.margin, rows.entropy) == ([0, 0.9], [0, 0.5], [0, 0.1])
    assert (rows.request_id, rows.outcome) == (["a", "b"], [Outcome.FAILED, Outcome.ANSWERED])
    assert (rows.error, rows.fingerprint) == (["oom", ""], ["f", ""])
    assert (rows.cached, rows.truncated, rows.tokens) == ([0.5, 0], [True, False], [7, 0])
    assert (rows.script, rows.direction) == ([13, 0], [16, 0])
    told = event.batches
    assert (told.size, told.computed, told.tokens, told.padded_tokens) == ([2], [1], [7], [8])
    assert (told.tokenise_ms, told.compute_ms, told.post_ms) == ([0.1], [3.0], [0.4])
    assert (told.queue_depth, told.memory_bytes, told.reason) == ([5], [100], ["full"])


def test_an_offset_that_comes_back_is_told_in_an_event_of_its_own(telemetry, add):
    add(3)
    add(3, assignment=2)
    events = telemetry.take(0, everything=True)
    assert [event.column("offset").tolist() for event, _ in events] == [[3], [3]]


def test_times_of_clocks_that_disagree_are_no_error(telemetry, add):
    add(0, queue_ms=-5.0, total_ms=float("inf"))
    add(1, queue_ms=float("nan"), total_ms=0.0005)
    [(event, _)] = telemetry.take(0, everything=True)
    assert decoded(event).requests.queue_ms == [0.0, 0.0]
    assert decoded(event).requests.total_ms == [1e12, 0.0]
