"""The compute thread: results by ticket, failures isolated, a lost device ends it."""

import time

import numpy as np
import pytest

from inference_workers.batching.compute import ComputeThread, Fault, MemoryLooks, Row, compute
from inference_workers.batching.planner import arrange
from inference_workers.ports import DeviceLost, Forward, Item
from tests.fakes import FakeClock
from tests.unit.inference_workers.stand_ins import FakeEngine


def item(*ids):
    return Item(ids, b",".join(b"%d" % one for one in ids), cost=len(ids))


def run(engine, *ids, tokens_max=64):
    return compute(engine, FakeClock(), arrange([[item(*one)] for one in ids], tokens_max))


def test_results_come_in_the_items_order_whatever_the_passes():
    long = [0, 7, *[0] * 30]
    done = run(FakeEngine(), long, [0, 8], [0, 9, 0], [*long, 1], tokens_max=40)
    assert [row.value[1] for row in done.results] == [7, 8, 9, 7]
    assert [row.value[0] for row in done.results] == [32, 2, 3, 33]
    assert done.tokens_computed == 70


def test_only_the_item_that_fails_fails():
    engine = FakeEngine(broken={5})
    done = run(engine, *([0, i, 0] for i in range(1, 8)))
    assert [type(one) for one in done.results] == [Row] * 4 + [Fault] + [Row] * 2
    assert engine.calls <= 14


def test_an_item_of_nan_fails_alone_and_without_another_pass():
    engine = FakeEngine(nan={5})
    done = run(engine, [0, 4], [0, 5], [0, 6])
    assert [getattr(one, "code", "") for one in done.results] == ["", "non_finite_output", ""]
    assert engine.calls == 1


@pytest.mark.parametrize("rows", [np.zeros((3, 2), np.float32), np.zeros(2, np.float32), []])
def test_another_shape_than_asked_for_is_no_answer(rows):
    class Odd(FakeEngine):
        def compute(self, items):
            return Forward(rows, np.zeros(len(rows), np.float32), 1)

    done = run(Odd(), [0, 4], [0, 5])
    assert {one.code for one in done.results} == {"wrong_shape"}


def test_a_pass_that_runs_out_of_memory_is_halved_and_its_size_is_told():
    engine = FakeEngine(tokens_max=10)
    done = run(engine, *([0, i, 0, 0] for i in range(1, 9)))
    assert [type(one) for one in done.results] == [Row] * 8
    assert done.exhausted_tokens == 16
    assert run(FakeEngine(), [0, 4]).exhausted_tokens is None


def test_of_several_passes_that_run_out_of_memory_the_smallest_is_told():
    short, long = ([[0, i, *[0] * more] for i in some] for some, more in (((1, 2, 3, 4), 1), ((5, 6), 6)))
    done = run(FakeEngine(tokens_max=10), *short, *long, tokens_max=16)  # passes of 12 and then 16 tokens
    assert [type(one) for one in done.results] == [Row] * 6
    assert done.exhausted_tokens == 12


def test_an_item_that_no_memory_holds_fails_alone():
    done = run(FakeEngine(tokens_max=3), [0, 1], [0, 2, 0, 0])
    assert [getattr(one, "code", "") for one in done.results] == ["", "out_of_memory"]


def test_equal_faults_have_equal_fingerprints():
    one, two = run(FakeEngine(broken={5, 6}), [0, 5], [0, 6]).results
    [other] = run(FakeEngine(bug={5}), [0, 5]).results
    assert one.fingerprint == two.fingerprint != other.fingerprint


class Growing(FakeEngine):
    """Needs a byte more each time that it is asked."""

    asked = 0

    def memory_bytes(self):
        self.asked += 1
        return self.asked


def test_memory_is_asked_for_once_a_second_and_of_each_engine():
    clock, one, two = FakeClock(), Growing(), Growing()
    looks = MemoryLooks(clock)

    def told(engine):
        return compute(engine, clock, arrange([[item(0, 5)]], 64), memory=looks).memory_bytes

    assert [told(one), told(one), told(two), told(two)] == [1, 1, 1, 1]
    clock.advance(0.9)
    assert (told(one), two.asked) == (1, 1)
    clock.advance(0.2)
    assert [told(one), told(one), told(two)] == [2, 2, 2]


@pytest.mark.timeout(20)
def test_the_thread_asks_for_memory_as_seldom(until):
    thread, engine = ComputeThread(FakeClock()), Growing()
    for ticket in range(3):
        thread.submit(ticket, engine, arrange([[item(0, 5)]], 64))
    done = []
    until(lambda: done.extend(thread.collect()) or len(done) == 3, "all batches")
    assert [one.memory_bytes for _, one in done] == [1, 1, 1]
    thread.close()


@pytest.mark.timeout(20)
def test_whoever_waits_goes_on_when_something_is_done():
    thread = ComputeThread(FakeClock())
    thread.submit(1, FakeEngine(), arrange([[item(0, 5)]], 64))
    thread.wait(60)  # the test's own limit is far below
    assert len(thread.collect()) == 1
    start = time.monotonic()
    thread.wait(0.02)
    assert time.monotonic() - start >= 0.02, "what was collected is no news"

    def lost():
        raise DeviceLost("device-side assert")

    broken = ComputeThread(FakeClock(), delay=lost)
    broken.submit(1, FakeEngine(), arrange([[item(0, 5)]], 64))
    broken.wait(60)
    with pytest.raises(DeviceLost):
        broken.collect()
    thread.close()


@pytest.mark.timeout(20)
def test_the_thread_computes_and_hands_over_what_ends_it(until):
    thread = ComputeThread(FakeClock())
    thread.submit(7, FakeEngine(), arrange([[item(0, 5)]], 64))
    assert thread.under_way() == 1
    [(ticket, done)] = until(thread.collect, "the batch is computed")
    assert (ticket, thread.under_way(), len(done.results)) == (7, 0, 1)

    def lost():
        raise DeviceLost("device-side assert")

    broken = ComputeThread(FakeClock(), delay=lost)
    broken.submit(1, FakeEngine(), arrange([[item(0, 5)]], 64))
    with pytest.raises(DeviceLost):
        until(broken.collect, "the loss is handed over")
    thread.close()
