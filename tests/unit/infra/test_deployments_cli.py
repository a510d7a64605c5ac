"""The deployments command: what is read, sent, taken back, and which verdict settles it."""

import json
from datetime import UTC, datetime

import click
import pytest
from click.testing import CliRunner

import infra.connect
import infra.kafka
from infra import deployments_cli
from infra.deployments_cli import Standing, by_scenario, publish, read_deployment, rolled_back
from infra.ports import Record, RetryLater
from schemas.base import decode, encode, headers_for
from schemas.deployments import DEPLOYMENT_KINDS, Verdict
from schemas.topics import DEPLOYMENTS, MODEL_EVENTS
from tests.fakes import FakeBroker, FakeClock, FakePublisher
from tests.unit.infra.test_deployment_verdicts import MIXED, STABLE, deployment, judged


def sent(*wanted):
    """The topic after these were published."""
    broker = FakeBroker(FakeClock(), partitions=1)
    for scenario, one in wanted:
        publish(FakePublisher(broker), FakeClock(), scenario, one, 1.0)
    return broker.of(DEPLOYMENTS.name)


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
    assert by_scenario([*records, broken]) == {"search": Standing(deployment(*MIXED), records[-1].timestamp_ms)}


def test_a_rollback_is_the_arms_before_and_can_be_rolled_back():
    now = deployment(*MIXED, previous=[STABLE])
    back = rolled_back(now, MIXED, "slow")
    assert (back.arms, back.previous, back.reason) == ([STABLE], MIXED, "slow")
    assert rolled_back(back, [STABLE], "no").arms == MIXED
    assert rolled_back(deployment(STABLE), [STABLE], "x") is None, "before, the worker's own model answered"


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


def test_kafka_that_confirms_nothing_is_said():
    publisher = FakePublisher(FakeBroker(FakeClock()), hold=True)
    with pytest.raises(RetryLater, match="did not confirm"):
        publish(publisher, FakeClock(), "search", None, 0.01)


@pytest.mark.parametrize("as_json", [False, True])
def test_show_says_what_is_asked_for(monkeypatch, as_json):
    standing = Standing(deployment(*MIXED, reason="try \x1b[31mit"), 0)
    monkeypatch.setattr(deployments_cli, "_current", lambda: {"search": standing})
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


class Site:
    """The commands on topics in memory."""

    def __init__(self, monkeypatch):
        self.clock = FakeClock()
        self.broker = FakeBroker(self.clock, partitions=1)
        monkeypatch.setattr(infra.kafka, "KafkaPublisher", lambda kafka, client_id: FakePublisher(self.broker))
        monkeypatch.setattr(infra.connect, "kafka_connection", lambda: None)
        monkeypatch.setattr(
            deployments_cli,
            "_read",
            lambda topic, since_ms: [one for one in self.broker.of(topic) if one.timestamp_ms >= since_ms],
        )

    def run(self, *arguments, given=None):
        self.clock.advance(1)
        ended = CliRunner().invoke(deployments_cli.deployments, arguments, input=given)
        assert ended.exit_code == 0, ended.output
        last = self.broker.of(DEPLOYMENTS.name)[-1]
        return None if last.value is None else decode(last.headers, last.value, DEPLOYMENT_KINDS).data

    def say(self, event):
        headers = headers_for(event, event_id="e", source="/w", time=datetime.now(UTC))
        self.broker.append(MODEL_EVENTS.name, encode(event), headers=headers)


def test_a_rollback_asks_for_the_arms_before_and_the_next_one_for_those_after(monkeypatch):
    site = Site(monkeypatch)
    assert site.run("apply", "-", given=encode(deployment(STABLE))).previous == []
    assert site.run("apply", "-", given=encode(deployment(*MIXED))).previous == [STABLE]
    back = site.run("rollback", "search", "--reason", "slow")
    assert (back.scenario, back.arms, back.previous, back.reason) == ("search", [STABLE], MIXED, "slow")
    assert site.broker.of(DEPLOYMENTS.name)[-1].key == b"search"
    assert site.run("rollback", "search").arms == MIXED
    site.run("apply", "-", given=encode(deployment(STABLE, scenario="ads")))
    assert site.run("rollback", "ads") is None, "the workers' own model answered before"


def test_arms_that_were_refused_are_not_what_to_go_back_to(monkeypatch):
    site = Site(monkeypatch)
    site.say(judged(Verdict.REFUSED, "1"))  # before it was asked for: another try
    site.run("apply", "-", given=encode(deployment(STABLE)))
    site.run("apply", "-", given=encode(deployment(*MIXED)))
    site.say(judged(Verdict.REFUSED, "2"))
    third = STABLE.model_copy(update={"version": "3"})
    assert site.run("apply", "-", given=encode(deployment(third))).previous == [STABLE]
    site.say(judged(Verdict.REFUSED, "3"))
    back = site.run("rollback", "search")
    assert (back.arms, back.previous) == ([STABLE], [STABLE])
