"""The worker's own loop with an observer: a compute thread that hangs is seen though the loop goes round."""

import json

import pytest

from inference_workers.telemetry.observer import Observer
from infra import metrics
from infra.health import Code, HealthPolicy
from schemas.topics import REQUESTS
from tests.fakes import FakeClock
from tests.unit.inference_workers.stand_ins import MODEL, World


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
