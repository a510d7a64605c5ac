"""A ledger that stands still while the job beside it is well: seen by the process's health, and by who watches it."""

import threading

import pytest

from infra.health import HealthPolicy, Readiness, Together
from infra.ports import RetryLater
from infra.settings import KafkaSettings
from infra.up.watchdog import Health, Seen, State, Watchdog, WatchdogPolicy
from schemas.topics import REQUESTS
from stream_jobs import ledger_cli
from stream_jobs.ledger import ledger_job
from stream_jobs.settings import JobSettings
from stream_jobs.stall_watch import STALLED_LOOKS, StallWatch, look
from tests.fakes import FakeBroker, FakeClock, FakePublisher

POLICY = HealthPolicy(turn_seconds=60.0)
BREATH_SECONDS = 0.001


class Members:
    """A group of one, which is given its partition at the first poll."""

    def __init__(self, settings, *, on_assigned, **others):
        self._on_assigned, self._owned = on_assigned, set()

    def poll(self, count_max, timeout_seconds):
        if not self._owned:
            self._owned = {(REQUESTS.name, 0)}
            self._on_assigned(self._owned)
        return []

    def assignment(self):
        return set(self._owned)

    def pause(self, partitions):
        pass

    def store(self, topic, partition, next_offset):
        pass

    def close(self):
        pass


class Cluster:
    """Topics of one empty partition; `away` makes it refuse questions about ends."""

    def __init__(self, *_, **__):
        self.cluster_id, self.away, self.refused = "c", False, 0

    def topic_id(self, topic):
        return "t"

    def partitions(self, topic):
        return 1

    def ranges(self, topic):
        return {0: (0, 0)}

    def ends(self, counts):
        if self.away:
            self.refused += 1
            raise RetryLater("away")
        return {topic: {0: 0} for topic in counts}


class Store:
    """A StateStore on a FakeBroker whose appends hang while `free` is not set."""

    def __init__(self, *_, **__):
        self.broker, self.free, self.hangs = FakeBroker(), threading.Event(), threading.Event()
        self.free.set()

    def append(self, partition, records):
        if not self.free.is_set():
            self.hangs.set()
            assert self.free.wait(60)
        return [self.broker.append("state", value, key=key, partition=partition).offset for key, value in records]

    def read(self, partition, start, through):
        return iter(self.broker.held("state", partition, min(start, through), through + 1))


class Tail:
    """An empty log's."""

    def __init__(self, *_, **__):
        self._breath = threading.Event()

    def poll(self, count_max, timeout_seconds):
        self._breath.wait(BREATH_SECONDS)  # the others want the interpreter, too
        return []

    def close(self):
        pass


class World:
    """A score job that is well with a ledger beside it, on stand-ins."""

    def __init__(self):
        self.clock, self.ended = FakeClock(), []
        self.job, self.ledger = Readiness(POLICY, 0.0), Readiness(POLICY, 0.0)
        self.running = ledger_cli.start_ledger(
            JobSettings(),
            KafkaSettings(bootstrap_servers="127.0.0.1:9"),
            FakePublisher(FakeBroker(self.clock)),
            self.clock,
            "test",
            self.ended.append,
            self.ledger,
        )
        self.keeper = self.running.job
        self.health = Together({"job": self.job, "ledger": self.ledger})

    def live(self):
        """What `/health/live` says; the job beside it beats."""
        self.job.joined(self.clock.monotonic())
        return self.health.live(self.clock.monotonic())

    def rounds(self):
        return self.keeper.progress({}).done

    def looks(self, count):
        """What the process's own watch says in so many looks; of the job, nothing."""
        watch = {"ledger": (self.keeper, StallWatch())}
        return [look(watch, Cluster(), [], {}) for _ in range(count)]


@pytest.fixture
def world(monkeypatch):
    monkeypatch.setattr("infra.kafka.KafkaCluster", Cluster)
    for name, stand_in in (
        ("KafkaLog", Members),
        ("KafkaCluster", Cluster),
        ("KafkaStateStore", Store),
        ("KafkaTail", Tail),
    ):
        monkeypatch.setattr(ledger_job, name, stand_in)
    world = World()
    yield world
    world.keeper._store.free.set()
    world.running.finish()


def test_a_ledger_with_nothing_to_read_is_well(world, until):
    until(lambda: world.rounds() > 5, "rounds")
    before = world.rounds()
    until(lambda: world.rounds() > before, "another round")
    assert world.live().good
    assert world.health.ready(world.clock.monotonic()).good
    assert world.keeper.progress({}).behind == 1
    world.running.finish()
    assert world.keeper.progress({}) is None
    assert world.ended == []


def test_a_ledger_that_hangs_is_seen_and_the_process_is_started_again(world, until):
    until(lambda: world.rounds() > 2, "rounds")
    world.keeper._store.free.clear()
    world.clock.advance(60.0)  # a save is due
    until(world.keeper._store.hangs.is_set, "it hangs")
    assert world.live().good, "not for a moment's silence"
    world.clock.advance(POLICY.turn_seconds + 1)
    dead = world.live()
    assert not dead.good
    assert dead.words == "ledger: the loop has not come round for 61 s"
    assert world.health.ready(world.clock.monotonic()).words == dead.words

    dog, idle = Watchdog(WatchdogPolicy()), Seen({}, 0, 0.0, True, False, Health(dead.good, dead.words))
    said = [dog.look(idle) for _ in range(WatchdogPolicy().dead_looks)]
    assert said[-1].state is State.RESTART
    assert "ledger" in said[-1].words

    own = world.looks(STALLED_LOOKS + 1)
    assert set(own[:-1]) == {""}
    assert own[-1] == "ledger: nothing was done in 18 looks, though 1 books are there and Kafka answers"

    before = world.rounds()
    world.keeper._store.free.set()
    until(lambda: world.rounds() > before + 1, "it goes on")
    assert world.live().good


def test_a_ledger_that_comes_round_and_gets_nothing_done_is_seen_too(world, until):
    until(lambda: world.rounds() > 2, "rounds")
    world.keeper._cluster.away = True
    world.clock.advance(5.0)  # it must tell how the books stand
    until(lambda: world.keeper._cluster.refused, "it is refused")
    assert world.live().good  # it is no hang
    assert "nothing was done" in world.looks(STALLED_LOOKS + 1)[-1]
    world.keeper._cluster.away = False
    before = world.rounds()
    until(lambda: world.rounds() > before, "it goes on")
    assert set(world.looks(1)) == {""}


class Ending:
    """A ledger that ends although nobody told it to."""

    def __init__(self, error=None):
        self._error = error

    def run(self, stop):
        if self._error is not None:
            raise self._error

    def progress(self, ranges):
        return None


@pytest.mark.parametrize("error", [None, ValueError("broken"), SystemExit(0)])
def test_a_ledger_whose_thread_ends_by_itself_ends_the_process(error, until):
    ended = []
    running = ledger_cli.RunningLedger(Ending(error), ended.append)
    until(lambda: ended, "its end is told")
    assert ended[0] is error or "ended by itself" in str(ended[0])
    running.finish()


def test_a_ledger_that_is_told_to_end_is_no_fault():
    class Obedient(Ending):
        def run(self, stop):
            assert stop.wait(60)

    ended = []
    ledger_cli.RunningLedger(Obedient(), ended.append).finish()
    assert ended == []
