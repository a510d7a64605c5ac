"""The worker's own loop with an observer: a compute thread that hangs is seen though the loop goes round."""

import json
from itertools import pairwise

import pytest

from inference_workers.deployments.switching import Deployments
from inference_workers.telemetry.observer import TURN_MS, Observer
from inference_workers.worker.loop import Models
from infra import metrics
from infra.health import Code, HealthPolicy
from infra.ports import RetryLater
from schemas.predictions import ModelRef
from schemas.topics import REQUESTS
from tests.fakes import FakeClock
from tests.unit.inference_workers.deployments.test_deployments import arm, record
from tests.unit.inference_workers.stand_ins import MODEL, World, servable


class FakeUsage:
    def cpu_seconds(self):
        return 1.0

    def memory_bytes(self):
        return 1_000


@pytest.fixture
def observer():
    observer = Observer(HealthPolicy(), FakeClock(), FakeUsage())
    observer.ready_to_join()
    return observer


@pytest.fixture
def world(observer):
    world = World(observer=observer)
    observer._clock = world.clock
    return world


def ask(world, count):
    for number in range(count):
        world.broker.append(REQUESTS.name, json.dumps({"input": f"red shoes {number}"}).encode(), partition=0)


def test_a_busy_loop_is_looked_at_now_and_then_and_an_idle_one_always(world, observer):
    looks, plainly = [], observer.turned

    def turned(**what):
        looks.append((world.clock.now_ms(), what["waiting"]))
        plainly(**what)

    observer.turned = turned
    world.run(10)
    assert len(looks) >= 10, "while nothing waits, at each turn"
    looks.clear()
    world.compute.held = True
    ask(world, 30)  # more than the batches under way hold, so that some wait
    world.run(200)
    busy = [at for at, waiting in looks if waiting]
    assert len(busy) > 3
    assert all(TURN_MS <= later - at < TURN_MS + 20 for at, later in pairwise(busy))
    first = world.clock.now_ms()
    looks.clear()
    world.at_poll = {50: lambda: world.clock.advance(-3_600)}
    world.run(100)
    assert any(at < first - 3_000_000 for at, _ in looks), "a clock that is set back holds nothing up"


def test_a_compute_thread_that_hangs_makes_the_worker_not_ready(world, observer):
    labels = "search", MODEL.name, MODEL.version, "answered"
    before = metrics.REQUESTS.labels(*labels).read()
    ask(world, 5)
    world.run(60)
    assert observer.readiness.ready(world.clock.monotonic()).code is Code.IDLE
    world.compute.held = True
    ask(world, 3)
    began = world.clock.monotonic()
    world.run(20_000)  # it looks for a finished batch each 2 ms
    assert world.clock.monotonic() > began + 31
    verdict = observer.readiness.ready(world.clock.monotonic())
    assert (verdict.good, verdict.code) == (False, Code.STALLED)
    assert verdict.words.startswith("owes 3 requests, the oldest for ")
    world.compute.held = False
    world.run(60)
    assert observer.readiness.ready(world.clock.monotonic()).code is Code.IDLE
    observer.close()
    assert metrics.REQUESTS.labels(*labels).read() >= before + 8


def test_a_model_that_a_deployment_loaded_says_how_long_that_took(observer):
    deployments = None
    world = World(observer=observer, models=Models(lambda: deployments.take(), lambda one: deployments.retire(one)))
    observer._clock = world.clock
    ref = ModelRef(name="deployed-and-measured", version="2")
    deployments = Deployments(world.servable, lambda wanted: servable(ref=ref, load_seconds=3.5))
    deployments.apply(record(arm(version="2")))
    ask(world, 1)
    world.run(60)
    assert metrics.MODEL_LOAD_SECONDS.labels(ref.name, "2").read() == 3.5
    deployments.apply(record())
    world.run(60)
    assert (ref.name, "2") not in {labels for labels, _ in metrics.MODEL_LOAD_SECONDS.cells()}, "it is unloaded"


def test_requests_whose_partitions_kafka_does_not_tell_of_are_owed_and_no_reason_for_a_restart(world, observer):
    world.identity_failures += 100_000 * [RetryLater("the cluster does not answer")]
    ask(world, 5)
    began, seen = world.clock.monotonic(), []

    def look():
        now = world.clock.monotonic()
        seen.append((observer.readiness.ready(now), observer.readiness.live(now).good, len(world.predictions())))

    def told():
        look()
        assert world.clock.monotonic() > began + 310
        world.compute.held = True
        world.identity_failures.clear()

    def computed():
        look()
        world.compute.held = False

    world.at_poll = {600: told, 300: computed, 100: look}
    world.run(4_000)
    (held, held_lives, _), (taken, taken_lives, _), (done, _, answers) = seen
    assert (held.good, held.code) == (False, Code.STALLED)
    assert held.words.startswith("owes 5 requests, the oldest for ")
    assert "Kafka has not told of the partitions of 5" in held.words
    assert held_lives, "a new process would ask the same Kafka"
    assert taken.words.startswith("owes 5 requests")
    assert (taken.good, taken_lives) == (True, True), "the model has them for a moment only"
    assert (done.code, answers) == (Code.IDLE, 5)
