"""The commit barrier: the only place from which offsets are committed, in four steps."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Protocol

from infra.clock import thread_cpu_seconds
from infra.metrics import BARRIER_CPU_SECONDS, BARRIER_FAILURES, BARRIER_SECONDS
from infra.ports import Clock, RetryLater
from stream_jobs.partition_runner import Cut, PartitionRunner
from stream_jobs.sink import RowSink
from stream_jobs.state_log import Superseded

LOG = logging.getLogger(__name__)


class LostPartitions(Exception):
    """The group took partitions away: what is held must be dropped, nothing may be committed."""


class Group(Protocol):
    """This process's membership of the consumer group, as the barrier needs it."""

    def owns(self, topic: str, partition: int, generation: int) -> bool:
        """Whether the partition is still assigned to us, in this generation. Cheap; asks nobody."""

    async def commit_barrier(self, offsets: dict[tuple[str, int], int], generation: int) -> None:
        """Commit next offsets. Raises LostPartitions when the group refuses, RetryLater on broker trouble."""


class Owned(Protocol):
    """The partitions that are held."""

    def runners(self) -> list[PartitionRunner]:
        """Those taken over and alive."""

    def lose_all(self, why: str) -> None:
        """Drop everything and join the group again."""

    def take_again(self, runner: PartitionRunner, why: str) -> None:
        """Drop one partition and take it over again, when the group still gives it to us."""


class Barrier:
    """Makes everything done so far durable, then commits it.

    1. rows stored: every row handed over is in its table, or its record is a dead letter
    2. events delivered: every event and dead letter handed over is in its topic
    3. dirty state snapshotted: every changed page, then the manifest, is in the state topic
    4. offsets committed: the group remembers what the snapshots say

    A failure in any step leaves the offsets where they were. Records go on being applied meanwhile: what is made
    durable is the cut taken before step 1.
    """

    def __init__(self, owned: Owned, group: Group, sink: RowSink, threads: Executor, clock: Clock) -> None:
        """`threads` run the snapshots' blocking writes."""
        self._owned, self._group, self._sink, self._threads, self._clock = owned, group, sink, threads, clock
        self._running = asyncio.Lock()
        self._costs: list[float] = []
        self.passed = 0
        """Barriers that committed something, for whoever watches progress."""
        self.step = 0
        """The step that is under way; 0: none is."""
        self.step_since = 0.0
        """Since when, monotonic seconds."""

    async def run(self) -> bool:
        """One barrier over all partitions that moved. False when some must be tried again."""
        async with self._running:
            started, cpu = self._clock.monotonic(), thread_cpu_seconds()
            self._costs = []
            cuts = [runner.cut() for runner in self._owned.runners() if runner.moved]
            if not cuts:
                return True
            self._costs.append(thread_cpu_seconds() - cpu)
            try:
                # 1 rows stored
                self._enter(1)
                await self._sink.flush()
                # 2 events delivered: dead letters of rows refused in step 1 are among them
                self._enter(2)
                await asyncio.gather(*(cut.runner.delivered() for cut in cuts))
                # 3 dirty state snapshotted
                self._enter(3)
                done = await asyncio.gather(*(self._snapshot(cut) for cut in cuts))
                # 4 offsets committed
                self._enter(4)
                committed = await self._commit([cut for cut, saved in zip(cuts, done, strict=True) if saved])
            finally:
                self._enter(0)
                BARRIER_CPU_SECONDS.inc(self.cpu_seconds())
            BARRIER_SECONDS.observe(self._clock.monotonic() - started)
            whole = committed and all(saved or not cut.runner.alive for cut, saved in zip(cuts, done, strict=True))
            if not whole:
                BARRIER_FAILURES.inc()
            return whole

    def cpu_seconds(self) -> float:
        """Processor time that the last one took, or takes so far."""
        return sum(self._costs)

    def _enter(self, step: int) -> None:
        self.step, self.step_since = step, self._clock.monotonic()

    async def _snapshot(self, cut: Cut) -> bool:
        runner = cut.runner
        if not self._still_ours(runner):
            return False
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._threads, _write, cut, self._costs)
        except RetryLater as error:
            LOG.warning("%s[%d]: snapshot is tried again: %s", runner.topic, runner.partition, error)
            return False
        except Superseded as error:
            self._owned.take_again(runner, str(error))
            return False
        runner.saved(cut)
        return True

    def _still_ours(self, runner: PartitionRunner) -> bool:
        return runner.alive and self._group.owns(runner.topic, runner.partition, runner.generation)

    async def _commit(self, cuts: Sequence[Cut]) -> bool:
        ours = [cut for cut in cuts if self._still_ours(cut.runner)]
        whole = True
        for generation in sorted({cut.runner.generation for cut in ours}):
            these = [cut for cut in ours if cut.runner.generation == generation]
            offsets = {(cut.runner.topic, cut.runner.partition): cut.next_offset for cut in these}
            try:
                await self._group.commit_barrier(offsets, generation)
            except LostPartitions as error:
                self._owned.lose_all(str(error))
            except RetryLater as error:
                LOG.warning("offsets are committed again: %s", error)
                whole = False
            else:
                self.passed += 1
                for cut in these:
                    cut.runner.done(cut)
        return whole


def _write(cut: Cut, costs: list[float]) -> None:
    """Make the cut's snapshot durable, and note its processor time. In a thread."""
    cpu = thread_cpu_seconds()
    try:
        cut.runner.state.write(cut.pages, cut.next_offset)
    finally:
        costs.append(thread_cpu_seconds() - cpu)
