"""The score job around its stages: sink, outbox, owned partitions and barrier, started, run and stopped together."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from infra.clock import process_cpu_seconds
from infra.dead_letters import DeadLetters
from infra.ports import Clock, Publisher, Record, RetryLater, TableWriter
from stream_jobs.barrier import Barrier
from stream_jobs.barrier_pace import BarrierPace
from stream_jobs.outbox import Outbox
from stream_jobs.owned_partitions import OwnedPartitions, Positions
from stream_jobs.partition_runner import StageSpec
from stream_jobs.sink import RowSink
from stream_jobs.stall_watch import Progress

LOG = logging.getLogger(__name__)
STAGE_NAME = "jobs.score"
THREADS = 4
"""Take-overs and snapshots at once; each waits for the broker, hardly any computes."""
RETRY_SECONDS = 0.5
LAST_BARRIER_SECONDS = 20.0
"""Longest wait for the last barrier at an orderly stop. What is not committed then is done again by the next owner."""
LOOK_EVERY_SECONDS = 0.2


class ScoreJob:
    """See `app.Job`. Everything runs on the event loop's thread; what blocks runs in threads."""

    def __init__(
        self,
        specs: Mapping[str, StageSpec],
        writer: TableWriter,
        publisher: Publisher,
        clock: Clock,
        on_fatal: Callable[[BaseException], None],
        *,
        barrier_interval_seconds: float,
        row_flush_seconds: float,
        tick_seconds: float,
        tick: Callable[[str, int, int], None] = lambda topic, partition, next_offset: None,
        last_barrier_seconds: float = LAST_BARRIER_SECONDS,
    ) -> None:
        """`specs` by topic. `tick` publishes a tick to an idle partition; it may block. `on_fatal` ends the process."""
        self._specs, self._writer, self._publisher, self._clock = specs, writer, publisher, clock
        self._on_fatal, self._tick = on_fatal, tick
        self._barrier_interval_seconds = barrier_interval_seconds
        self._row_flush_seconds = row_flush_seconds
        self._tick_seconds = tick_seconds
        self._last_barrier_seconds = last_barrier_seconds
        self._tasks: list[asyncio.Task[None]] = []
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="state")
        self.committed_all = True
        """After `finish`: whether the last barrier was whole."""
        self.beats = 0
        """Rises while the event loop runs, for a watchdog."""
        self.behind = 0
        """Records in the logs that were not taken yet, as far as is known."""

    async def start(self, consumer: Positions) -> None:
        """See `Job.start`."""
        self._loop = asyncio.get_running_loop()
        self.sink = RowSink(self._writer)
        self.outbox = Outbox(self._publisher, DeadLetters(self._publisher, STAGE_NAME))
        self.outbox.start(self._on_fatal)
        self.owned = OwnedPartitions(
            self._specs, consumer, self.sink, self.outbox, self._threads, self._clock, self._on_fatal
        )
        self.barrier = Barrier(self.owned, consumer, self.sink, self._threads, self._clock)
        for loop in (self._barriers(), self.sink.run(self._row_flush_seconds), self._ticks()):
            self._spawn(loop)

    def _spawn(self, loop: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(loop)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fatal(error)

    def assigned(self, partitions: set[tuple[str, int]], generation: int) -> None:
        """See `Listener`."""
        LOG.info("generation %d: %d partitions assigned", generation, len(partitions))
        self.owned.assigned(partitions, generation)

    def revoked(self) -> None:
        """See `Listener`."""
        self.owned.revoked()

    async def take(self, record: Record, serial: int) -> None:
        """See `Job.take`."""
        await self.owned.take(record, serial)

    def fatal(self, error: BaseException) -> None:
        """See `Job.fatal`."""
        self._on_fatal(error)

    def progress(self, ranges: Mapping[tuple[str, int], tuple[int, int]]) -> Progress | None:
        """See `stall_watch.Job`."""
        if not self.beats or self.owned.closing:
            return None
        return Progress(
            done=self.owned.taken + self.owned.taken_over + self.barrier.passed,
            behind=self.owned.behind(ranges),
            is_member=self.owned.is_member,
            is_waiting=self.sink.is_full or self.outbox.is_full,
        )

    def stood_still(self, seconds: float) -> None:
        """The process did not run for longer than its session: others own its partitions by now. From any thread."""
        if self.beats:
            why = f"the process stood still for {seconds:.0f} s"
            self._loop.call_soon_threadsafe(self.owned.lose_all, why)

    async def finish(self) -> None:
        """See `Job.finish`: take no more records, run barriers until one is whole, or time is up."""
        if not self._tasks:
            return  # never started
        # `_barriers` ends by itself: cancelled in the middle, it would leave a snapshot being written in its thread.
        self.owned.closing = True
        try:
            async with asyncio.timeout(self._last_barrier_seconds):
                while not await self.barrier.run():
                    await asyncio.sleep(RETRY_SECONDS)
        except TimeoutError:
            self.committed_all = False
            LOG.error("the last barrier was not whole after %.0f s: its work is done again", self._last_barrier_seconds)
        except Exception as error:
            self.committed_all = False
            self._on_fatal(error)
        self.owned.revoked()
        for task in self._tasks:
            task.cancel()
        self.outbox.stop()
        self.sink.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _barriers(self) -> None:
        pace, time = BarrierPace(self._barrier_interval_seconds), asyncio.get_running_loop().time
        while not self.owned.closing:
            if not await self.barrier.run():
                await asyncio.sleep(RETRY_SECONDS)
                continue
            pace.passed(time(), process_cpu_seconds(), self.barrier.cpu_seconds())
            while seconds := pace.seconds_until_due(time(), process_cpu_seconds()):
                await asyncio.sleep(seconds)

    async def _ticks(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(LOOK_EVERY_SECONDS, self._tick_seconds / 2))
            self.behind = self.owned.behind_known()
            self.beats += 1
            for topic, partition, next_offset in self.owned.idle(self._tick_seconds):
                try:
                    await loop.run_in_executor(None, self._tick, topic, partition, next_offset)
                except RetryLater as error:
                    LOG.warning("%s[%d]: no tick: %s", topic, partition, error)
