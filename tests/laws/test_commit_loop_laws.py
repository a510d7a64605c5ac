"""What the commit loop promises under any schedule of failures, late confirmations, rebalances and crashes.

A record is in the outside world before its offset is committed, and after a restart nothing is missing.
"""

import threading

from hypothesis import given
from hypothesis import strategies as st

from infra.batch_loop import BatchLoop, LoopLimit
from infra.outbox import Outbox, Outgoing
from infra.ports import RetryLater
from tests.fakes import FakeBroker, FakeClock, FakeLog, FakePublisher

TOPIC, GROUP = "in", "g"
ACTS = st.sampled_from(["nothing", "fail", "hold", "release", "revoke", "assign", "crash", "away", "full"])


class Crash(Exception):
    """Ends a process."""


class Echo:
    """A Work that answers each record twice, some steps later, in an order of its own."""

    def __init__(self, clock, order):
        self.clock, self.order = clock, order
        self.queue, self.started, self.full = [], [], False

    def assigned(self, partitions):
        pass

    def dropped(self, partitions):
        self.queue = [one for one in self.queue if (one[0].topic, one[0].partition) not in partitions]

    def accept(self, records):
        self.queue.extend(records)

    def step(self, outbox, *, start):
        for record, receipt in self.started:
            if receipt.is_alive():
                for part in (b"a", b"b"):
                    outbox.send(Outgoing("out", part, record.key, record.partition), [receipt])
        self.started = []
        if start:
            for _ in range(min(3, len(self.queue))):
                self.started.append(self.queue.pop(next(self.order) % len(self.queue)))
        return 0.01

    def is_full(self):
        return self.full

    def gathers(self):
        return bool(self.started)

    def under_way(self):
        return len(self.started)

    def waiting(self):
        return len(self.queue)


def run_once(broker, acts, order):
    """One process: runs until its acts are over; a crash leaves as it is."""
    clock, stop = broker.clock, threading.Event()
    publisher = FakePublisher(broker)
    work = Echo(clock, order)
    acts = iter(acts)

    def open_log(assigned, revoked):
        log = FakeLog(broker, group=GROUP, topics=[TOPIC], on_assigned=assigned, on_revoked=revoked)
        poll, commit = log.poll, log.commit

        def acted(count_max, timeout_seconds):
            act = next(acts, None)
            if act is None:
                publisher.hold = False
                publisher.release()
                work.full = False
                stop.set()
            elif act == "crash":
                log.close = lambda: None
                raise Crash
            elif act == "fail":
                publisher.fail.append(RetryLater("away"))
            elif act == "away":
                log.fail.append(RetryLater("away"))
            elif act in ("hold", "release"):
                publisher.hold = act == "hold"
                publisher.release()
            elif act == "full":
                work.full = not work.full
            elif act in ("revoke", "assign"):
                getattr(log, act)({(TOPIC, 0)})
            found = poll(count_max, timeout_seconds)
            check(broker)
            return found

        def committed():
            commit()
            check(broker)

        log.poll, log.commit = acted, committed
        return log

    limit = LoopLimit(deliveries_per_record=2, poll_records_max=4)
    loop = BatchLoop(open_log, Outbox(publisher, clock), work, clock, limit, stop=stop, wait=clock.advance)
    try:
        loop.run()
    except Crash:
        return
    check(broker)


def delivered(broker):
    """{key: set of parts} of what is durable."""
    found = {}
    for record in broker.of("out"):
        found.setdefault(record.key, set()).add(record.value)
    return found


def check(broker):
    out = delivered(broker)
    for (_, topic, partition), next_offset in broker.committed.items():
        for record in broker.records[topic, partition][:next_offset]:
            assert out.get(record.key) == {b"a", b"b"}, f"{record.partition}/{record.offset} is committed but not done"


@given(
    st.lists(st.lists(ACTS, max_size=25), min_size=1, max_size=4),
    st.integers(0, 30),
    st.randoms(use_true_random=False),
)
def test_what_is_committed_is_durable_and_nothing_is_lost(runs, count, random):
    broker = FakeBroker(FakeClock())
    for i in range(count):
        broker.append(TOPIC, b"x", key=b"%d" % i, partition=i % 2)
    order = iter(lambda: random.randrange(100), None)
    for acts in runs:
        run_once(broker, acts, order)
    run_once(broker, ["nothing"] * 60, order)
    assert delivered(broker) == {b"%d" % i: {b"a", b"b"} for i in range(count)}
    assert sum(broker.committed.values()) == count


def test_the_checker_sees_a_commit_that_came_too_early():
    """Negative control: with the protection off, the law fails."""
    broker = FakeBroker(FakeClock())
    broker.append(TOPIC, b"x", key=b"0", partition=0)
    broker.committed[GROUP, TOPIC, 0] = 1
    try:
        check(broker)
    except AssertionError:
        return
    raise AssertionError("the checker is blind")
