"""The compute thread: results by ticket, failures isolated, a lost device ends it."""

import pytest

from inference_workers.batching import BatchLimit, Waiting, plan_batch
from inference_workers.compute import ComputeThread, Fault, Vector, compute
from inference_workers.ports import DeviceLost
from tests.fakes import FakeClock
from tests.unit.inference_workers.stand_ins import FakeEngine

LIMIT = BatchLimit(64, 8, 0)


def batch_of(*members):
    """Sequences by member and input, and their plan."""
    plan = plan_batch([Waiting(tuple(map(len, one)), 0) for one in members], LIMIT, 0, only_full=False)
    return plan, [members[i] for i in plan.members]


def test_results_come_in_the_members_order_whatever_the_passes():
    long, short = [[0, 7, *[0] * 30]] * 3, [[0, 8]]
    for members in ([long], [short, [[0, 9, 0]]]):
        plan, sequences = batch_of(*members)
        done = compute(FakeEngine(), FakeClock(), 64, plan, sequences)
        firsts = [[row[1] for row in one.vectors] for one in done.results]
        assert firsts == [[one[1] for one in member] for member in members]
    assert done.tokens_computed == 5


def test_only_the_member_that_fails_fails():
    members = [[[0, i, 0]] for i in range(1, 8)]
    plan, sequences = batch_of(*members)
    engine = FakeEngine(broken={5})
    done = compute(engine, FakeClock(), 64, plan, sequences)
    assert [type(one) for one in done.results] == [Vector] * 4 + [Fault] + [Vector] * 2
    assert engine.calls <= 2 * len(members)


def test_equal_faults_have_equal_fingerprints():
    plan, sequences = batch_of([[0, 5]], [[0, 6]])
    one, two = compute(FakeEngine(broken={5, 6}), FakeClock(), 64, plan, sequences).results
    [other] = compute(FakeEngine(nan={5}), FakeClock(), 64, *batch_of([[0, 5]])).results
    assert one.fingerprint == two.fingerprint != other.fingerprint


@pytest.mark.timeout(20)
def test_the_thread_computes_and_hands_over_what_ends_it(until):
    thread = ComputeThread(FakeEngine(), FakeClock(), 64)
    thread.submit(7, *batch_of([[0, 5]]))
    assert thread.under_way() == 1
    [(ticket, done)] = until(thread.collect, "the batch is computed")
    assert (ticket, thread.under_way(), len(done.results)) == (7, 0, 1)

    def lost():
        raise DeviceLost("device-side assert")

    broken = ComputeThread(FakeEngine(), FakeClock(), 64, delay=lost)
    broken.submit(1, *batch_of([[0, 5]]))
    with pytest.raises(DeviceLost):
        until(broken.collect, "the loss is handed over")
    thread.close()
