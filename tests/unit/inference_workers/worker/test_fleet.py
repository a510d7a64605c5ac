"""The models of a worker: what holds already is loaded first, and each verdict is published."""

import threading

import pytest

from inference_workers.loading.load import Loaded
from inference_workers.models.verdicts import LoadFacts, LoadingStopped, ModelRefused, Refusal
from inference_workers.worker.fleet import Fleet
from infra.ports import RetryLater
from schemas.base import DecodeError, decode
from schemas.deployments import MODEL_EVENT_KINDS, Arm, Verdict
from schemas.predictions import ModelRef
from schemas.topics import DEPLOYMENTS, MODEL_EVENTS
from tests.fakes import FakeBroker, FakeClock, FakePublisher, FakeRangeReader
from tests.unit.inference_workers.deployments.test_deployments import arm, record
from tests.unit.inference_workers.stand_ins import servable


def reader_of(site, *records):
    """A reader of these deployments."""
    for one in records:
        site.broker.append(DEPLOYMENTS.name, one.value, key=one.key, partition=0, headers=one.headers)
    return FakeRangeReader(site.broker)


class Site:
    def __init__(self, bad=()):
        self.clock, self.bad, self.loaded, self.stopped = FakeClock(), bad, [], False
        self.broker = FakeBroker(self.clock, partitions=1)
        self.publisher = FakePublisher(self.broker)
        own = servable()
        self.fleet = Fleet(
            Loaded(own, LoadFacts(own.ref, "/own", 12.0)), self.load, self.publisher, self.clock, "w", lambda: bytes(10)
        )

    def load(self, wanted):
        if self.stopped:
            raise LoadingStopped
        self.loaded.append(wanted.version)
        facts = LoadFacts(ModelRef(name=wanted.model_name, version=wanted.version, digest="d"), wanted.model, 34.0)
        if wanted.version in self.bad:
            error = ModelRefused(Refusal.GOLDEN, "it answers nonsense")
            error.facts = facts
            raise error
        return Loaded(servable(ref=facts.ref), facts)

    def events(self):
        found = [decode(one.headers, one.value, MODEL_EVENT_KINDS).data for one in self.broker.of(MODEL_EVENTS.name)]
        return [(one.verdict, one.model.version, one.model.arm, one.scenarios, one.reason) for one in found]


OWN = (Verdict.READY, "1", "", [], "")


def test_what_holds_is_loaded_before_the_group_is_joined_the_last_of_a_scenario_only():
    site = Site()
    reader = reader_of(
        site,
        record(arm(version="2")),
        record(arm(version="3"), scenario="ads"),
        record(arm(version="4")),
        record(scenario="ads"),
    )
    assert site.fleet.read_held(reader, (0, 4), lambda *broken: None) == 4
    assert site.loaded == ["4"]
    table = site.fleet.deployments.table
    assert [one.ref.version for one in table.scenarios["search"]] == ["4"]
    assert "ads" not in table.scenarios
    assert site.events() == [OWN, (Verdict.READY, "4", "stable", ["search"], "")]


def test_a_worker_that_starts_answers_with_what_ran_before_a_deployment_that_is_refused():
    site = Site(bad={"3"})
    reader = reader_of(site, record(arm(version="2")), record(arm(version="3"), previous=[arm(version="2")]))
    site.fleet.read_held(reader, (0, 2), lambda *broken: None)
    assert site.loaded == ["3", "2"]
    assert [one.ref.version for one in site.fleet.deployments.table.scenarios["search"]] == ["2"]
    assert site.events() == [
        OWN,
        (Verdict.REFUSED, "3", "stable", ["search"], "golden"),
        (Verdict.READY, "2", "stable", ["search"], ""),
    ]


def test_a_worker_that_runs_keeps_what_it_has_and_not_what_a_refused_deployment_calls_the_arms_before():
    site = Site(bad={"3"})
    site.fleet.deployments.apply(record(arm(version="2")))
    site.fleet.deployments.apply(record(arm(version="3"), previous=[arm(version="1")]))
    assert site.loaded == ["2", "3"]
    assert [one.ref.version for one in site.fleet.deployments.table.scenarios["search"]] == ["2"]


@pytest.mark.parametrize("previous", [[], [arm(version="4")], [arm(share=0.0, shadow=True)]])
def test_without_usable_arms_before_the_workers_own_model_answers(previous):
    site = Site(bad={"3", "4"})
    reader = reader_of(site, record(arm(version="3"), previous=previous))
    site.fleet.read_held(reader, (0, 1), lambda *broken: None)
    assert site.fleet.deployments.table.scenarios == {}


def test_a_broken_one_is_handed_over_and_the_others_hold():
    site, broken = Site(), []
    reader = reader_of(site, record(value=b"{"), record(arm(version="2"), scenario="ads"))
    site.fleet.read_held(reader, (0, 2), lambda *one: broken.append(one))
    assert len(broken) == 1
    assert list(site.fleet.deployments.table.scenarios) == ["ads"]


def test_a_worker_that_starts_passes_a_broken_one_over_as_those_that_run_have(caplog):
    """Whether it cannot be read (with what held before it still there), or is one too many."""
    running, starting, letters = Site(), Site(), []
    broken = record(value=b"{")
    running.fleet.deployments.apply(record(arm(version="2")))
    with pytest.raises(DecodeError):
        running.fleet.deployments.apply(broken)
    starting.fleet.read_held(
        reader_of(starting, record(arm(version="2")), broken), (0, 2), lambda one, error: letters.append(one.offset)
    )
    for site in (running, starting):
        assert [one.ref.version for one in site.fleet.deployments.table.scenarios["search"]] == ["2"]
    assert letters == [1]
    assert "deployments: the record at offset 1 cannot be used" in caplog.text


def test_no_more_scenarios_are_deployed_than_can_be_held(monkeypatch):
    monkeypatch.setattr("inference_workers.deployments.switching.SCENARIOS_MAX", 2)
    site, letters = Site(), []
    reader = reader_of(site, *(record(arm(version=one), scenario=f"s{one}") for one in "234"))
    site.fleet.read_held(reader, (0, 3), lambda one, error: letters.append(one.offset))
    assert site.fleet.deployments.table.scenarios.keys() == {"s2", "s3"}
    assert (site.loaded, letters) == (["2", "3"], [2])
    site.fleet.deployments.apply(record(arm(version="5"), scenario="s3"))
    assert [one.ref.version for one in site.fleet.deployments.table.scenarios["s3"]] == ["5"], "one that is there may"


def test_deployments_that_do_not_come_do_not_hold_the_worker_up():
    site = Site()
    reader = reader_of(site, record(arm(version="2")), record(arm(version="3")))
    assert site.fleet.read_held(reader, (0, 5), lambda *broken: None) == 2
    assert site.loaded == ["3"]


def test_where_the_topic_ends_in_a_gap_is_no_wait_and_no_second_look():
    site = Site()
    reader = reader_of(site, record(arm(version="2")))
    site.broker.append_gap(DEPLOYMENTS.name, 0)
    began = site.clock.monotonic()
    assert site.fleet.read_held(reader, (0, 2), lambda *broken: None) == 2
    assert site.clock.monotonic() == began


def test_a_broker_that_refuses_is_no_reason_to_begin_with_the_wrong_models():
    site = Site()
    reader = reader_of(site, record(arm(version="2")))
    reader.fail = [RetryLater("not authorized")]
    with pytest.raises(RetryLater, match="not authorized"):
        site.fleet.read_held(reader, (0, 1), lambda *broken: None)


def test_each_verdict_is_published_with_what_was_found():
    site = Site(bad={"3"})
    deployments = site.fleet.deployments
    deployments.apply(record(arm(version="2")))
    deployments.apply(record(arm(version="3")))
    two = deployments.table.scenarios["search"][0].servable
    deployments.apply(record())
    deployments.take()
    assert deployments.retire(two)
    assert site.events() == [
        OWN,
        (Verdict.READY, "2", "stable", ["search"], ""),
        (Verdict.REFUSED, "3", "stable", ["search"], "golden"),
        (Verdict.RETIRED, "2", "", [], ""),
    ]
    last = site.broker.of(MODEL_EVENTS.name)[2]
    event = decode(last.headers, last.value, MODEL_EVENT_KINDS).data
    assert (event.message, event.load_ms, last.key) == ("it answers nonsense", 34.0, b"w")


@pytest.mark.parametrize("error", [RetryLater("full"), ValueError("?")])
def test_an_event_that_cannot_be_sent_stops_nothing(error):
    site = Site()

    def publish(*args, **more):
        raise error

    site.publisher.publish = publish
    site.fleet.deployments.apply(record(arm(version="2")))
    assert "search" in site.fleet.deployments.table.scenarios
    assert isinstance(arm(), Arm)


class OneRecord:
    """A tail that gives one record, and then stops the process."""

    def __init__(self, one, stop):
        self.one, self.stop, self.closed = one, stop, threading.Event()

    def poll(self, count_max, timeout_seconds):
        self.stop.set()
        return [self.one]

    def close(self):
        self.closed.set()


def test_a_stop_while_a_deployment_is_loaded_is_no_failure_and_no_refusal():
    site, stop = Site(), threading.Event()
    site.stopped = True
    tail = OneRecord(record(arm(version="2")), stop)
    site.fleet.follow(lambda: tail, stop, lambda *broken: None)
    assert tail.closed.wait(10), "it followed in order to the end"
    assert site.fleet.deployments.take() is None
    assert site.events() == [OWN]
    with pytest.raises(LoadingStopped):  # a worker that starts ends with it
        site.fleet.read_held(reader_of(site, record(arm(version="3"))), (0, 1), lambda *broken: None)
