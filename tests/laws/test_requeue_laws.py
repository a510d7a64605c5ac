"""Whatever dies between any two steps of a requeue, and however often it is run: each record is put back once."""

import contextlib
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.ports import RetryLater
from infra.repair.letters import Filter, letters_in
from infra.repair.requeue import LEASE_MS, Fate, Requeue
from schemas.requeues import FROM_HEADER, ID_HEADER
from schemas.topics import REQUESTS, REQUEUES
from tests.dead_letter_records import buried
from tests.fakes import FakeBroker, FakeClock


class Died(BaseException):
    """The process was killed."""


@dataclass
class Script:
    """What happens to the publisher's next records: `store` whether the broker takes it, `then` what comes after."""

    steps: list[tuple[bool, str]]

    def next(self):
        return self.steps.pop(0) if self.steps else (True, "delivered")


class Publisher:
    """Appends to the broker, and dies, fails or stays silent as scripted."""

    def __init__(self, broker, script):
        self.broker, self.script, self.silent = broker, script, 0

    def publish(self, topic, value, *, key=None, partition=None, headers=(), on_delivery=None):
        stored, then = self.script.next()
        record = self.broker.append(topic, value, key=key, partition=partition, headers=headers) if stored else None
        if then == "dies":
            raise Died
        if then == "silent":
            self.silent += 1
        elif stored:
            on_delivery(record.offset, None)
        else:
            on_delivery(None, RetryLater("no leader"))

    def flush(self, timeout_seconds):
        return self.silent

    def close(self, timeout_seconds=10.0):
        return 0


class Logs:
    def __init__(self, broker):
        self.broker = broker

    def markers(self, first):
        return iter([record for record in self.broker.of(REQUEUES.name) if record.offset >= first])

    def end(self, topic, partition):
        return len(self.broker.records[topic, partition])

    def since(self, topic, partition, first):
        return iter(self.broker.records[topic, partition][first:])


class World:
    def __init__(self, letters=4):
        self.clock = FakeClock()
        self.broker = FakeBroker(self.clock, partitions=4)
        for number in range(5):
            self.broker.append(REQUESTS.name, b"before", partition=number % 4)
        records = [buried(b"value %d" % number, partition=number % 4, offset=number) for number in range(letters)]
        # One was buried twice: its process died in between.
        self.letters = list(letters_in(iter([*records, records[0]]), Filter()))
        self.runs = 0

    def run(self, script=(), letters=None):
        self.runs += 1
        run = Requeue(
            Publisher(self.broker, Script(list(script))), Logs(self.broker), self.clock, run_id=f"run-{self.runs}"
        )
        run.read()
        return list(run.run(self.letters if letters is None else letters))

    def put_back(self):
        """Values of records that carry a requeue's header, and how often each is there."""
        found = {}
        for record in self.broker.of(REQUESTS.name):
            if any(name == ID_HEADER for name, _ in record.headers):
                found[record.value] = found.get(record.value, 0) + 1
        return found


steps = st.tuples(st.booleans(), st.sampled_from(["delivered", "delivered", "dies", "silent"]))


@given(st.lists(st.lists(steps, max_size=14), max_size=6))
def test_each_record_is_put_back_once_whatever_dies(scripts):
    world = World()
    for script in scripts:
        with contextlib.suppress(Died, RetryLater):
            world.run(script)
        world.clock.advance(LEASE_MS / 1000 + 1)
        assert set(world.put_back().values()) <= {1}
    world.run()
    assert world.put_back() == {b"value %d" % number: 1 for number in range(4)}
    again = world.run()
    assert {one.fate for one in again} == {Fate.BEFORE}
    assert set(world.put_back().values()) == {1}


def test_a_record_goes_back_as_it_was_with_its_origin_beside_it():
    world = World()
    results = world.run()
    assert [one.fate for one in results] == [Fate.REQUEUED] * 4
    record = world.broker.records[REQUESTS.name, 2][results[2].offset]
    assert (record.key, record.value) == (b"user", b"value 2")
    assert record.headers[0] == ("ce_id", b"a")
    assert dict(record.headers[1:]) == {
        FROM_HEADER: b"inference.requests/2/2",
        ID_HEADER: world.letters[2].requeue_id.encode(),
    }


def test_what_another_run_has_just_begun_is_left_alone():
    world = World(1)
    with pytest.raises(Died):
        world.run([(True, "dies")])  # its first marker is there, nothing else
    (result,) = world.run()
    assert result.fate is Fate.IN_PROGRESS
    assert "try again in 60 s" in result.why
    assert world.put_back() == {}
    world.clock.advance(LEASE_MS / 1000 + 1)
    assert [one.fate for one in world.run()] == [Fate.REQUEUED]


def test_of_two_runs_at_once_the_first_goes_on():
    world = World(2)
    inner = []

    class Interrupted(Logs):
        """Another run works from its first to its last step after ours has read the markers and before it begins."""

        def end(self, topic, partition):
            if not inner:
                inner.append(None)
                inner.extend(world.run())
            return super().end(topic, partition)

    run = Requeue(Publisher(world.broker, Script([])), Interrupted(world.broker), world.clock, "outer")
    run.read()
    results = list(run.run(world.letters))
    assert {one.fate for one in results} == {Fate.IN_PROGRESS}
    assert {one.fate for one in inner[1:]} == {Fate.REQUEUED}
    assert set(world.put_back().values()) == {1}


def test_a_run_that_stood_still_puts_nothing_back():
    world = World(1)

    class Stopped(Logs):
        def markers(self, first):
            world.clock.advance(45)
            return super().markers(first)

    run = Requeue(Publisher(world.broker, Script([])), Stopped(world.broker), world.clock, "slow")
    run.read()
    assert [one.fate for one in run.run(world.letters)] == [Fate.IN_PROGRESS]
    assert world.put_back() == {}


def test_without_markers_the_law_does_not_hold():
    """The negative control: a run that cannot see the markers puts everything back again."""
    world = World()
    world.run()

    class Blind(Logs):
        def markers(self, first):
            return (record for record in super().markers(0) if b'"run_id":"blind"' in record.value)

    run = Requeue(Publisher(world.broker, Script([])), Blind(world.broker), world.clock, "blind")
    run.read()
    list(run.run(world.letters))
    assert set(world.put_back().values()) == {2}
