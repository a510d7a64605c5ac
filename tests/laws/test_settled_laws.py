"""Requests that were answered or failed are told in one go: the same as each of them told in its own words."""

import json
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st

from inference_workers.admission.requests import Asked, Ready
from inference_workers.batching.compute import Fault, Row
from inference_workers.batching.planner import Waiting
from inference_workers.ports import Place
from inference_workers.tasks.statistics import NONE, Statistics
from inference_workers.telemetry.accumulator import Line, TelemetryAccumulator
from infra.progress import Progress, Receipt, Receipts
from schemas.predictions import ModelRef
from schemas.telemetry import Outcome
from tests.unit.inference_workers.telling import WORKER, facts

MODELS = [ModelRef(name="m", version=version) for version in ("1", "2")]
BATCHES = [facts(model) for model in MODELS]
SHARES = st.floats(0.0, 1.0)
ROWS = st.builds(Row, st.none(), st.floats(0.0, 100.0), st.integers(0, 16))
FAULT = Fault("broken", "it is", "f" * 8)


@st.composite
def settled(draw, progresses):
    progress = draw(st.sampled_from(progresses))
    offset = progress.begin(progress._last + draw(st.integers(1, 3)), 0).offset
    model = draw(st.integers(0, 1))
    fault = draw(st.sampled_from([None, None, FAULT]))
    rows = draw(st.lists(ROWS if fault is None else st.one_of(ROWS, st.just(FAULT)), min_size=1, max_size=3))
    asked = Asked(
        receipt=Receipt(progress, offset),
        identity=Place("c", "t", progress.partition, offset),
        key=None,
        appended_ms=draw(st.integers(0, 10_000)),
        scenario=draw(st.sampled_from(["search", "ads"])),
        wanted=None,
        request_id=draw(st.sampled_from(["", "mine"])),
        traceparent=None,
        route=SimpleNamespace(ref=MODELS[model]),
        deadline_ms=None,
        inputs=len(rows),
        input_bytes=draw(st.integers(0, 99)),
    )
    one = Ready(
        asked=asked,
        route=asked.route,
        parts=[None] * len(rows),
        tokens=draw(st.integers(0, 9)),
        unknown_share=draw(SHARES),
        truncated=draw(st.booleans()),
        cached=draw(st.integers(0, len(rows))),
        tokenise_ms=0.0,
        waiting=Waiting((1,), 0),
        size=1,
        script=draw(st.integers(0, 3)),
    )
    statistics = draw(st.builds(Statistics, SHARES, SHARES, SHARES)) if fault is None else NONE
    batch = draw(st.sampled_from([None, BATCHES[model]]))
    now_ms, queue_ms = draw(st.integers(0, 10_000)), draw(st.floats(0.0, 5_000.0))
    return one, rows, now_ms, queue_ms, batch, fault, statistics


def in_its_own_words(one, rows, now_ms, queue_ms, batch, fault, statistics):
    """What is told of a request that was answered or failed."""
    asked = one.asked
    norms = [] if fault else [row.norm for row in rows]
    return Line(
        asked,
        Outcome.ANSWERED if fault is None else Outcome.FAILED,
        now_ms,
        total_ms=now_ms - asked.appended_ms,
        queue_ms=queue_ms,
        batch=batch,
        tokens=one.tokens,
        unknown_share=one.unknown_share,
        truncated=one.truncated,
        cached=one.cached / len(one.parts),
        output_norm=sum(norms) / len(norms) if norms else 0.0,
        statistics=statistics,
        error="" if fault is None else fault.code,
        fingerprint="" if fault is None else fault.fingerprint,
        script=one.script,
        direction=0 if fault else rows[0].direction,
    )


@given(data=st.data())
def test_requests_told_in_one_go_are_told_as_each_by_itself(data):
    progresses = [Progress("t", partition, 1) for partition in range(3)]
    many = data.draw(st.lists(settled(progresses), max_size=12))
    at_once, each = TelemetryAccumulator(WORKER, 200), TelemetryAccumulator(WORKER, 200)
    at_once.add_settled(many)
    each.add_all(in_its_own_words(*one) for one in many)
    assert (at_once.look_ms, len(at_once)) == (each.look_ms, len(each))
    found, expected = ([(e.as_json(), r) for e, r in some.take(0, everything=True)] for some in (at_once, each))
    assert found == expected
    settled_offsets = {(r.progress, offset) for _, r in found for offset in r.offsets}
    assert settled_offsets == {(one[0].asked.receipt.progress, one[0].asked.receipt.offset) for one in many}
    told = [offset for event, _ in found for offset in json.loads(event)["requests"]["offset"]]
    assert sorted(told) == sorted(one[0].asked.identity.offset for one in many)


@given(offsets=st.lists(st.integers(0, 30), min_size=1, unique=True), data=st.data())
def test_receipts_settled_together_are_settled_as_each_by_itself(offsets, data):
    together, apart = Progress("t", 0, 2), Progress("t", 0, 2)
    for offset in sorted(offsets):
        together.begin(offset, 1_000 + offset)
        apart.begin(offset, 1_000 + offset)
    for _ in range(2):
        order = data.draw(st.permutations(offsets))
        cut = data.draw(st.integers(0, len(order)))
        for some in (order[:cut], order[cut:]):
            Receipts(together, some).settle()
            for offset in some:
                Receipt(apart, offset).settle()
            assert (together.unfinished, together.oldest_ms) == (apart.unfinished, apart.oldest_ms)
            assert together.take_next_offset() == apart.take_next_offset()
    assert together.unfinished == 0
