"""The partitions this process owns: taken over in threads, fed with records in order, dropped when they are lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Protocol

from infra.metrics import RECORDS_MISSING, TAKE_OVER_SECONDS
from infra.ports import Clock, Record, RetryLater
from stream_jobs.barrier import Group, LostPartitions
from stream_jobs.limits import LimitLog
from stream_jobs.outbox import Outbox
from stream_jobs.partition_runner import PartitionRunner, StageSpec, restored
from stream_jobs.sink import RowSink
from stream_jobs.state_log import Superseded

LOG = logging.getLogger(__name__)
BACKOFF_SECONDS_MAX = 5.0


class Positions(Group, Protocol):
    """The consumer, as far as positions go. For the event loop's thread."""

    async def start_offset(self, topic: str, partition: int, source: str) -> tuple[int | None, int]:
        """The offset committed of this source, if any, and where a partition without a state begins: there, or at the
        log's start. A topic that was made anew is another source. Raises RetryLater, LostPartitions."""

    async def place(self, topic: str, partition: int, next_offset: int) -> int:
        """Deliver records from this offset on, and no others; they carry the serial that is returned.
        Raises LostPartitions."""

    def displace(self, topic: str, partition: int) -> None:
        """Deliver nothing of this partition any more."""

    def end_offset(self, topic: str, partition: int) -> int | None:
        """The offset after the partition's last record, as far as known."""

    def rejoin(self) -> None:
        """Leave nothing to chance: ask the group for a new assignment."""


@dataclass(eq=False, slots=True)
class _Held:
    runner: PartitionRunner
    serial: int
    expected: int
    doubted: int | None = None
    """An offset that came too early and was asked for again; when it comes again, the log has a hole."""


class OwnedPartitions:
    """See `Owned`. For the event loop's thread."""

    def __init__(
        self,
        specs: Mapping[str, StageSpec],
        positions: Positions,
        sink: RowSink,
        outbox: Outbox,
        threads: Executor,
        clock: Clock,
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        """`specs` by topic; `threads` run take-overs; `on_fatal` is told of faults of the program."""
        self._specs, self._positions, self._sink, self._outbox = specs, positions, sink, outbox
        self._threads, self._clock, self._on_fatal = threads, clock, on_fatal
        self._held: dict[tuple[str, int], _Held] = {}
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._limits = LimitLog(clock)
        self._generation = -1
        self.closing = False
        """No record is applied any more: the last barrier is on its way."""
        self.taken = 0
        """Records applied, for whoever watches progress."""
        self.taken_over = 0
        """Partitions, likewise."""

    def runners(self) -> list[PartitionRunner]:
        """See `Owned`."""
        return [held.runner for held in self._held.values() if held.runner.alive]

    def assigned(self, partitions: set[tuple[str, int]], generation: int) -> None:
        """The group gave us these partitions, and no others. While closing they are left to the next owner."""
        self.revoked()
        if self.closing:
            return
        self._generation = generation
        for topic, partition in sorted(partitions):
            self._start(topic, partition)

    def revoked(self) -> None:
        """The group took everything: drop it."""
        self._generation = -1
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        for held in self._held.values():
            held.runner.drop()
        self._held.clear()

    def lose_all(self, why: str) -> None:
        """See `Owned`."""
        LOG.warning("partitions lost, everything held is dropped: %s", why)
        for held in self._held.values():
            self._positions.displace(held.runner.topic, held.runner.partition)
        self.revoked()
        self._positions.rejoin()

    def take_again(self, runner: PartitionRunner, why: str) -> None:
        """See `Owned`."""
        place = (runner.topic, runner.partition)
        held = self._held.get(place)
        if held is None or held.runner is not runner:
            return
        LOG.warning("%s[%d] is taken over again: %s", *place, why)
        runner.drop()
        del self._held[place]
        self._positions.displace(*place)
        self._start(*place)

    def _start(self, topic: str, partition: int) -> None:
        task = asyncio.get_running_loop().create_task(self._take_over(topic, partition, self._generation))
        self._tasks[topic, partition] = task
        task.add_done_callback(self._taken_over)

    def _taken_over(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_fatal(error)

    async def _take_over(self, topic: str, partition: int, generation: int) -> None:
        wait_seconds = 0.1
        while generation == self._generation:
            started = self._clock.monotonic()
            try:
                runner = await self._runner(topic, partition, generation)
                if generation != self._generation:
                    return
                serial = await self._positions.place(topic, partition, runner.stage.next_offset)
            except (RetryLater, Superseded) as error:
                LOG.warning("%s[%d]: take-over is tried again: %s", topic, partition, error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, BACKOFF_SECONDS_MAX)
            except LostPartitions as error:
                LOG.info("%s[%d]: lost before it was taken over: %s", topic, partition, error)
                return
            else:
                if generation == self._generation:
                    runner.idle_since = self._clock.monotonic()
                    self.taken_over += 1
                    self._held[topic, partition] = _Held(runner, serial, runner.stage.next_offset)
                    TAKE_OVER_SECONDS.observe(self._clock.monotonic() - started)
                    LOG.info(
                        "%s[%d]: taken over at offset %d, epoch %d, in %.2f s",
                        *(topic, partition, runner.stage.next_offset, runner.state.epoch),
                        self._clock.monotonic() - started,
                    )
                return

    async def _runner(self, topic: str, partition: int, generation: int) -> PartitionRunner:
        spec = self._specs[topic]
        committed, start = await self._positions.start_offset(topic, partition, spec.source)
        state = spec.new_state(partition)
        loop = asyncio.get_running_loop()
        stage = await loop.run_in_executor(self._threads, restored, spec, partition, state, start)
        return PartitionRunner(
            *(topic, partition, generation, stage, state, self._outbox, self._sink, self._limits), committed=committed
        )

    async def take(self, record: Record, serial: int) -> None:
        """Apply a record that the consumer delivered. Waits while storage is behind (back-pressure).

        Records of an earlier placing are ignored. A hole in the offsets is asked for once more before it is believed.
        """
        held = self._held.get((record.topic, record.partition))
        if self.closing or held is None or held.serial != serial:
            return
        if record.offset > held.expected:
            if held.doubted != record.offset:
                held.doubted = record.offset
                await self._place_again(held)
                return
            missing = record.offset - held.expected
            LOG.warning("%s[%d]: %d offsets from %d are gone", record.topic, record.partition, missing, held.expected)
            RECORDS_MISSING.labels(record.topic).inc(missing)
        held.doubted = None
        held.expected = max(held.expected, record.offset + 1)
        held.runner.idle_since = self._clock.monotonic()
        if await held.runner.take(record):
            self.taken += 1

    async def _place_again(self, held: _Held) -> None:
        held.serial = -1
        try:
            held.serial = await self._positions.place(held.runner.topic, held.runner.partition, held.expected)
        except LostPartitions as error:
            LOG.info("%s[%d]: lost: %s", held.runner.topic, held.runner.partition, error)

    def idle(self, seconds: float) -> list[tuple[str, int, int]]:
        """(topic, partition, next offset) of caught-up partitions with `ticks` that had no record for so long.

        Their idle time starts anew."""
        now = self._clock.monotonic()
        found = []
        for (topic, partition), held in self._held.items():
            if self._specs[topic].ticks and now - held.runner.idle_since >= seconds:
                end = self._positions.end_offset(topic, partition)
                if end is not None and end <= held.expected:
                    held.runner.idle_since = now
                    found.append((topic, partition, held.expected))
        return found

    def behind(self, ranges: Mapping[tuple[str, int], tuple[int, int]]) -> int:
        """Records of the partitions held that were not taken yet, given first and next offsets of the logs. From any
        thread."""
        wanted = [(*ranges.get(place, (0, 0)), held.expected) for place, held in tuple(self._held.items())]
        return sum(max(0, after - max(first, expected)) for first, after, expected in wanted)

    def behind_known(self) -> int:
        """Records of the partitions held that were not taken yet, as far as the consumer knows their ends."""
        places = [(self._positions.end_offset(*place), held.expected) for place, held in self._held.items()]
        return sum(max(0, end - expected) for end, expected in places if end is not None)

    def oldest_ms(self) -> int | None:
        """When the oldest record that was taken and is not committed was appended. From any thread."""
        found = [held.runner.oldest_ms for held in tuple(self._held.values())]
        return min((one for one in found if one is not None), default=None)

    @property
    def is_member(self) -> bool:
        """Whether the group has told which partitions are ours, though they may be none. From any thread."""
        return self._generation >= 0
