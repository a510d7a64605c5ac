"""An engine that is slow, runs out of memory, raises or gives what is no answer: the loop goes on, and says so."""

import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from inference_workers.ports import EngineError, Forward, OutOfMemory
from schemas.predictions import InferenceAnswered, InferenceFailed, RequestShed
from schemas.topics import TELEMETRY
from schemas.vectors import decode_vector
from tests.unit.inference_workers.stand_ins import FakeEngine, World

WORDS = ("red", "shoes", "boots", "lamp", "chair", "sofa")


class Script(FakeEngine):
    """Each forward pass has the fate that comes next; after the last one all are good."""

    def __init__(self, fates):
        super().__init__()
        self.fates, self.clock = list(fates), None

    def compute(self, items):
        good = super().compute(items)
        fate = self.fates.pop(0) if self.fates else "good"
        if fate == "slow":
            self.clock.advance(SLOW_SECONDS)
        if fate == "memory":
            raise OutOfMemory("CUDA out of memory")
        if fate == "raises":
            raise EngineError("it cannot")
        if fate == "bug":
            raise ZeroDivisionError("nobody foresaw this")
        if fate == "nan":
            return Forward(np.full_like(good.rows, np.nan), good.norms, good.tokens_computed)
        if fate == "infinite norm":
            return Forward(good.rows, np.full_like(good.norms, np.inf), good.tokens_computed)
        if fate == "too few":
            return Forward(good.rows[:-1], good.norms[:-1], good.tokens_computed)
        if fate == "flat":
            return Forward(good.rows.ravel(), good.norms, good.tokens_computed)
        return good


CODES = {"out_of_memory", "compute_error", "ZeroDivisionError", "non_finite_output", "wrong_shape"}
SLOW_SECONDS = 40.0
fates = st.sampled_from(["good", "slow", "memory", "raises", "bug", "nan", "infinite norm", "too few", "flat"])


@settings(max_examples=40)
@given(fates=st.lists(fates, max_size=12), texts=st.lists(st.sampled_from(WORDS), min_size=1, max_size=10))
def test_whatever_a_pass_does_each_request_is_answered_rightly_or_failed_once(fates, texts):
    world = World(Script(fates))
    world.engine.clock = world.clock
    for text in texts:
        world.ask(json.dumps({"input": text}))
    world.run()
    found = {message.request.offset: message for _, message in world.predictions()}
    assert sorted(found) == list(range(len(texts)))
    assert len(world.predictions()) == len(texts)
    right = World()
    for text in WORDS:
        right.ask(json.dumps({"input": text}))
    expected = {WORDS[m.request.offset]: m.outputs[0].vector for _, m in right.run().predictions()}
    for offset, text in enumerate(texts):
        one = found[offset]
        if isinstance(one, InferenceAnswered):
            assert one.outputs[0].vector == expected[text]
            assert np.isfinite(decode_vector(one.outputs[0].vector)).all()
        else:
            assert isinstance(one, InferenceFailed)
            assert one.error in CODES
    outcomes = world.outcomes()
    assert [outcomes[0, offset][0] == "answered" for offset in range(len(texts))] == [
        isinstance(found[offset], InferenceAnswered) for offset in range(len(texts))
    ]
    assert world.committed() == {0: len(texts)}


def test_a_slow_pass_is_told_as_slow_and_what_waited_too_long_for_it_is_shed():
    world = World(Script(["slow"]))
    world.engine.clock = world.clock
    for number in range(9):  # a batch of eight, and one more
        more = {"timeout_ms": 30_000} if number == 8 else {}
        world.ask(json.dumps({"input": "red", **more}))
    world.run()
    found = {message.request.offset: message for _, message in world.predictions()}
    assert [type(found[offset]) for offset in range(9)] == [InferenceAnswered] * 8 + [RequestShed]
    assert found[0].timings_ms.compute >= 1_000 * SLOW_SECONDS
    [batch] = [json.loads(one.value)["batches"] for one in world.broker.of(TELEMETRY.name)][:1]
    assert batch["compute_ms"][0] >= 1_000 * SLOW_SECONDS


def test_passes_that_run_out_of_memory_cost_no_request_and_lower_the_budget():
    world = World(FakeEngine(tokens_max=8))
    for i in range(16):
        world.ask(json.dumps({"input": WORDS[i % 6] + " red" * (i // 6)}))
    world.run()
    assert {type(message) for _, message in world.predictions()} == {InferenceAnswered}
    [lane] = world.lanes._lanes.values()
    assert lane.limit.tokens_max < lane.configured_tokens_max


def test_behind_a_slow_batch_what_is_too_late_is_shed_and_the_rest_is_answered():
    world = World()
    world.compute.held = True
    world.ask(json.dumps({"input": "red"}))
    world.at_poll[80] = lambda: [
        world.ask(json.dumps({"input": "boots", **more})) for more in ({"timeout_ms": 50}, {"timeout_ms": 60_000}, {})
    ]
    world.at_poll[20] = lambda: setattr(world.compute, "held", False)
    world.run(100)
    found = {message.request.offset: message for _, message in world.predictions()}
    kinds = [type(found[offset]) for offset in range(4)]
    assert kinds == [InferenceAnswered, RequestShed, InferenceAnswered, InferenceAnswered]
    assert found[1].reason == "expired"
    assert world.committed() == {0: 4}


def test_what_becomes_too_late_while_its_batch_lies_ready_is_shed_as_well():
    world = World()
    world.compute.held = True
    world.ask(json.dumps({"input": "red"}))
    world.at_poll[80] = lambda: [
        world.ask(json.dumps({"input": "boots", "timeout_ms": 60_000 if number else 5_000})) for number in range(8)
    ]

    def slow():
        assert world.compute.under_way() == 2, "the eight lie ready"
        world.clock.advance(10.0)
        world.compute.held = False

    world.at_poll[20] = slow
    world.run(100)
    found = {message.request.offset: message for _, message in world.predictions()}
    assert [type(found[offset]) for offset in range(9)] == [InferenceAnswered, RequestShed, *[InferenceAnswered] * 7]
    assert found[1].reason == "expired"
    assert world.outcomes()[0, 1] == ("shed", "expired")
    assert world.committed() == {0: 9}


def test_what_comes_too_late_is_shed_also_when_nothing_would_have_to_be_computed():
    world = World(cache_bytes_max=1_000_000)
    world.ask('{"input": "red"}')
    world.run()
    for one in ("red", {"embedding": [1.0, 0.0]}, "boots"):
        world.ask(json.dumps({"input": one, "timeout_ms": 50}))
    world.clock.advance(1.0)
    world.run()
    assert [type(message) for _, message in world.predictions()] == [InferenceAnswered, *[RequestShed] * 3]
    assert world.committed() == {0: 4}
