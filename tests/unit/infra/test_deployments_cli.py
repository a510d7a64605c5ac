"""The deployments command: what is read, sent, taken back, and which verdict settles it."""

import json

import click
import pytest
from click.testing import CliRunner

from infra import deployments_cli
from infra.deployments_cli import by_scenario, publish, read_deployment, rolled_back, verdict_of
from infra.ports import Record, RetryLater
from schemas.base import decode, encode
from schemas.deployments import DEPLOYMENT_KINDS, Arm, DeploymentChanged, ModelJudged, Verdict
from schemas.predictions import ModelRef
from schemas.topics import DEPLOYMENTS
from tests.fakes import FakeBroker, FakeClock, FakePublisher

STABLE = Arm(arm="stable", model="/models/a", model_name="m", version="1", share=1.0)
CANARY = Arm(arm="canary", model="/models/b", model_name="m", version="2", share=0.1)
MIXED = [STABLE.model_copy(update={"share": 0.9}), CANARY]


def deployment(*arms, scenario="search", **more):
    return DeploymentChanged(scenario=scenario, arms=list(arms), **more)


def sent(*wanted):
    """The topic after these were published."""
    broker = FakeBroker(FakeClock(), partitions=1)
    for scenario, one in wanted:
        publish(FakePublisher(broker), FakeClock(), scenario, one, 1.0)
    return broker.of(DEPLOYMENTS.name)


def judged(verdict, version="1", worker="w", scenarios=("search",)):
    model = ModelRef(name="m", version=version)
    return ModelJudged(worker_id=worker, verdict=verdict, model=model, source="/m", scenarios=list(scenarios))


def test_what_is_sent_is_what_a_worker_reads():
    [record] = sent(("search", deployment(*MIXED, reason="try it")))
    assert record.key == b"search"
    read = decode(record.headers, record.value, DEPLOYMENT_KINDS).data
    assert read == deployment(*MIXED, reason="try it")


def test_the_last_record_of_a_scenario_holds_and_a_tombstone_ends_it():
    records = sent(
        ("search", deployment(STABLE)),
        ("ads", deployment(STABLE, scenario="ads")),
        ("search", deployment(*MIXED)),
        ("ads", None),
    )
    broken = Record(DEPLOYMENTS.name, 0, 9, 0, b"search", b"{", ())
    assert by_scenario([*records, broken]) == {"search": deployment(*MIXED)}


def test_a_rollback_is_the_arms_before_and_can_be_rolled_back():
    now = deployment(*MIXED, previous=[STABLE])
    back = rolled_back(now, "slow")
    assert (back.arms, back.previous, back.reason) == ([STABLE], MIXED, "slow")
    assert rolled_back(back, "no").arms == MIXED
    assert rolled_back(deployment(STABLE), "x") is None, "there was no deployment before: the worker's own model"


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"{", "Invalid JSON"),
        (b'{"scenario": "search"}', "arms"),
        (b'{"scenario": "No", "arms": []}', "scenario"),
        (encode(deployment(STABLE)).replace(b'"share":1.0', b'"share":0.4'), "add up to 0.4"),
        (encode(deployment(STABLE)).replace(b'"shadow":false', b'"shadow":true'), "share is 0"),
        (encode(deployment(*MIXED)).replace(b"canary", b"stable"), "one name"),
        (encode(deployment(STABLE)).replace(b'"share":1.0', b'"share":1.0,"revision":"main"'), "revision"),
    ],
)
def test_a_file_that_is_no_deployment_is_refused_in_words(raw, words):
    with pytest.raises(click.UsageError, match="this is no deployment") as refused:
        read_deployment(raw, "")
    assert words in refused.value.message


def test_a_verdict_is_a_refusal_or_every_model_ready_on_one_worker():
    refused = judged(Verdict.REFUSED, "2")
    assert verdict_of([judged(Verdict.READY), refused], "search", MIXED) is refused
    assert verdict_of([judged(Verdict.READY)], "search", MIXED) is None
    assert verdict_of([judged(Verdict.READY), judged(Verdict.READY, "2", "other")], "search", MIXED) is None
    assert verdict_of([judged(Verdict.READY), judged(Verdict.READY, "2")], "search", MIXED).model.version == "2"
    assert verdict_of([judged(Verdict.READY, scenarios=["ads"])], "search", [STABLE]) is None
    assert verdict_of([judged(Verdict.REFUSED, "7")], "search", [STABLE]) is None


def test_kafka_that_confirms_nothing_is_said():
    publisher = FakePublisher(FakeBroker(FakeClock()), hold=True)
    with pytest.raises(RetryLater, match="did not confirm"):
        publish(publisher, FakeClock(), "search", None, 0.01)


@pytest.mark.parametrize("as_json", [False, True])
def test_show_says_what_is_asked_for(monkeypatch, as_json):
    monkeypatch.setattr(deployments_cli, "_current", lambda: {"search": deployment(*MIXED, reason="try \x1b[31mit")})
    shown = CliRunner().invoke(deployments_cli.deployments, ["show", *(["--json"] if as_json else [])])
    assert shown.exit_code == 0
    if as_json:
        assert json.loads(shown.stdout)["search"]["arms"][1]["share"] == 0.1
    else:
        assert "\x1b" not in shown.stdout
        assert [line.split()[:2] for line in shown.stdout.splitlines()[1:]] == [
            ["stable", "90.0%"],
            ["canary", "10.0%"],
        ]


def test_nothing_to_go_back_from(monkeypatch):
    monkeypatch.setattr(deployments_cli, "_current", dict)
    ended = CliRunner().invoke(deployments_cli.deployments, ["rollback", "search"])
    assert ended.exit_code == 1
    assert "no deployment" in ended.output
