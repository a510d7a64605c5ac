"""The barrier counts its own processor time and says how long it took, and blocks are counted beside rows."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from infra.clock import thread_cpu_seconds
from infra.metrics import BARRIER_CPU_SECONDS, BARRIER_SECONDS, BLOCKS_STORED, ROWS_STORED
from infra.ports import Record, RetryLater
from stream_jobs.barrier import Barrier
from stream_jobs.partition_runner import Cut
from stream_jobs.sink import RowSink
from tests.fakes import FakeClock, FakeTable


def busy(seconds):
    """Computes for so long; returns how long it was by the same clock."""
    began = thread_cpu_seconds()
    while (spent := thread_cpu_seconds() - began) < seconds:
        pass
    return spent


class Runner:
    """A partition whose snapshot takes processor time: to make, and to write in a thread."""

    topic, partition, generation, alive, moved, committed = "t", 0, 1, True, True, None

    def __init__(self, fail=False):
        self.fail, self.spent = fail, 0.0
        self.state = self

    def cut(self):
        self.spent += busy(0.02)
        return Cut(self, 5, {})

    def write(self, pages, next_offset):
        self.spent += busy(0.03)
        if self.fail:
            raise RetryLater("no broker")

    async def delivered(self):
        await asyncio.sleep(0.05)  # waiting is no processor time

    def saved(self, cut):
        pass

    def done(self, cut):
        self.committed = cut.next_offset


class Group:
    def owns(self, topic, partition, generation):
        return True

    async def commit_barrier(self, offsets, generation):
        pass


def spent_by(runner):
    async def main():
        sink = RowSink(FakeTable(), threads=1)
        with ThreadPoolExecutor(1) as threads:
            barrier = Barrier(SimpleNamespace(runners=lambda: [runner]), Group(), sink, threads, FakeClock())
            before = BARRIER_CPU_SECONDS.labels().read() or 0.0
            whole = await barrier.run()
        sink.close()
        return whole, BARRIER_CPU_SECONDS.labels().read() - before

    return asyncio.run(main())


def test_what_a_barrier_computes_is_counted_and_what_it_waits_for_is_not():
    runner = Runner()
    whole, spent = spent_by(runner)
    assert whole
    assert 0.05 <= runner.spent <= spent < runner.spent + 0.04


def test_a_snapshot_that_fails_has_cost_its_time_too():
    whole, spent = spent_by(Runner(fail=True))
    assert not whole
    assert spent >= 0.05


def test_blocks_are_counted_beside_rows():
    async def main():
        sink = RowSink(FakeTable(), block_rows=4, threads=1)
        owner = SimpleNamespace(alive=True)
        for offset in range(6):
            sink.add(owner, Record("t", 0, offset, 0, None, b""), {"counted": {"id": [offset, offset]}})
        await sink.flush()
        sink.close()

    asyncio.run(main())
    assert (ROWS_STORED.labels("counted").read(), BLOCKS_STORED.labels("counted").read()) == (12, 3)


def test_how_long_a_barrier_took_is_a_metric_and_one_with_nothing_to_do_is_none():
    class Waiting(Runner):
        async def delivered(self):
            clock.advance(0.25)  # of the clock that the barrier reads

    async def main():
        sink = RowSink(FakeTable(), threads=1)
        with ThreadPoolExecutor(1) as threads:
            barrier = Barrier(SimpleNamespace(runners=lambda: runners), Group(), sink, threads, clock)
            found = []
            for given in ([Waiting()], []):
                runners[:] = given
                counts, seconds = BARRIER_SECONDS.labels().read()
                assert await barrier.run()
                after, whole = BARRIER_SECONDS.labels().read()
                found.append((after[-1] - counts[-1], whole - seconds))
        sink.close()
        return found

    clock, runners = FakeClock(), []
    assert asyncio.run(main()) == [(1, pytest.approx(0.25)), (0, 0.0)]
