"""A request that comes again after its worker died is told of as its first answer says."""

import json

import pytest

from inference_workers.answers.earlier import KafkaEarlierAnswers, Wanted
from infra.ports import RetryLater
from schemas.topics import PREDICTIONS, REQUESTS, TELEMETRY
from tests.fakes import FakeBroker, FakeRangeReader
from tests.unit.inference_workers.stand_ins import World

LATE = json.dumps({"input": "red shoes", "timeout_ms": 1_000})


class BrokerCluster:
    """The cluster's answers from a fake broker's records."""

    def __init__(self, broker):
        self.broker = broker

    def since(self, topic, times_ms):
        found = {}
        for number, since_ms in times_ms.items():
            log = [one for one in self.broker.of(topic) if one.partition == number]
            later = [one.offset for one in log if one.timestamp_ms >= since_ms]
            found[number] = min(later, default=len(log)), len(log)
        return found


def earlier_of(broker):
    return KafkaEarlierAnswers(BrokerCluster(broker), FakeRangeReader(broker))


def died_before_it_told(world):
    """A worker like `world` on the same broker, after the first died with its answers out and nothing stored."""
    world.broker.committed.clear()
    for place in [place for place in world.broker.records if place[0] == TELEMETRY.name]:
        del world.broker.records[place]
    return World(broker=world.broker, earlier=earlier_of(world.broker))


def test_a_request_answered_in_time_is_answered_however_late_it_comes_again():
    first = World()
    first.ask(LATE)
    first.ask(json.dumps({"input": "boots"}))
    first.run()
    assert [message.KIND for _, message in first.predictions()] == ["inference.answered"] * 2
    first.clock.advance(60.0)
    second = died_before_it_told(first)
    second.ask(LATE)
    second.clock.advance(2.0)
    second.run()
    assert second.outcomes() == {(0, 0): ("answered", ""), (0, 1): ("answered", ""), (0, 2): ("shed", "expired")}
    assert second.committed() == {0: 3}


def test_a_request_given_up_before_is_not_answered_the_second_time():
    first = World()
    first.ask(LATE)
    first.clock.advance(5.0)
    first.run()
    assert [message.KIND for _, message in first.predictions()] == ["inference.shed"]
    second = died_before_it_told(first)
    second.run()
    assert second.outcomes() == {(0, 0): ("shed", "expired")}
    assert len(second.broker.of(PREDICTIONS.name)) == 1
    assert second.committed() == {0: 1}


def test_answers_of_a_topic_of_before_are_not_those_of_this_one():
    first = World()
    first.ask(LATE)
    first.run()
    second = died_before_it_told(first)
    second.topic_id = "topic-2"
    second.clock.advance(60.0)
    second.run()
    assert second.outcomes() == {(0, 0): ("shed", "expired")}


def test_while_the_end_of_the_predictions_cannot_be_read_nothing_is_decided():
    world = World()
    world.ask(LATE)
    world.run()
    reader = FakeRangeReader(world.broker, silence_seconds=10.0)
    reader.silent = {(PREDICTIONS.name, 0), (PREDICTIONS.name, 1)}
    answers = KafkaEarlierAnswers(BrokerCluster(world.broker), reader)
    second = World(broker=world.broker, earlier=answers)
    second.broker.committed.clear()
    with pytest.raises(RetryLater):
        answers({0: Wanted("topic-1", 0, world.broker.of("inference.requests")[0].timestamp_ms)})
    before = len(world.broker.of(PREDICTIONS.name))
    second.run()
    assert len(world.broker.of(PREDICTIONS.name)) == before
    assert second.committed() == {}


def test_nothing_is_told_of_an_answer_that_is_not_in_kafka_yet():
    world = World()
    world.publisher.hold = True
    world.ask(LATE)
    world.ask("not json")
    seen = []

    def answers_arrive():
        seen.append(len(world.publisher._held))
        world.publisher.release()
        world.publisher.hold = False

    world.at_poll = {10: answers_arrive}
    world.run()
    assert seen == [2], "the answer and the dead letter, and no telemetry behind them"
    assert world.outcomes() == {(0, 0): ("answered", ""), (0, 1): ("dead_lettered", "not_json")}
    assert world.committed() == {0: 2}


def test_of_a_lost_partition_nothing_is_told_whose_answers_are_not_in_kafka():
    world = World()
    world.publisher.hold = True
    world.ask(LATE)

    def lost():
        assert len(world.publisher._held) == 1
        world.log.revoke({(REQUESTS.name, 0), (REQUESTS.name, 1)})

    def answers_arrive():
        world.publisher.hold = False
        world.publisher.release()

    world.at_poll = {20: lost, 10: answers_arrive}
    world.run()
    assert [message.KIND for _, message in world.predictions()] == ["inference.answered"]
    assert world.outcomes() == {}
    assert world.committed() == {}


def test_a_worker_that_gets_a_partition_back_waits_for_its_own_answers_first():
    """Kafka was away: the session ended with answers in the client's buffer, and they arrive when all comes back."""
    broker = FakeBroker()
    world = World(broker=broker, earlier=earlier_of(broker))
    both = {(REQUESTS.name, 0), (REQUESTS.name, 1)}
    world.publisher.hold = True
    world.ask(LATE)

    def back():
        world.clock.advance(60.0)
        world.log.assign(both)

    def answers_arrive():
        world.publisher.hold = False
        world.publisher.release()

    world.at_poll = {50: lambda: world.log.revoke(both), 45: back, 10: answers_arrive}
    world.run(polls=100)
    assert [message.KIND for _, message in world.predictions()] == ["inference.answered"] * 2
    assert world.outcomes() == {(0, 0): ("answered", "")}
    assert world.committed() == {0: 1}
