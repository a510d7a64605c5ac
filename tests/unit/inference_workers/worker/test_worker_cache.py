"""The cache: equal items are computed once, hits are flagged, memory is bounded, versions are kept apart."""

import json
from dataclasses import replace

import numpy as np
import pytest

from inference_workers.batching.cache import ENTRY_BYTES, ResultCache
from inference_workers.batching.compute import Row
from schemas.predictions import ModelRef
from schemas.topics import TELEMETRY
from schemas.vectors import decode_vector
from tests.unit.inference_workers.deployments.test_deployments import Site, arm, record
from tests.unit.inference_workers.stand_ins import World, servable


def rows_of(world):
    """The request columns of all telemetry, joined. A column that is left out is of zeros."""
    joined = {}
    for event in world.broker.of(TELEMETRY.name):
        columns = json.loads(event.value)["requests"]
        for name, values in columns.items():
            joined.setdefault(name, []).extend(values or [0] * len(columns["offset"]))
    return joined


def test_equal_texts_of_a_batch_are_computed_once():
    world = World()
    for text in ("red shoes", "boots", "red shoes", "Red  SHOES"):
        world.ask(json.dumps({"input": text}))
    world.run()
    assert sorted(map(len, world.engine.seen)) == [2]
    assert len(world.predictions()) == 4
    [event] = world.broker.of(TELEMETRY.name)
    assert json.loads(event.value)["batches"]["computed"] == [2]
    assert rows_of(world)["cached"] == [0, 0, 0, 0]


def test_what_was_computed_before_is_answered_from_the_cache_and_flagged():
    world = World(cache_bytes_max=1_000_000)
    world.ask(json.dumps({"input": "red shoes"}))
    world.run()
    world.ask(json.dumps({"input": "red shoes"}))
    world.ask(json.dumps({"input": ["red shoes", "boots"]}))
    world.run()
    first, hit, half = (message for _, message in world.predictions())
    assert [first.cached, hit.cached, half.cached] == [False, True, False]
    assert hit.outputs == first.outputs
    assert len(decode_vector(half.outputs[1].vector)) == 2
    assert [len(one) for one in world.engine.seen] == [1, 1]
    rows = rows_of(world)
    assert rows["cached"] == [0, 1, 0.5]
    assert rows["batch"][1] == -1
    assert rows["model"] == [0, 0, 0], "a hit is told under its model, too"
    assert len(world.outcomes()) == 3


def test_a_failure_is_not_kept():
    world = World(cache_bytes_max=1_000_000)
    world.engine.broken = {2417}
    world.ask(json.dumps({"input": "red"}))
    world.run()
    world.engine.broken = set()
    world.ask(json.dumps({"input": "red"}))
    world.run()
    assert [outcome for outcome, _ in world.outcomes().values()] == ["failed", "answered"]


@pytest.mark.parametrize(
    "other",
    [
        {"ref": ModelRef(name="m", version="1", digest="e")},
        {"ref": ModelRef(name="m", version="2", digest="d")},
        {"ref": ModelRef(name="n", version="1", digest="d")},
        {"device": "cpu bfloat16"},
        {"tokens_max": 128},
        {"variant": "/models/m|cls_token|True"},
    ],
)
def test_results_are_kept_apart_by_all_that_they_depend_on(other):
    """Weights, version, device and number type, how much of a text is read, and pooling."""
    one = servable(variant="/models/m|mean_tokens|True")
    assert one.cache_name != replace(one, **other).cache_name
    canary = replace(one, ref=one.ref.model_copy(update={"arm": "canary"}))
    assert one.cache_name == canary.cache_name, "an arm's name changes no result"


def test_the_results_of_a_model_that_is_unloaded_go_with_it():
    site = Site(cache_bytes_max=1_000_000)
    site.deployments.apply(record(arm(version="2")))
    site.ask()
    site.world.run()
    assert len(site.world.cache) == 1
    site.deployments.apply(record(arm(version="3")))
    site.world.run()
    assert site.events == [("retired", "2", "")]
    assert (len(site.world.cache), site.world.cache.bytes_held) == (0, 0)


def test_memory_is_bounded_and_the_least_recently_used_goes():
    size = ENTRY_BYTES + 1 + 40
    cache = ResultCache(200 * size)
    for number in range(200):
        cache.put(b"m", bytes([number]), Row(np.zeros(10, np.float32)))
    assert (len(cache), cache.bytes_held) == (200, 200 * size)
    assert cache.get(b"m", b"\x00") is not None
    cache.put(b"m", b"\xff", Row(np.zeros(10, np.float32)))
    assert cache.get(b"m", b"\x00") is not None
    assert cache.get(b"m", b"\x01") is None
    assert (len(cache), cache.evictions, cache.bytes_held) == (200, 1, 200 * size)
    cache.put(b"m", b"wide", Row(np.zeros(10_000, np.float32)))
    assert cache.get(b"m", b"wide") is None, "one row must not push out the rest"
    cache.forget(b"m")
    assert (len(cache), cache.bytes_held) == (0, 0)


def test_a_row_of_a_batch_does_not_keep_the_batch():
    cache = ResultCache(1_000_000)
    batch = np.zeros((64, 10), np.float32)
    cache.put(b"m", b"a", Row(batch[3]))
    assert cache.get(b"m", b"a").value.base is None


def test_no_cache_keeps_nothing():
    cache = ResultCache(0)
    cache.put(b"m", b"a", Row(np.zeros(2, np.float32)))
    assert cache.get(b"m", b"a") is None
