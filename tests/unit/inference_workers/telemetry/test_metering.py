"""Metrics are counted from batches and telemetry events: each request once, with bounded labels."""

import ast
import itertools
import re
from pathlib import Path

import pytest

from inference_workers.deployments.routing import Route, RoutingTable
from inference_workers.telemetry import metering
from inference_workers.telemetry.metering import (
    ERRORS_MAX,
    MODELS_MAX,
    OTHER,
    OWN_CODES,
    SCENARIOS_MAX,
    Names,
    WorkerMeters,
)
from inference_workers.telemetry.served_page import BatchFacts
from infra import metrics
from schemas.predictions import ModelRef
from schemas.telemetry import BatchReason, Outcome
from tests.unit.inference_workers.telling import served_event

_numbers = itertools.count()
REASONS = {"expired", "over_limit"}
"""Why requests are shed; all other codes are those of failures."""
MADE_WITH_A_CODE = {"Refused", "ImageRefused", "Fault", "__init__"}


@pytest.fixture
def model():
    """A model that no other test counts."""
    return ModelRef(name=f"m{next(_numbers)}", version="1")


@pytest.fixture
def meters():
    return WorkerMeters()


def value(family, *labels):
    return dict(family.cells())[labels].read() if labels in dict(family.cells()) else None


def answered(model, scenario="search"):
    return Outcome.ANSWERED, scenario, model, True, 20.0, 4.0, 1, 0.0, ""


def test_a_batch_is_counted_once(meters, model):
    facts = BatchFacts(model, 8, 100, 120, 1.5, 30.0, BatchReason.FULL, 3, 5_000, 7, post_ms=2.0)
    meters.batches([facts])
    meters.batches([facts])
    labels = model.name, "1"
    assert value(metrics.COMPUTE_SECONDS, *labels)[1] == pytest.approx(0.06)
    assert value(metrics.TOKENISE_SECONDS, *labels)[1] == pytest.approx(0.003)
    assert value(metrics.POST_SECONDS, *labels)[1] == pytest.approx(0.004)
    assert value(metrics.BATCH_REQUESTS, *labels) == ([0, 0, 0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2], 16.0)
    assert value(metrics.BATCHES, *labels, "full") == 2
    assert (value(metrics.TOKENS, *labels), value(metrics.PADDED_TOKENS, *labels)) == (200, 240)
    assert value(metrics.COMPUTE_BUSY_SECONDS, *labels) == pytest.approx(0.06)
    assert value(metrics.BATCH_MEMORY_BYTES, *labels) == 5_000


def test_batches_of_models_are_counted_apart(meters, model):
    other = ModelRef(name=model.name, version="2")
    full, late = BatchReason.FULL, BatchReason.TIMEOUT
    made = [(model, 8, full), (other, 3, late), (model, 2, late), (model, 4, late)]
    meters.batches([BatchFacts(ref, size, 10 * size, 12, 1.0, 5.0, why, 1, size, size) for ref, size, why in made])
    assert value(metrics.BATCHES, model.name, "1", "full") == 1
    assert value(metrics.BATCHES, model.name, "1", "timeout") == 2
    assert value(metrics.BATCHES, model.name, "2", "timeout") == 1
    assert value(metrics.TOKENS, model.name, "1") == 140
    assert value(metrics.BATCH_MEMORY_BYTES, model.name, "1") == 4


def test_answers_of_one_scenario_and_model(meters, model):
    cached = Outcome.ANSWERED, "search", model, False, 2.0, 1.0, 4, 1.0, ""
    assert meters.served([served_event(answered(model), cached)] * 3) == 6
    labels = "search", model.name, "1"
    assert value(metrics.REQUESTS, *labels, "answered") == 6
    assert value(metrics.REQUEST_SECONDS, *labels, "true")[0][-1] == 3
    assert value(metrics.REQUEST_SECONDS, *labels, "true")[1] == pytest.approx(0.060)
    assert value(metrics.REQUEST_SECONDS, *labels, "false")[0][-1] == 3
    assert value(metrics.REQUEST_SECONDS, *labels, "false")[1] == pytest.approx(0.006)
    assert value(metrics.QUEUE_SECONDS, *labels)[0][-1] == 3
    assert (value(metrics.CACHE_HITS, *labels[1:]), value(metrics.CACHE_MISSES, *labels[1:])) == (12, 3)


def test_vectors_that_a_request_brought_are_no_misses_of_the_cache(meters, model):
    brought = Outcome.ANSWERED, "search", model, False, 2.0, 1.0, 4, 0.0, ""
    partly = Outcome.ANSWERED, "search", model, True, 2.0, 1.0, 4, 0.25, ""
    meters.served([served_event(brought, brought, answered(model), partly)])
    labels = model.name, "1"
    assert (value(metrics.CACHE_HITS, *labels), value(metrics.CACHE_MISSES, *labels)) == (1, 1 + 3)


def test_every_outcome_is_counted_where_it_belongs(meters, model):
    other = ModelRef(name=model.name, version="2")
    shed = f"late-{model.name}"
    rows = [
        answered(model),
        (Outcome.FAILED, "ads", other, True, 8_000.0, 4.0, 1, 0.0, "out_of_memory"),
        (Outcome.FAILED, "ads", other, False, 3.0, 3.0, 1, 0.0, "unsupported_task"),
        (Outcome.SHED, "ads", model, False, 50.0, 50.0, 1, 0.0, shed),
        (Outcome.DEAD_LETTERED, None, None, False, 5.0, 5.0, 0, 0.0, "not_json"),
    ]
    before = value(metrics.REQUESTS, "", "", "", "dead_lettered") or 0
    assert meters.served([served_event(answered(model)), served_event(*rows)]) == 3
    assert value(metrics.REQUESTS, "search", model.name, "1", "answered") == 2
    assert value(metrics.REQUESTS, "ads", model.name, "2", "failed") == 2
    assert value(metrics.REQUESTS, "ads", model.name, "1", "shed") == 1
    assert value(metrics.REQUESTS, "", "", "", "dead_lettered") == before + 1
    assert value(metrics.FAILURES, model.name, "2", "out_of_memory") == 1
    assert value(metrics.SHED, "ads", shed) == 1
    assert value(metrics.REQUEST_SECONDS, "ads", model.name, "2", "true")[1] == pytest.approx(8.0)
    assert value(metrics.REQUEST_SECONDS, "ads", model.name, "2", "false")[1] == pytest.approx(0.003)
    for computed in metrics.COMPUTED:  # what was shed got no answer
        assert value(metrics.REQUEST_SECONDS, "ads", model.name, "1", computed) is None


def test_a_cache_does_not_make_the_models_latency_look_better(meters, model):
    partly = Outcome.ANSWERED, "search", model, True, 30.0, 4.0, 2, 0.5, ""
    hit = Outcome.ANSWERED, "search", model, False, 1.0, 1.0, 1, 1.0, ""
    labels = "search", model.name, "1", "true"
    meters.served([served_event(answered(model), partly)])
    before = value(metrics.REQUEST_SECONDS, *labels)
    assert (before[0][-1], before[1]) == (2, pytest.approx(0.050))
    meters.served([served_event(*[hit] * 40)])  # many: counted by numpy, a few one by one
    assert value(metrics.REQUEST_SECONDS, *labels) == before
    assert value(metrics.REQUEST_SECONDS, *labels[:3], "false")[0][-1] == 40


def test_events_with_other_tables_go_together(meters, model):
    first = served_event(answered(model))
    second = served_event(answered(model, "ads"), answered(model))
    assert meters.served([first, second]) == 3
    assert value(metrics.REQUESTS, "search", model.name, "1", "answered") == 2
    assert value(metrics.REQUESTS, "ads", model.name, "1", "answered") == 1
    assert meters.served([]) == 0


def test_names_are_bounded_and_those_that_are_there_stay():
    names = Names(2)
    assert [names.bounded("a"), names.bounded("b"), names.bounded("c"), names.bounded("a")] == [
        ("a",),
        ("b",),
        (OTHER,),
        ("a",),
    ]
    names.forget("b")
    assert names.bounded("c") == ("c",)
    assert names.bounded("b") == (OTHER,)


def test_a_flood_of_scenarios_and_models_makes_a_bounded_number_of_series(meters, model):
    before = len(metrics.REQUESTS.cells())
    for number in range(2 * SCENARIOS_MAX):
        meters.served([served_event(answered(model, f"{model.name}-{number}"))])
    assert len(metrics.REQUESTS.cells()) - before == SCENARIOS_MAX + 1
    assert value(metrics.REQUESTS, OTHER, model.name, "1", "answered") == SCENARIOS_MAX
    for number in range(2 * MODELS_MAX):
        meters.loaded(ModelRef(name=f"{model.name}-{number}", version="1"), 1.0)
    mine = [labels for labels, _ in metrics.MODEL_LOAD_SECONDS.cells() if labels[0].startswith(f"{model.name}-")]
    assert len(mine) == MODELS_MAX - 1
    assert value(metrics.MODEL_LOAD_SECONDS, OTHER, OTHER) == 1.0


def test_a_flood_of_error_names_takes_no_label_from_the_workers_own(meters, model):
    flood = [(Outcome.FAILED, "ads", model, True, 9.0, 4.0, 1, 0.0, f"Odd{number}") for number in range(2 * ERRORS_MAX)]
    meters.served([served_event(row) for row in flood])
    for code in sorted(OWN_CODES):
        outcome = Outcome.SHED if code in REASONS else Outcome.FAILED
        meters.served([served_event((outcome, model.name, model, False, 9.0, 9.0, 1, 0.0, code))])
    labels = model.name, "1"
    failures = {code for *place, code in dict(metrics.FAILURES.cells()) if tuple(place) == labels}
    shed = {reason for scenario, reason in dict(metrics.SHED.cells()) if scenario == model.name}
    assert failures | shed >= OWN_CODES
    assert shed == REASONS
    assert len(failures - OWN_CODES - {OTHER}) == ERRORS_MAX
    assert value(metrics.FAILURES, *labels, OTHER) == ERRORS_MAX


def test_failures_of_shadows_are_counted_with_bounded_labels(meters, model):
    for number in range(2 * ERRORS_MAX):
        meters.shadow_failed(model, f"Odd{number}")
    meters.shadow_failed(model, "out_of_memory")
    errors = {labels[-1] for labels, _ in metrics.SHADOW_FAILURES.cells() if labels[0] == model.name}
    assert len(errors) == ERRORS_MAX + 2
    assert value(metrics.SHADOW_FAILURES, model.name, "1", OTHER) == ERRORS_MAX
    assert value(metrics.SHADOW_FAILURES, model.name, "1", "out_of_memory") == 1


def codes_in(tree):
    """The codes that a module spells out: `code = "..."` of a class, and what refusals and faults are made with."""
    for node in ast.walk(tree):
        found = None
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found = node.value if getattr(targets[0], "id", "") == "code" else None
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "id", "") or getattr(node.func, "attr", "")
            found = node.args[0] if called in MADE_WITH_A_CODE else None
        word = getattr(found, "value", None)
        if isinstance(word, str) and re.fullmatch(r"[a-z]+(_[a-z]+)*", word):
            yield word


def test_every_code_of_the_workers_own_is_known():
    folder = Path(metering.__file__).parent.parent
    codes = {code for path in folder.rglob("*.py") for code in codes_in(ast.parse(path.read_text()))}
    assert codes == OWN_CODES


def test_a_retired_model_leaves_no_series(meters, model):
    meters.served([served_event(answered(model))])
    meters.batches([BatchFacts(model, 8, 100, 120, 1.5, 30.0, BatchReason.FULL, 3, 5_000, 7)])
    meters.retired(model)
    families = [one for one in metrics.CATALOGUE.families if "model_name" in one.description.labels]
    assert len(families) > 10
    assert not [labels for one in families for labels, _ in one.cells() if model.name in labels]


class Loaded:
    """Of a servable what is shown."""

    def __init__(self, ref, load_seconds=0.0):
        self.ref, self.load_seconds = ref, load_seconds


def test_deployments_are_shown_as_they_are_now(meters, model):
    new = model.model_copy(update={"version": "2", "arm": "canary"})
    first, second = Loaded(model), Loaded(new, 2.5)
    own, canary = Route(first, model), Route(second, new, share=0.1)
    shadow = Route(second, new, share=0.0, shadow=True)
    meters.deployed(RoutingTable(own, {"search": [Route(own.servable, model, share=0.9), canary], "ads": [shadow]}))

    def shown():
        return {labels: cell.read() for labels, cell in metrics.DEPLOYMENT_SHARE.cells()}

    assert shown() == {
        ("*", model.name, "1", "", "answer"): 1.0,
        ("search", model.name, "1", "", "answer"): 0.9,
        ("search", model.name, "2", "canary", "answer"): 0.1,
        ("ads", model.name, "2", "canary", "shadow"): 0.0,
    }
    assert {cell.read() for _, cell in metrics.DEPLOYMENT_INFO.cells()} == {1.0}
    assert value(metrics.MODEL_LOAD_SECONDS, model.name, "2") == 2.5
    assert (model.name, "1") not in {labels for labels, _ in metrics.MODEL_LOAD_SECONDS.cells()}, "it is not known"
    meters.deployed(RoutingTable(own))
    assert shown() == {("*", model.name, "1", "", "answer"): 1.0}
