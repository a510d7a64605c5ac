"""What is set for a worker is what it does, put together as the process puts it together."""

import json
import threading

import numpy as np
import pytest

from inference_workers.answers.earlier import Earlier, none_earlier
from inference_workers.batching.cache import ENTRY_BYTES
from inference_workers.deployments.routing import Route, RoutingTable, own_route
from inference_workers.ports import Head, Item
from inference_workers.spec import WorkerSettings
from inference_workers.telemetry.observer import Observer
from inference_workers.worker.loop import Models
from inference_workers.worker.serving import Outside, new_loop, new_work
from infra import metrics
from infra.dead_letters import DeadLetters
from infra.health import Code, HealthPolicy
from schemas.predictions import InferenceFailed, ModelRef
from schemas.telemetry import Outcome
from schemas.topics import PREDICTIONS, TELEMETRY
from tests.unit.inference_workers.stand_ins import FakeEngine, World, look_while_held, servable
from tests.unit.inference_workers.worker.test_worker_observed import FakeUsage


class SetWorld(World):
    """A worker of settings: the stand-ins are the broker, the clock, the model and the thread that computes."""

    def __init__(self, *, models=None, model=None, earlier=none_earlier, observer_of=lambda clock: None, **values):
        super().__init__(servable=model or {})
        letters = DeadLetters(self.publisher, "worker")
        outside = Outside(self.clock, self.publisher, letters, self._identity_of, earlier)
        settings = WorkerSettings(**values)
        table = RoutingTable(own_route(self.servable))
        self.work = new_work(settings, table, self.compute, outside, models, observer_of(self.clock))
        self.loop = new_loop(settings, self._open_log, self.work, outside, self.stop, wait=self.clock.advance)

    def ask_all(self, *texts, **more):
        for text in texts:
            self.ask(json.dumps({"input": text, **more}))


def test_a_request_of_more_tokens_than_set_is_shed():
    world = SetWorld(request_tokens_max=5)
    world.ask_all("red shoes boots", "red shoes boots red")
    world.run()
    assert world.outcomes() == {(0, 0): ("answered", ""), (0, 1): ("shed", "over_limit")}


def test_batches_hold_what_is_set_and_wait_as_long_as_is_set():
    world = SetWorld(batch_requests_max=3, batch_tokens_max=300, wait_ms_max=800)
    world.ask_all("red", "shoes", "boots", "red shoes")
    began = world.clock.now_ms()
    world.run(100)
    assert [len(one) for one in world.engine.seen] == [3, 1]
    last = world.broker.of(PREDICTIONS.name)[-1]
    assert 800 <= last.timestamp_ms - began < 1_000
    world = SetWorld(batch_tokens_max=16)
    world.ask_all(*["red shoes"] * 3, "boots red lamp chair", "red boots lamp chair")
    world.run()
    assert max(sum(map(len, one)) for one in world.engine.seen) <= 16


def test_urgent_scenarios_go_first_where_they_are_set():
    def order(**values):
        world = SetWorld(batch_requests_max=1, **values)
        world.ask_all("red", "shoes", scenario="reports")
        world.ask_all("boots", scenario="checkout")
        return [one.scenario for _, one in world.run().predictions()]

    assert order() == ["reports", "reports", "checkout"]
    assert order(priorities="checkout=500,ads=-100") == ["checkout", "reports", "reports"]


@pytest.mark.parametrize(("kept", "computed"), [(0, 2), (1_000_000, 1)])
def test_results_are_kept_where_bytes_are_set_for_them(kept, computed):
    world = SetWorld(cache_bytes_max=kept)
    for _ in range(2):
        world.ask_all("red shoes")
        world.run()
    assert world.engine.calls == computed


def shadowed(shadow):
    """A worker whose every request the shadow computes, too, and what is counted of that."""
    tables = []
    models = Models(lambda: tables.pop() if tables else None)
    world = SetWorld(models=models, observer_of=lambda clock: Observer(HealthPolicy(), clock, FakeUsage()))
    own = world.servable
    arms = [Route(own, own.ref), Route(shadow, shadow.ref, share=0.0, shadow=True)]
    tables.append(RoutingTable(own_route(own), {"search": arms}))

    def counted():
        cells = metrics.SHADOW_FAILURES.cells()
        return {labels[1:]: cell.read() for labels, cell in cells if labels[0] == shadow.ref.name}

    return world, counted


def test_failures_of_shadows_are_counted_by_model_and_error():
    odd = FakeEngine(broken={2417})
    world, counted = shadowed(servable(odd, ModelRef(name="odd", version="8")))
    world.ask_all("red shoes", "boots", "red")
    world.run()
    assert [outcome for outcome, _ in world.outcomes().values()] == ["answered"] * 3
    assert odd.calls > 0
    assert counted() == {("8", "compute_error"): 2}


def test_what_a_shadow_cannot_compute_is_counted_and_said(caplog):
    other_task = servable(FakeEngine(head=Head.LOGITS), ModelRef(name="other", version="3"), labels=("a", "b"))
    world, counted = shadowed(other_task)
    world.ask_all("red shoes", "boots")
    world.run()
    assert [outcome for outcome, _ in world.outcomes().values()] == ["answered"] * 2
    assert counted() == {("3", "unsupported_task"): 2}
    [line] = [text for text in caplog.messages if text.startswith("shadow")]
    assert "(other 3) failed on request" in line
    assert "unsupported_task: other does not embed: it can classify" in line


def test_texts_that_only_a_shadow_cannot_tokenise_are_counted():
    class Odd:
        def tokenise(self, texts):
            raise ValueError("nobody foresaw this text")

    shadow = servable(FakeEngine(), ModelRef(name="odder", version="1"))
    shadow.tokeniser = Odd()
    world, counted = shadowed(shadow)
    world.ask_all("red shoes")
    world.run()
    assert [outcome for outcome, _ in world.outcomes().values()] == ["answered"]
    assert counted() == {("1", "tokenise_error"): 1}


@pytest.mark.parametrize("flush_ms", [30, 900])
def test_outcomes_are_told_as_soon_as_is_set(flush_ms):
    world = SetWorld(telemetry_flush_ms=flush_ms)
    world.ask_all("red shoes")
    world.run(100)
    [answer], [told] = world.broker.of(PREDICTIONS.name), world.broker.of(TELEMETRY.name)
    assert flush_ms <= told.timestamp_ms - answer.timestamp_ms < flush_ms + 120


@pytest.mark.parametrize("values", [{"queue_requests_max": 20}, {"queue_bytes_max": 1_048_576}])
def test_fetching_pauses_at_what_may_be_held(values):
    world = SetWorld(**values)
    world.ask_all(*["red " * 5_000] * 300)
    waiting, paused = look_while_held(world, 600)
    assert paused > 0
    assert waiting < 290
    assert len(world.outcomes()) == 300


def test_models_that_a_deployment_brings_are_used():
    tables = []
    world = SetWorld(models=Models(lambda: tables.pop() if tables else None))
    other = servable(ref=ModelRef(name="m", version="2"))
    tables.append(RoutingTable(own_route(world.servable), {"search": [Route(other, other.ref)]}))
    world.ask_all("red shoes")
    [(_, answer)] = world.run().predictions()
    assert answer.model.version == "2"


def test_images_are_read_by_as_many_threads_and_for_as_long_as_is_set(until):
    begun, over = [], threading.Event()

    def read(reference):
        begun.append(reference.name)
        over.wait(30)
        return Item((), b"late", pixels=np.ones((3, 2, 2), np.float32), cost=1)

    world = SetWorld(image_threads=3, image_timeout_ms=700, model={"images": True, "read_image": read})
    names = [{"image": {"name": f"{number}.png", "media_type": "image/png"}} for number in range(7)]
    world.ask(json.dumps({"input": names}))
    began = world.clock.now_ms()
    world.at_poll = {50: lambda: until(lambda: len(begun) == 3, "three reads at once")}
    try:
        world.run(60)
    finally:
        over.set()
    [(record, failed)] = world.predictions()
    assert (type(failed), failed.error) == (InferenceFailed, "image_timeout")
    assert "within 0.7 s" in failed.message
    assert 700 <= record.timestamp_ms - began < 2_000


def test_what_another_worker_has_given_up_is_not_answered():
    world = SetWorld(earlier=lambda wanted: {0: {0: Earlier(Outcome.SHED, "expired", at_ms=1)}})
    world.ask_all("red", "boots")
    world.run()
    assert world.outcomes() == {(0, 0): ("shed", "expired"), (0, 1): ("answered", "")}
    assert [message.request.offset for _, message in world.predictions()] == [1]


def test_whoever_watches_sees_the_loop_and_the_cache():
    watched = []

    def observer_of(clock):
        watched.append(Observer(HealthPolicy(), clock, FakeUsage()))
        watched[0].ready_to_join()
        return watched[0]

    world = SetWorld(observer_of=observer_of, cache_bytes_max=1_000_000)
    world.ask_all("red shoes")
    world.run()
    assert watched[0].readiness.ready(world.clock.monotonic()).code is Code.IDLE
    assert metrics.CACHE_BYTES.labels().read() > ENTRY_BYTES
    assert metrics.DEPLOYMENT_SHARE.labels("*", "m", "1", "", "answer").read() == 1.0
