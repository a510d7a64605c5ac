"""Cache hits say nothing of a model's speed: latencies of windows are those of computed answers; hits are counted."""

from dataclasses import replace

import numpy as np
import pytest

from schemas.telemetry import RequestColumns
from schemas.windows import WINDOW_KINDS
from stream_jobs.settings import JobSettings
from stream_jobs.window_rows import Share, WindowId, merged, name_of
from stream_jobs.window_triggers import latency_shift
from tests.kind_windows import T0, Service, Watch, sketch_of
from tests.telemetry_events import record, served, ticked
from tests.unit.stream_jobs.test_request_stage import new_stage, partials

WINDOW = WindowId("t", T0, T0 + 10_000)


def event_with_hits(hits, computed, *, computed_ms):
    """Answers in 0.1 ms that were in no batch, then computed ones."""
    event = served(range(hits + computed), total_ms=computed_ms, scenario=lambda offset: 0)
    columns = event.requests.model_dump()
    columns["batch"] = [-1] * hits + columns["batch"][hits:]
    columns["total_ms"] = [0.1] * hits + columns["total_ms"][hits:]
    columns["model"] = [0] * (hits + computed)
    columns["cached"] = [1.0] * hits + [0.0] * computed
    for name in ("confidence", "entropy", "margin"):
        columns[name] = [0.5] * (hits + computed)
    columns["fingerprint"] = [""] * (hits + computed)
    return event.model_copy(update={"requests": RequestColumns(**columns)})


def window_of(partial):
    return merged(WINDOW, name_of(partial.key), {0: Share(0, 1, {name_of(partial.key): partial})}, 0)


@pytest.mark.parametrize(("hits", "computed"), [(95, 5), (0, 20), (20, 0), (1, 1)])
def test_latencies_of_a_window_are_those_of_computed_answers(hits, computed):
    stage = new_stage()
    stage.apply(record(event_with_hits(hits, computed, computed_ms=500.0), 0, T0))
    found = partials(stage.apply(record(ticked(), 1, T0 + 20_000)))
    [partial] = [one for event in found for one in event.series]
    assert found[0].MINOR == WINDOW_KINDS[0].MINOR == 4
    assert (partial.answered, partial.uncomputed) == (hits + computed, hits)
    assert sum(partial.total_ms.count) == sum(partial.compute_ms.count) == computed
    values = window_of(partial).values
    assert values["uncomputed_share"] == pytest.approx(hits / (hits + computed))
    if computed:
        assert values["total_ms_p50"] >= 495.0
    else:
        assert values["total_ms_p50"] == values["total_ms_p99"] == 0.0


def test_state_keeps_the_count():
    stage = new_stage()
    stage.apply(record(event_with_hits(7, 3, computed_ms=20.0), 0, T0))
    again = new_stage()
    again.restore(stage.all_pages(), stage.next_offset)
    found = partials(again.apply(record(ticked(), 1, T0 + 20_000)))
    assert [one.uncomputed for event in found for one in event.series] == [7]


def test_a_window_of_hits_alone_is_not_judged():
    metric = latency_shift(JobSettings())
    partial = Service(np.random.default_rng(1)).window()
    assert metric.value_of(window_of(partial)) > 0
    assert metric.value_of(window_of(partial.model_copy(update={"uncomputed": partial.answered}))) is None
    few = partial.model_copy(update={"uncomputed": partial.answered - metric.weight_min})
    assert metric.value_of(window_of(few)) is not None


def service_of(seed, share):
    rng = np.random.default_rng(seed)
    return Service(rng, shares={"uncomputed": share}, requests=1_500)


def test_a_slow_model_behind_a_cache_alerts_and_more_hits_do_not():
    watch, service = Watch(), service_of(1, 0.9)
    watch.run(service, 200)
    assert watch.kinds == set()
    watch.run(replace(service, shares={"uncomputed": 0.5}), 20)
    watch.run(replace(service, shares={"uncomputed": 0.97}), 20)
    assert watch.kinds == set(), "another share of hits is no other speed"
    for _ in range(12):
        slow = service.window()
        watch(slow.model_copy(update={"total_ms": sketch_of(service.rng.lognormal(6.2, 0.2, 60))}))
    assert watch.kinds == {"latency_shift"}
