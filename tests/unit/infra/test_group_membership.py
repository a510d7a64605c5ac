"""A member that polls stays in its group, and one that does not holds a rebalance up for 30 s and no longer."""

import itertools
import threading

import pytest

from inference_workers.answers.earlier import READ_SECONDS_MAX
from infra.batch_loop import BatchLoop, LoopLimit
from infra.kafka import KafkaLog, log
from infra.kafka.log import REBALANCE_MS
from infra.outbox import Outbox
from infra.ports import RetryLater
from infra.settings import KafkaSettings
from tests.fakes import FakeBroker, FakeClock, FakeLog, FakePublisher

PLACE = ("t", 0)
NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:9")


def joined(settings, **options):
    return KafkaLog(settings, group="g", topics=["t"], client_id="c", **options)


@pytest.fixture
def configs(monkeypatch):
    """What consumers are made with, each still made by the client itself, which refuses what does not fit together."""
    seen, real = [], log.Consumer

    def make(config, **others):
        seen.append(config)
        return real(config, **others)

    monkeypatch.setattr(log, "Consumer", make)
    return seen


def test_a_members_rebalances_are_limited(configs):
    joined(NOWHERE).close()
    assert REBALANCE_MS == 30_000
    assert configs[0]["max.poll.interval.ms"] == REBALANCE_MS
    assert configs[0]["session.timeout.ms"] == NOWHERE.session_timeout_ms < REBALANCE_MS


def test_a_session_that_is_longer_than_the_limit_still_fits(configs):
    joined(NOWHERE, session_timeout_ms=45_000).close()
    assert configs[0]["max.poll.interval.ms"] == 135_000
    assert configs[0]["session.timeout.ms"] == 45_000


class Work:
    """Has something under way that never ends, and wants to be asked again in an hour."""

    def __init__(self):
        self.clock = FakeClock()

    def step(self, outbox, *, start):
        return 3_600.0

    def accept(self, records):
        pass

    assigned = dropped = accept

    def is_full(self):
        return False

    def gathers(self):
        return True

    def under_way(self):
        return 1

    def waiting(self):
        return 0


def gaps_of(happens, polls=60):
    """The seconds between the polls of a loop, to whose log something `happens` at the tenth."""
    clock, stop, at = FakeClock(), threading.Event(), []
    broker = FakeBroker(clock)

    def opened(assigned, revoked):
        member = FakeLog(broker, group="g", topics=["t"], on_assigned=assigned, on_revoked=revoked)
        polled = member.poll

        def poll(count_max, timeout_seconds):
            at.append(clock.monotonic())
            if len(at) == 10:
                happens(member)
            if len(at) >= polls:
                stop.set()
            return polled(count_max, timeout_seconds)

        member.poll = poll
        return member

    publisher = FakePublisher(broker)
    loop = BatchLoop(opened, Outbox(publisher, clock), Work(), clock, LoopLimit(1), stop=stop, wait=clock.advance)
    loop.run()
    assert len(at) == polls
    return [later - before for before, later in itertools.pairwise(at)]


def nothing(member):
    pass


def records(member):
    for _ in range(500):
        member.broker.append("t", b"x", partition=0)


def troubles(member):
    member.fail = [RetryLater("away")] * 40


def taken_away(member):
    member.revoke({PLACE})
    member.assign({PLACE})


@pytest.mark.parametrize("happens", [nothing, records, troubles, taken_away])
def test_a_loop_polls_often_whatever_happens(happens):
    """`Log.poll` is to be called every few seconds. What may come between two polls besides is bounded in itself."""
    longest = max(gaps_of(happens))
    assert longest + READ_SECONDS_MAX < REBALANCE_MS / 1000 / 1.5


def test_the_gaps_are_seen():
    def asleep(member):
        member.broker.clock.advance(31.0)

    assert max(gaps_of(asleep)) > REBALANCE_MS / 1000
