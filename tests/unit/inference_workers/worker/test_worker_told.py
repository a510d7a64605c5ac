"""What telemetry tells of batches and requests is what the engine and the clock said, each in its own column."""

import json

import numpy as np
import pytest

from inference_workers.ports import Forward
from inference_workers.telemetry.served_page import OUTCOMES
from infra.ports import InvalidRecord
from schemas.topics import TELEMETRY
from tests.unit.inference_workers.stand_ins import FakeEngine, World

BOOTS = 6879  # token id of the model's vocabulary
PUBLISH_SECONDS = 0.003


class Padded(FakeEngine):
    """Each pass is padded to its longest input; a vector is as long as its input has tokens."""

    def compute(self, items):
        lengths = [len(one.ids) for one in items]
        return Forward(self.rows(items), np.array(lengths, np.float32), len(items) * max(lengths))

    def memory_bytes(self):
        return 12_345


def told_of(world):
    """The batches and the requests of the only event."""
    [record] = world.broker.of(TELEMETRY.name)
    event = json.loads(record.value)
    return event["batches"], event["requests"]


def test_a_batch_is_told_with_its_padding_its_company_and_what_its_answers_took():
    world = World(Padded())
    publish = world.publisher.publish

    def slowly(topic, *arguments, **more):
        world.clock.advance(0.0 if topic == TELEMETRY.name else PUBLISH_SECONDS)
        publish(topic, *arguments, **more)

    world.publisher.publish = slowly
    for number in range(10):
        world.ask(json.dumps({"input": "red" if number < 8 else "red shoes"}))  # of 3 tokens, of 4
    world.ask(json.dumps({"input": "red shoes boots"}))  # of 5
    batches, requests = told_of(world.run())
    assert batches["reason"] == ["full", "timeout"]
    assert batches["size"] == [8, 3]
    assert batches["queue_depth"] == [11, 3], "what waited when it was closed, itself included"
    assert batches["computed"] == [1, 2], "equal inputs once"
    assert batches["tokens"] == [3, 4 + 5]
    assert batches["padded_tokens"] == [3, 2 * 5]
    assert batches["memory_bytes"] == [12_345, 12_345]
    assert batches["post_ms"] == [1_000 * PUBLISH_SECONDS * 8, 1_000 * PUBLISH_SECONDS * 3]
    assert requests["batch"] == [0] * 8 + [1] * 3


def test_of_several_inputs_the_mean_length_is_told():
    world = World(Padded())
    world.ask(json.dumps({"input": ["red", "red shoes", "red shoes boots"]}))
    world.ask(json.dumps({"input": "red shoes boots"}))
    _, requests = told_of(world.run())
    assert requests["output_norm"] == [4.0, 5.0]
    assert requests["inputs"] == [3, 1]
    assert requests["tokens"] == [12, 5]


def test_a_failure_is_told_with_its_class_and_the_fingerprint_that_its_answer_has():
    world = World(FakeEngine(bug={BOOTS}))
    for text in ("red", "boots", "red boots"):
        world.ask(json.dumps({"input": text}))
    world.ask(json.dumps({"input": "red", "task": "classify"}))
    _, requests = told_of(world.run())
    answers = {message.request.offset: message for _, message in world.predictions()}
    assert requests["error"] == ["", "TypeError", "TypeError", "unsupported_task"]
    assert len(answers[1].fingerprint) == 16
    assert requests["fingerprint"] == ["", answers[1].fingerprint, answers[2].fingerprint, ""]
    assert answers[1].fingerprint == answers[2].fingerprint, "one stack, one fingerprint"


@pytest.mark.parametrize("at_once", [True, False])
def test_an_answer_that_the_broker_refuses_for_good_is_told_as_the_failure_that_was_sent_instead(at_once):
    """At once, or when its delivery is reported."""
    world = World(Padded())
    publish, asked = world.publisher.publish, []

    def refusing(topic, value, **more):
        asked.append(topic)
        if len(asked) == 2:
            error = InvalidRecord("message size too large")
            if at_once:
                raise error
            world.publisher.fail.append(error)
        publish(topic, value, **more)

    world.publisher.publish = refusing
    for _ in range(3):
        world.ask(json.dumps({"input": "red shoes boots"}))
    batches, requests = told_of(world.run())
    said = [(type(answer).__name__, getattr(answer, "error", "")) for _, answer in world.predictions()]
    fine, failed = ("InferenceAnswered", ""), ("InferenceFailed", "answer_too_large")
    assert sorted(said) == [fine, fine, failed]
    assert world.outcomes() == {
        (0, 0): ("answered", ""),
        (0, 1): ("failed", "answer_too_large"),
        (0, 2): ("answered", ""),
    }
    assert [norm > 0 for norm in requests["output_norm"]] == [True, False, True]
    assert [bool(way) for way in requests["direction"]] == [True, False, True]
    assert requests["tokens"] == [5, 5, 5], "it was computed all the same"
    assert batches["size"] == [3]
    assert world.committed() == {0: 3}


def test_a_refused_answer_is_counted_as_it_is_told():
    counted = []

    class Counting:
        """Of an observer what the loop calls."""

        look_ms = 0

        def told(self, events):
            counted.extend(OUTCOMES[number].value for event in events for number in event.column("outcome").tolist())

        def __getattr__(self, name):
            return lambda *given, **named: None

    world = World(observer=Counting())
    world.publisher.fail = [None, InvalidRecord("message size too large")]
    for partition in (0, 1, 0):
        world.ask(json.dumps({"input": "red shoes"}), partition=partition)
    world.run()
    assert sorted(counted) == ["answered", "answered", "failed"]
    assert sorted(outcome for outcome, _ in world.outcomes().values()) == sorted(counted)
