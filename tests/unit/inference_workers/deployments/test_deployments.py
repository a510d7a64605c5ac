"""Deployments under traffic: loaded beside, switched between batches, refused whole, rolled back, unloaded."""

import json
import threading

import numpy as np
import pytest

from inference_workers.admission.lanes import SHADOWS_MAX
from inference_workers.deployments.routing import Route, RoutingTable, own_route, point_of
from inference_workers.deployments.switching import Deployments, ModelListener
from inference_workers.models.verdicts import ModelRefused
from inference_workers.ports import Item
from inference_workers.worker.loop import Models
from infra.ports import Record
from schemas.base import DecodeError, encode
from schemas.deployments import Arm, DeploymentChanged
from schemas.predictions import InferenceAnswered, ModelRef
from schemas.topics import TELEMETRY
from tests.unit.inference_workers.stand_ins import FakeEngine, InlineReads, World, servable


def arm(name="stable", version="2", share=1.0, **more):
    return Arm(arm=name, model="/models/m", model_name="m", version=version, share=share, **more)


def record(*arms, scenario="search", value=None, previous=()):
    changed = DeploymentChanged(scenario=scenario, arms=list(arms), previous=list(previous)) if arms else None
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"d"), ("ce_source", b"/t")]
    headers.append(("ce_type", DeploymentChanged.event_type().encode()))
    value = encode(changed) if changed else value
    return Record("control.deployments", 0, 0, 0, scenario.encode(), value, headers)


class Site:
    """A worker whose models come from a script: `bad` versions are refused."""

    def __init__(self, bad=(), **limits):
        self.bad, self.loaded, self.events, self.more = set(bad), {}, [], {}
        self.deployments = None
        models = Models(lambda: self.deployments.take(), lambda one: self.deployments.retire(one))
        self.world = World(models=models, **limits)
        listener = ModelListener(
            refused=lambda arm, scenario, error: self.events.append(("refused", arm.version, error.reason)),
            retired=lambda one: self.events.append(("retired", one.ref.version, "")),
        )
        self.deployments = Deployments(self.world.servable, self.load, listener)

    def load(self, arm):
        if arm.version in self.bad:
            raise ModelRefused("golden", "it answers nonsense")
        ref = ModelRef(name=arm.model_name, version=arm.version, digest=arm.version)
        self.loaded[arm.version] = servable(FakeEngine(), ref, **self.more)
        return self.loaded[arm.version]

    def ask(self, count=1, **request):
        for number in range(count):
            self.world.ask(json.dumps({"input": "red shoes", **request}), key=b"user-%d" % number)

    def versions(self):
        """Model version and arm of every answer, in order."""
        return [(one.model.version, one.model.arm) for _, one in self.world.predictions()]


def test_a_deployment_answers_from_the_next_batch_on_and_the_old_model_goes():
    site = Site()
    site.ask()
    site.world.run()
    site.deployments.apply(record(arm(version="2")))
    site.ask()
    site.world.run()
    site.deployments.apply(record(arm(version="3")))
    site.ask()
    site.world.run()
    assert site.versions() == [("1", ""), ("2", "stable"), ("3", "stable")]
    assert site.loaded["2"].engine.closed
    assert not site.loaded["3"].engine.closed
    assert not site.world.engine.closed, "the worker's own model stays"
    assert site.events == [("retired", "2", "")]
    rows = [json.loads(one.value) for one in site.world.broker.of(TELEMETRY.name)]
    assert [one["models"][0].get("arm", "") for one in rows] == ["", "stable", "stable"]


def test_a_batch_ends_on_the_model_it_began_with():
    site = Site()
    site.deployments.apply(record(arm(version="2")))
    site.world.at_poll = {
        55: lambda: site.ask(20),
        53: lambda: setattr(site.world.compute, "held", True),
        50: lambda: site.deployments.apply(record(arm(version="3"))),
        40: lambda: (site.ask(20), setattr(site.world.compute, "held", False)),
    }
    site.world.run(60)
    assert len(site.world.outcomes()) == 40
    assert {version for version, _ in site.versions()} == {"2", "3"}
    assert len({str(one.request) for _, one in site.world.predictions()}) == 40
    assert site.events == [("retired", "2", "")]
    assert site.loaded["2"].engine.closed


def test_a_request_that_waits_for_its_image_is_answered_by_the_model_it_came_to():
    reads = InlineReads(held=True)
    picture = Item((), b"image", pixels=np.ones((3, 2, 2), np.float32), cost=5)
    site = Site(reads=reads)
    site.more = {"images": True, "read_image": lambda reference: picture}
    site.deployments.apply(record(arm(version="2")))
    site.world.ask(json.dumps({"input": [{"image": {"name": "1.png", "media_type": "image/png"}}]}))
    closed = []
    site.world.at_poll = {
        50: lambda: site.deployments.apply(record(arm(version="3"))),
        30: lambda: (closed.append(site.loaded["2"].engine.closed), setattr(reads, "held", False)),
    }
    site.world.run(60)
    assert closed == [False], "what waits for its image holds its model"
    assert site.versions() == [("2", "stable")]
    assert site.loaded["2"].engine.closed
    assert site.events == [("retired", "2", "")]


def test_one_bad_arm_refuses_the_whole_and_what_ran_goes_on():
    site = Site(bad={"9"})
    site.deployments.apply(record(arm(version="2")))
    site.deployments.apply(record(arm(version="3", share=0.5), arm("canary", "9", 0.5)))
    site.ask(5)
    site.world.run()
    assert site.versions() == [("2", "stable")] * 5
    assert site.events == [("refused", "9", "golden"), ("retired", "3", "")]
    assert site.loaded["3"].engine.closed
    assert not site.loaded["2"].engine.closed


def test_a_canary_gets_its_share_by_key_and_a_key_stays():
    site = Site(queue_requests_max=5_000)
    site.deployments.apply(record(arm(version="2", share=0.8), arm("canary", "3", 0.2)))
    site.ask(400)
    site.world.run(200)
    arms = {record.key: message.model.arm for record, message in site.world.predictions()}
    share = list(arms.values()).count("canary") / 400
    assert 0.14 < share < 0.26
    site.ask(400)
    site.world.run(200)
    again = {}
    for one, message in site.world.predictions()[-400:]:
        again[one.key] = message.model.arm
    assert again == arms


def test_a_growing_canary_keeps_its_keys():
    stable, canary = servable(), servable(ref=ModelRef(name="m", version="2"))

    def chosen(share):
        routes = [Route(stable, stable.ref, 1 - share), Route(canary, canary.ref, share)]
        table = RoutingTable(own_route(stable), {"search": routes})
        return {n for n in range(500) if table.choose("search", b"user-%d" % n, "")[0].servable is canary}

    assert chosen(0.0) == set()
    assert chosen(0.1) < chosen(0.3) < chosen(1.0) == set(range(500))
    assert point_of("search", b"a") != point_of("ads", b"a")


def test_requests_without_a_key_are_spread_and_each_stays():
    stable, canary = servable(), servable(ref=ModelRef(name="m", version="2"))
    routes = [Route(stable, stable.ref, 0.5), Route(canary, canary.ref, 0.5)]
    table = RoutingTable(own_route(stable), {"search": routes})

    def chosen(key):
        return [table.choose("search", key, f"c/t/0/{n}")[0].servable is canary for n in range(400)]

    assert 150 < sum(chosen(None)) < 250
    assert chosen(None) == chosen(None), "a request that comes again is computed by the same arm"
    assert len(set(chosen(b""))) == 1, "an empty key is a key"


def test_where_a_key_falls_is_the_same_in_every_process_and_release():
    """Recorded: workers of one group that do not agree would send a user now to one arm, now to the other."""
    assert point_of("search", b"user-1") == pytest.approx(0.4264706072103662, abs=1e-15)
    assert point_of("ads", b"user-1") == pytest.approx(0.6708230058974051, abs=1e-15)
    assert point_of("search", "шкаф".encode()) == pytest.approx(0.29616884633680846, abs=1e-15)
    assert point_of("search", b"") == pytest.approx(0.9517953593091386, abs=1e-15)


def test_a_shadow_computes_and_answers_nothing():
    site = Site()
    site.deployments.apply(record(arm(version="2"), arm("next", "3", 0.0, shadow=True)))
    site.ask(6)
    site.world.run()
    assert site.versions() == [("2", "stable")] * 6
    assert len(site.loaded["3"].engine.seen) > 0
    assert len(site.world.outcomes()) == 6, "a shadow is told to nobody"
    assert sum(site.world.committed().values()) == 6


def test_a_shadow_that_breaks_hurts_nobody_and_is_said_once_a_second(caplog):
    site = Site()
    site.deployments.apply(record(arm(version="2"), arm("next", "3", 0.0, shadow=True)))
    site.loaded["3"].engine.bug = {2417}
    site.ask(6)
    site.world.run()
    assert [type(one) for _, one in site.world.predictions()] == [InferenceAnswered] * 6
    [line] = [one.getMessage() for one in caplog.records if one.name == "inference_workers.answers.outcomes"]
    assert line.startswith("shadow next (m 3) failed on request cluster/topic-1/0/")
    assert "TypeError: nobody foresaw this" in line
    site.world.clock.advance(2.0)
    site.ask()
    site.world.run()
    assert caplog.messages[-1].endswith("(5 more failures were not logged)")


def test_a_tombstone_gives_the_scenario_back_to_the_workers_own_model():
    site = Site()
    site.deployments.apply(record(arm(version="2")))
    site.deployments.apply(record())
    site.ask()
    site.world.run()
    assert site.versions() == [("1", "")]


def test_a_rollback_loads_nothing_that_is_still_loaded():
    site = Site()
    site.deployments.apply(record(arm(version="2")))
    site.deployments.apply(record(arm(version="3", share=0.9), arm("old", "2", 0.1)))
    first = site.loaded["2"]
    site.deployments.apply(record(arm(version="2")))
    site.ask(3)
    site.world.run()
    assert site.loaded["2"] is first
    assert site.versions() == [("2", "stable")] * 3


def test_other_scenarios_are_left_alone():
    site = Site()
    site.deployments.apply(record(arm(version="2"), scenario="ads"))
    site.ask()
    site.ask(scenario="ads")
    site.world.run()
    assert sorted(site.versions()) == [("1", ""), ("2", "stable")]


@pytest.mark.parametrize(
    "value",
    [
        b"{}",
        b'{"scenario": "search", "arms": []}',
        b'{"scenario": "s", "arms": [{"arm": "a", "model": "m", "model_name": "m", "version": "1", "share": 0.5}]}',
    ],
)
def test_a_deployment_that_makes_no_sense_is_a_dead_letter(value):
    site = Site()
    with pytest.raises(DecodeError):
        site.deployments.apply(record(value=value))
    assert site.deployments.take() is None


@pytest.mark.timeout(20)
def test_a_model_that_a_table_in_the_making_needs_is_not_unloaded(until):
    site = Site()
    site.deployments.apply(record(arm(version="2")))
    assert site.deployments.take() is not None
    two, gate, loading = site.loaded["2"], threading.Event(), threading.Event()
    load = site.deployments._load

    def slow(wanted):
        loading.set()
        gate.wait(10)
        return load(wanted)

    site.deployments._load = slow
    making = threading.Thread(
        target=site.deployments.apply, args=(record(arm(version="2", share=0.5), arm("canary", "3", 0.5)),)
    )
    site.deployments.apply(record())
    assert site.deployments.take() is not None
    making.start()
    until(loading.is_set, "the other arm is being loaded")
    assert not site.deployments.retire(two)
    gate.set()
    making.join(10)
    assert not two.engine.closed
    assert two in site.deployments.take().servables()


def test_a_model_that_was_never_taken_over_is_let_go():
    site = Site()
    site.deployments.apply(record(arm(version="2")))
    site.deployments.apply(record(arm(version="3")))
    site.deployments.apply(record())
    site.ask(2)
    site.world.run()
    assert site.versions() == [("1", "")] * 2
    assert site.loaded["2"].engine.closed
    assert site.loaded["3"].engine.closed
    assert sorted(site.events) == [("retired", "2", ""), ("retired", "3", "")]


def test_shadows_give_way_to_every_other_request_and_are_few():
    site = Site(queue_requests_max=3_000)
    site.deployments.apply(record(arm(version="2"), arm("next", "3", 0.0, shadow=True)))
    site.world.compute.held = True
    order = []
    for version in ("2", "3"):
        engine = site.loaded[version].engine
        compute = engine.compute
        engine.compute = lambda items, version=version, compute=compute: (
            order.extend(version * len(items)) or compute(items)
        )
    for number in range(600):
        site.world.ask(json.dumps({"input": f"red shoes {number}"}), key=b"k%d" % number)
    site.world.at_poll = {380: lambda: setattr(site.world.compute, "held", False)}
    site.world.run(400)
    assert len(site.world.outcomes()) == 600
    first_shadow = order.index("3") if "3" in order else len(order)
    assert order[:first_shadow].count("2") > 550, "live requests go first"
    assert order.count("3") <= SHADOWS_MAX + 64


def test_shadows_are_not_made_while_half_of_what_may_be_held_waits():
    def seen(count):
        site = Site(queue_requests_max=40)
        site.deployments.apply(record(arm(version="2"), arm("next", "3", 0.0, shadow=True)))
        site.world.compute.held = True
        for number in range(count):
            site.world.ask(json.dumps({"input": f"red shoes {number}"}), key=b"k%d" % number)
        site.world.at_poll = {80: lambda: setattr(site.world.compute, "held", False)}
        site.world.run(100)
        assert len(site.world.outcomes()) == count
        return sum(map(len, site.loaded["3"].engine.seen))

    assert seen(19) == 19
    assert seen(150) <= 64, "of those that come first, before the others are seen to wait"


def test_nobody_following_deployments_any_more_ends_the_worker():
    site = Site()
    site.deployments.fail(RuntimeError("nobody foresaw this"))
    site.ask()
    with pytest.raises(RuntimeError, match="nobody foresaw"):
        site.world.run()
    assert site.world.committed() == {}


def test_lanes_of_arms_that_are_gone_are_forgotten():
    site = Site()
    for number in range(20):
        site.deployments.apply(record(arm(f"a{number}", "2")))
        site.ask()
        site.world.run(20)
    assert len(site.world.lanes._lanes) <= 2
