"""A poison event, a fix, and the way back: the commands on a real Kafka, a dead letter as a worker makes it."""

import json
import os

import pytest
from click.testing import CliRunner

from infra.cli import inferwatch
from infra.dead_letters import DeadLetters
from infra.kafka import KafkaCluster, KafkaPublisher, KafkaTail
from infra.ports import Record
from infra.provision import apply_topics
from infra.settings import StackSettings
from schemas.base import DecodeError, Reason, decode
from schemas.requests import InferenceRequested
from schemas.requeues import FROM_HEADER, ID_HEADER
from schemas.topics import REQUESTS

FIXED = b'{"scenario": "search", "input": ["red shoes"]}'


@pytest.fixture
def world(kafka, unique):
    apply_topics(kafka, StackSettings(topic_replication=1), say=lambda text: None)
    world = World(kafka, unique)
    yield world
    world.publisher.close()


class World:
    """A request that a reader refuses, buried as its reader buries it; `stage` is this test's own."""

    def __init__(self, kafka, stage):
        self.kafka, self.stage = kafka, stage
        self.publisher, self.cluster = KafkaPublisher(kafka, client_id="test"), KafkaCluster(kafka)
        self.environment = {**os.environ, "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers}

    def bury(self, value, headers=(), reader_knows=()):
        """Publish a request and read it as a reader would that knows only these types."""
        placed = []
        self.publisher.publish(
            REQUESTS.name,
            value,
            key=b"user",
            partition=2,
            headers=headers,
            on_delivery=lambda at, error: placed.append(at),
        )
        assert self.publisher.flush(20) == 0
        record = Record(REQUESTS.name, 2, placed[0], 0, b"user", value, tuple(headers))
        try:
            decode(record.headers, record.value, reader_knows, plain=InferenceRequested)
        except DecodeError as error:
            DeadLetters(self.publisher, self.stage).send(record, error)
            assert self.publisher.flush(20) == 0
            return f"{REQUESTS.name}/2/{placed[0]}"
        raise AssertionError("the reader took it")

    def say(self, *arguments, code=0, given=None):
        done = CliRunner().invoke(inferwatch, ["dead-letters", *arguments], env=self.environment, input=given)
        assert done.exit_code == code, done.output
        return done.stdout

    def records(self, first):
        end = self.cluster.ranges(REQUESTS.name)[2][1]
        tail = KafkaTail(self.kafka, (), start={(REQUESTS.name, 2): first})
        found = []
        while len(found) < end - first:
            found += tail.poll(500, 1.0)
        tail.close()
        return found

    def end(self):
        return self.cluster.ranges(REQUESTS.name)[2][1]


def test_poison_a_fix_and_the_way_back(world):
    # A type that the reader of today does not know; the fix is a reader that knows it.
    ce = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"t")]
    headers = [*ce, ("ce_type", InferenceRequested.event_type().encode())]
    name = world.bury(FIXED, headers)
    listed = [json.loads(line) for line in world.say("list", "--stage", world.stage, "--json").splitlines()]
    assert [(one["name"], one["reason"], one["requeued_offset"]) for one in listed] == [
        (name, Reason.UNKNOWN_TYPE.value, None)
    ]
    shown = world.say("show", name)
    assert FIXED.decode() in shown
    assert "can be put back" in shown

    before = world.end()
    assert "would be put back" in world.say("requeue", name, "--dry-run")
    world.say("requeue", name, code=1, given="n\n")
    assert world.end() == before, "nothing was to be published yet"

    told = json.loads(world.say("requeue", name, "--yes", "--json"))
    assert told["counts"] == {"requeued": 1}
    assert told["letters"][0]["offset"] == before
    again = json.loads(world.say("requeue", "--stage", world.stage, "--yes", "--json"))
    assert again["counts"] == {"requeued_before": 1}
    assert again["letters"][0]["offset"] == before
    (record,) = world.records(before)
    assert (record.key, record.value) == (b"user", FIXED)
    assert list(record.headers[: len(headers)]) == headers
    assert dict(record.headers)[FROM_HEADER].decode() == name
    assert ID_HEADER in dict(record.headers)
    # The reader of tomorrow takes it: the two headers more are none of its business.
    assert decode(record.headers, record.value, (InferenceRequested,)).data.scenario == "search"
    assert f"put back, offset {before}" in world.say("show", name)


def test_a_filter_puts_back_all_and_says_what_cannot_go(world):
    names = [world.bury(b"{%d" % number) for number in range(3)]
    # The same record was buried twice, by a process that died before its commit.
    offset = int(names[0].rsplit("/", 1)[1])
    again = Record(REQUESTS.name, 2, offset, 0, b"user", b"{0", ())
    DeadLetters(world.publisher, world.stage).send(again, DecodeError(Reason.NOT_JSON, "again"))
    long = Record(REQUESTS.name, 2, 10**12, 0, b"user", b"x" * 1_100_000, ())
    DeadLetters(world.publisher, world.stage).send(long, DecodeError(Reason.TOO_LARGE, "too large"))
    assert world.publisher.flush(20) == 0
    before = world.end()
    told = json.loads(world.say("requeue", "--stage", world.stage, "--yes", "--json", code=65))
    assert told["counts"] == {"requeued": 3, "refused": 1}
    assert "bytes of it were cut" in next(one["why"] for one in told["letters"] if one["fate"] == "refused")
    assert sorted(record.value for record in world.records(before)) == [b"{0", b"{1", b"{2"]


def test_wrong_names_and_choices_are_usage_errors(world):
    for arguments, word in (
        (["requeue"], "name one letter"),
        (["requeue", "inference.requests/0/1", "--stage", "worker"], "name one letter"),
        (["show", "inference.requests"], "names no dead letter"),
        (["show", "inference.requests/0/999999999999"], "there is no dead letter of"),
    ):
        done = CliRunner().invoke(inferwatch, ["dead-letters", *arguments], env=world.environment)
        assert (done.exit_code, word in done.output) == (2, True), done.output
