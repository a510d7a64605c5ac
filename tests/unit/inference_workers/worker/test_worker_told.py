"""What telemetry tells of batches and requests is what the engine and the clock said, each in its own column."""

import json

import numpy as np

from inference_workers.ports import Forward
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
