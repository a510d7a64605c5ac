"""Lanes: urgency orders, no model starves another, limits are learnt from running out of memory."""

import json

from hypothesis import given
from hypothesis import strategies as st

from inference_workers.admission.lanes import GROW_AFTER_BATCHES, Lane, Lanes
from inference_workers.batching.planner import BatchLimit
from inference_workers.deployments.routing import own_route
from schemas.predictions import InferenceAnswered, ModelRef
from schemas.telemetry import BatchReason
from tests.fakes import FakeBroker
from tests.unit.inference_workers.stand_ins import FakeEngine, World, servable

LIMIT = BatchLimit(tokens_max=64, requests_max=4, wait_ms_max=5)


def ready(route, urgency_ms=0, tokens=4, since_ms=None):
    """A request that waits, as far as lanes look at one."""
    from inference_workers.admission.requests import Ready
    from inference_workers.batching.planner import Waiting

    since_ms = urgency_ms if since_ms is None else since_ms
    return Ready(None, route, [], tokens, 0.0, False, 0, 0.0, Waiting((tokens,), since_ms, None, urgency_ms), 100)


def test_a_quiet_model_is_not_overtaken_by_full_batches_of_a_busy_one():
    busy, quiet = own_route(servable()), own_route(servable(ref=ModelRef(name="q", version="1")))
    lanes = Lanes(LIMIT)
    lanes.add(ready(quiet, 10))
    for i in range(8):
        lanes.add(ready(busy, 12 + i))
    lane, plan = lanes.plan(13, only_full=True)
    assert (lane.route, plan.reason) == (busy, BatchReason.FULL), "the quiet one's is not due yet"
    lane, plan = lanes.plan(15, only_full=True)
    assert (lane.route, plan.reason) == (quiet, BatchReason.TIMEOUT)
    assert lanes.plan(15, only_full=False)[0].route is quiet


def test_arms_of_one_model_wait_apart_and_are_told_apart():
    one = servable()
    stable, canary = (own_route(one), own_route(one))
    canary = type(stable)(one, one.ref.model_copy(update={"arm": "canary"}))
    lanes = Lanes(LIMIT)
    assert lanes.lane_of(stable) is not lanes.lane_of(canary)
    assert lanes.lane_of(stable) is lanes.lane_of(own_route(one))


@given(st.lists(st.integers(0, 50), max_size=40))
def test_a_lane_is_ordered_by_urgency_and_first_come_among_equals(urgencies):
    route = own_route(servable_once())
    lane = Lane(route, LIMIT, LIMIT.tokens_max)
    added = [ready(route, urgency, since_ms=i) for i, urgency in enumerate(urgencies)]
    for one in added:
        lane.add(one)
    assert lane.waiting == sorted(added, key=lambda one: one.waiting.urgency_ms)


_SERVABLE = []


def servable_once():
    """The tokeniser takes a while to read, and no example changes it."""
    if not _SERVABLE:
        _SERVABLE.append(servable())
    return _SERVABLE[0]


def test_bytes_held_are_those_of_what_waits():
    route = own_route(servable_once())
    lanes = Lanes(LIMIT)
    for i in range(6):
        lanes.add(ready(route, i))
    assert (len(lanes), lanes.held_bytes) == (6, 600)
    lanes.take(lanes.lane_of(route), (0, 2))
    assert (len(lanes), lanes.held_bytes) == (4, 400)
    lanes.drop(lambda one: one.waiting.urgency_ms == 5)
    assert (len(lanes), lanes.held_bytes) == (3, 300)


def test_running_out_of_memory_lowers_the_budget_and_time_raises_it_again():
    lane = Lane(own_route(servable_once()), BatchLimit(1024, 64, 5), 1024)
    lane.learn(800, 1.0)
    assert lane.limit.tokens_max == 400
    lane.learn(40, 1.0)
    assert lane.limit.tokens_max == 20
    lane.learn(20, 1.0)
    assert lane.limit.tokens_max == 16, "never below what a short text takes"
    for _ in range(GROW_AFTER_BATCHES):
        lane.learn(None, 1.0)
    assert lane.limit.tokens_max == 20
    for _ in range(20 * GROW_AFTER_BATCHES):
        lane.learn(None, 1.0)
    assert lane.limit.tokens_max == 1024


def test_a_lane_closes_before_a_deadline_by_what_its_own_batches_take():
    route = own_route(servable_once())
    lanes = Lanes(LIMIT)
    lane, shadows = lanes.lane_of(route), lanes.lane_of(route, shadow=True)
    assert lane.limit == LIMIT
    assert LIMIT.margin_ms == 20
    lane.learn(None, 299.5)
    assert (lane.limit.margin_ms, shadows.limit.margin_ms, lanes.limit.margin_ms) == (320, 20, 20)
    lane.learn(32, 7.0)
    assert (lane.limit.margin_ms, lane.limit.tokens_max) == (320, 16), "beside what it learns of memory"


class SlowEngine(FakeEngine):
    """Takes 300 ms a pass."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def compute(self, items):
        self.clock.advance(0.3)
        return super().compute(items)


def test_a_request_that_waits_for_company_is_answered_in_time_by_a_slow_model():
    broker = FakeBroker()
    world = World(SlowEngine(broker.clock), broker, wait_ms_max=2_000)
    asked = [world.ask(json.dumps({"input": "red shoes"}))]

    def ask_another():
        asked.append(world.ask(json.dumps({"input": "blue jeans", "timeout_ms": 500})))

    world.at_poll = {150: ask_another}
    world.run(200)
    asked_ms = {one.offset: one.timestamp_ms for one in asked}
    took = {
        message.request.offset: record.timestamp_ms - asked_ms[message.request.offset]
        for record, message in world.predictions()
    }
    assert took[0] >= 2_300, "without a deadline it waits for company as long as it may"
    assert 400 <= took[1] <= 500, "with one it waits as long as it can"


def test_the_worker_learns_what_fits_and_answers_everything_meanwhile():
    world = World(FakeEngine(tokens_max=30))
    for i in range(40):
        world.ask(json.dumps({"input": f"red shoes {i}"}))
    world.run(200)
    assert {type(one) for _, one in world.predictions()} == {InferenceAnswered}
    assert len(world.outcomes()) == 40
    [lane] = world.lanes._lanes.values()
    assert lane.limit.tokens_max == 20
    assert all(sum(map(len, one)) <= 30 for one in world.engine.seen[-4:]), "the last batches fit at once"


def test_an_urgent_scenario_is_served_before_what_came_earlier():
    world = World(head_starts_ms={"checkout": 500})
    world.compute.held = True
    for i in range(24):
        world.ask(json.dumps({"input": "red", "scenario": "reports"}), key=b"%d" % i)

    def urgent():
        world.ask(json.dumps({"input": "boots", "scenario": "checkout"}))

    world.at_poll = {70: urgent, 60: lambda: setattr(world.compute, "held", False)}
    world.run(80)
    order = [one.scenario for _, one in sorted(world.predictions(), key=lambda pair: pair[0].offset)]
    assert order.index("checkout") <= 17, "after the two batches under way, with the third"
    assert len(world.outcomes()) == 25
