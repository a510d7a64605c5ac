"""What a worker holds beside its bounds, and how old the oldest record is that it has taken and not done."""

import json
import threading

from inference_workers.deployments.routing import RoutingTable, own_route
from inference_workers.spec import WorkerSettings
from inference_workers.worker.serving import Outside, new_loop, new_work
from infra.dead_letters import DeadLetters
from infra.metrics import HELD, HELD_MAX, UNCOMMITTED_OLDEST_SECONDS
from infra.ports import Record
from infra.progress import Progress
from schemas.topics import REQUESTS
from tests.fakes import FakeBroker, FakeClock, FakePublisher
from tests.unit.inference_workers.stand_ins import FakeEngine, InlineCompute, World, servable


def held(queue):
    return HELD.labels(queue).read(), HELD_MAX.labels(queue).read()


def test_the_queues_of_a_worker_are_shown_beside_their_bounds():
    clock = FakeClock()
    publisher = FakePublisher(FakeBroker(clock), hold=True)
    settings = WorkerSettings(queue_requests_max=70, queue_bytes_max=5_000_000)
    outside = Outside(clock, publisher, DeadLetters(publisher, "worker"), lambda topic: ("cluster", "topic-1"))
    table = RoutingTable(own_route(servable(FakeEngine())))
    work = new_work(settings, table, InlineCompute(clock), outside)
    loop = new_loop(settings, lambda assigned, revoked: None, work, outside, threading.Event(), wait=clock.advance)
    assert (held("requests"), held("request_bytes")) == ((0, 70), (0, 5_000_000))
    receipts = Progress(REQUESTS.name, 0, 2)
    value = json.dumps({"input": "red shoes"}).encode()
    work.accept([(Record(REQUESTS.name, 0, n, 0, None, value), receipts.begin(n)) for n in range(3)])
    assert held("requests") == (3, 70)
    assert 3 * len(value) <= held("request_bytes")[0] < 5_000_000
    assert held("answers")[0] == 0
    assert held("answers")[1] == loop._outbox.pending_max
    assert held("answer_bytes")[1] == loop._outbox.bytes_max
    assert UNCOMMITTED_OLDEST_SECONDS.labels().read() == loop.oldest_seconds() == 0.0


def test_the_oldest_record_that_is_not_done_has_an_age():
    world = World()
    world.compute.held = True
    world.broker.append(REQUESTS.name, json.dumps({"input": "red shoes"}).encode(), partition=0)
    appended = world.clock.now_ms()
    world.run(40)
    assert world.loop.oldest_seconds() == (world.clock.now_ms() - appended) / 1000 > 0.0
    world.compute.held = False
    world.run(60)
    assert world.loop.oldest_seconds() == 0.0
