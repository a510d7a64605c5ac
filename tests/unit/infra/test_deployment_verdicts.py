"""What the workers' events say of a deployment: settled or not yet, and which arms answer."""

from infra.deployment_verdicts import arms_running, judgements, verdict_of
from infra.ports import Record
from schemas.deployments import Arm, DeploymentChanged, ModelJudged, Verdict
from schemas.predictions import ModelRef

STABLE = Arm(arm="stable", model="/models/a", model_name="m", version="1", share=1.0)
CANARY = Arm(arm="canary", model="/models/b", model_name="m", version="2", share=0.1)
MIXED = [STABLE.model_copy(update={"share": 0.9}), CANARY]


def deployment(*arms, scenario="search", **more):
    return DeploymentChanged(scenario=scenario, arms=list(arms), **more)


def judged(verdict, version="1", worker="w", scenarios=("search",)):
    model = ModelRef(name="m", version=version)
    return ModelJudged(worker_id=worker, verdict=verdict, model=model, source="/m", scenarios=list(scenarios))


def test_a_verdict_is_a_refusal_or_every_model_ready_on_one_worker():
    refused = judged(Verdict.REFUSED, "2")
    assert verdict_of([judged(Verdict.READY), refused], "search", MIXED) is refused
    assert verdict_of([judged(Verdict.READY)], "search", MIXED) is None
    assert verdict_of([judged(Verdict.READY), judged(Verdict.READY, "2", "other")], "search", MIXED) is None
    assert verdict_of([judged(Verdict.READY), judged(Verdict.READY, "2")], "search", MIXED).model.version == "2"
    assert verdict_of([judged(Verdict.READY, scenarios=["ads"])], "search", [STABLE]) is None
    assert verdict_of([judged(Verdict.REFUSED, "7")], "search", [STABLE]) is None


def test_what_answers_are_the_arms_before_only_where_every_worker_that_spoke_refused():
    now = deployment(*MIXED, previous=[STABLE])
    ready, bad = [judged(Verdict.READY), judged(Verdict.READY, "2")], judged(Verdict.REFUSED, "2")
    assert arms_running(now, []) == MIXED
    assert arms_running(now, [bad]) == [STABLE]
    assert arms_running(now, [bad, judged(Verdict.READY)]) == [STABLE], "a worker that started serves what ran before"
    assert arms_running(now, [bad, *ready]) == MIXED, "refused first, then there was room"
    assert arms_running(now, [*ready, judged(Verdict.REFUSED, "2", "other")]) == MIXED
    assert arms_running(deployment(*MIXED), [bad]) == [], "the worker's own model"


def test_events_that_cannot_be_read_are_passed_over():
    assert judgements([Record("model.events", 0, 9, 0, b"w", b"{", ())]) == []
