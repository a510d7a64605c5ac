"""Faust's consumer, made to commit only what a barrier says and to deliver only what was placed.

Stock Faust commits what streams acked: past an unfinished event (with several streams), past an event whose agent
raised, before outputs are delivered, and it believes a refused commit. Here acks mean nothing and nothing commits
but `commit_barrier`, which raises when Kafka refuses.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Protocol, cast

from aiokafka.errors import (
    IllegalGenerationError,
    IllegalStateError,
    KafkaError,
    RebalanceInProgressError,
    UnknownMemberIdError,
)
from aiokafka.structs import OffsetAndMetadata, TopicPartition
from faust.transport.consumer import Fetcher
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from faust.types import TP
from mode import Service

from infra.ports import RetryLater
from stream_jobs.barrier import LostPartitions
from stream_jobs.faust_records import PlacedMessage, message_of

LOG = logging.getLogger(__name__)
FETCH_SECONDS = 0.5
FETCH_WAIT_MS = 25
"""Longest wait of the broker for partitions that have nothing. aiokafka has one fetch a broker under way: for so long
the others, which have something, are not asked (1.5 s in stock Faust)."""
REFUSED = (UnknownMemberIdError, IllegalGenerationError, RebalanceInProgressError)


class Listener(Protocol):
    """Told of the group's decisions, on the event loop's thread."""

    def assigned(self, partitions: set[tuple[str, int]], generation: int) -> None:
        """These partitions, and no others."""

    def revoked(self) -> None:
        """None any more."""


class PromptThread(AIOKafkaConsumerThread):
    """Faust's consumer thread, with a client that does not wait long for idle partitions."""

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS  # read when it starts
        return consumer


class BarrierConsumer(Consumer):
    """See `Positions`. One generation of the group at a time; every rebalance takes all and gives anew."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._places: dict[TP, int] = {}
        self._sources: dict[str, str] = {}
        self._next: dict[TP, int] = {}
        self._serial = 0

    def _new_consumer_thread(self) -> PromptThread:
        return PromptThread(self, loop=self.loop, beacon=self.beacon)

    # What stock Faust would commit: nothing.

    def ack(self, message: Any) -> bool:
        """A stream is done with a message. Means nothing for offsets."""
        self._unacked_messages.discard(message)
        message.acked = True
        return False

    async def commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit nothing: `commit_barrier` does."""
        return False

    async def force_commit(self, topics: Any = None, start_new_transaction: bool = True) -> bool:
        """Commit nothing: `commit_barrier` does."""
        return False

    async def wait_empty(self) -> None:
        """Wait for nothing: what streams have not finished is not committed."""

    async def on_task_error(self, exc: BaseException) -> None:
        """Commit nothing (stock Faust commits here)."""

    async def perform_seek(self) -> None:
        """Go nowhere: partitions are placed when they are taken over."""

    def on_buffer_full(self, tp: TP) -> None:
        """A full stream makes the fetcher wait; nothing is to be unsubscribed (and put back at a wrong time)."""

    def on_buffer_drop(self, tp: TP) -> None:
        """See `on_buffer_full`."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Stock Faust complains of acks that are not committed."""

    # Rebalances.

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """The group takes everything back (eager rebalancing)."""
        self._places.clear()
        self._listener.revoked()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """The group gives partitions: nothing is delivered before it is placed."""
        self._places.clear()
        await super().on_partitions_assigned(assigned, generation_id)
        self._listener.assigned({(tp.topic, tp.partition) for tp in assigned}, generation_id)

    @property
    def _listener(self) -> Listener:
        return cast(Listener, cast(Any, self.app).listener)

    # Delivery.

    async def _drain_messages(self, fetcher: Any) -> None:
        """Fetch placed partitions and hand their messages to the streams, in order, waiting while they are full."""
        while not (self.should_stop or fetcher.should_stop):
            if not self.flow_active:
                await self.wait(cast(Any, self.can_resume_flow))
                continue
            places = dict(self._places)
            if not places:
                await asyncio.sleep(0.05)
                continue
            try:
                records = await self._getmany(set(places), timeout=FETCH_SECONDS)
            except UnicodeDecodeError:
                await self._go_around(places)
                continue
            for tp, record in self.scheduler.iterate(records):
                await self._deliver(tp, self._to_message(tp, record), places)

    async def _deliver(self, tp: TP, message: PlacedMessage, places: Mapping[TP, int]) -> None:
        if self._places.get(tp) != places[tp]:
            return  # fetched before it was revoked or placed anew
        self._next[tp] = message.offset + 1
        message.serial = places[tp]
        await self.callback(message)

    async def _go_around(self, places: Mapping[TP, int]) -> None:
        """Deliver what comes next with another client, then fetch from behind it.

        A fetch that raised may have moved past good records of other partitions: all are fetched again.
        """
        starts = {(tp.topic, tp.partition): self._next[tp] for tp in places}
        LOG.warning("a record cannot be fetched (a header's name is not UTF-8): reading around it from %s", starts)
        try:
            records = await asyncio.get_running_loop().run_in_executor(None, cast(Any, self.app).detour, starts)
        except RetryLater as error:
            LOG.warning("no detour yet: %s", error)
            records = []
        for record in records:
            tp = TP(record.topic, record.partition)
            await self._deliver(tp, message_of(tp, record, self.app.consumer_generation_id), places)
        for tp in places:
            if self._places.get(tp) == places[tp]:
                with suppress(LostPartitions, RetryLater):
                    await self._in_thread(self._seek_in_thread, TopicPartition(tp.topic, tp.partition), self._next[tp])

    def _to_message(self, tp: TP, record: Any) -> PlacedMessage:
        return PlacedMessage(
            record.topic,
            record.partition,
            record.offset,
            record.timestamp / 1000.0,
            record.timestamp_type,
            record.headers,
            record.key,
            record.value,
            record.checksum,
            record.serialized_key_size,
            record.serialized_value_size,
            tp,
            generation_id=self.app.consumer_generation_id,
        )

    # Positions.

    async def start_offset(self, topic: str, partition: int, source: str) -> tuple[int | None, int]:
        """See `Positions.start_offset`. What is committed carries the source's name."""
        self._sources[topic] = source
        found = await self._in_thread(self._start_offset, TopicPartition(topic, partition), source)
        return cast("tuple[int | None, int]", found)

    async def _start_offset(self, place: TopicPartition, source: str) -> tuple[int | None, int]:
        consumer = self._thread._ensure_consumer()
        committed = (await consumer._coordinator.fetch_committed_offsets([place])).get(place)
        if committed is not None and committed.offset >= 0:
            if committed.metadata in ("", source):  # none: of an earlier version
                return committed.offset, committed.offset
            LOG.warning("%s[%d]: what is committed is of %s, not of %s", *place, committed.metadata, source)
        return None, (await consumer.beginning_offsets([place]))[place]

    async def place(self, topic: str, partition: int, next_offset: int) -> int:
        """See `Positions.place`."""
        tp = TP(topic, partition)
        self._places.pop(tp, None)
        await self._in_thread(self._seek_in_thread, TopicPartition(topic, partition), next_offset)
        self._serial += 1
        self._places[tp], self._next[tp] = self._serial, next_offset
        return self._serial

    async def _seek_in_thread(self, place: TopicPartition, next_offset: int) -> None:
        self._thread._ensure_consumer().seek(place, next_offset)

    def displace(self, topic: str, partition: int) -> None:
        """See `Positions.displace`."""
        self._places.pop(TP(topic, partition), None)

    def end_offset(self, topic: str, partition: int) -> int | None:
        """See `Positions.end_offset`."""
        try:
            return cast("int | None", self._thread._ensure_consumer().highwater(TopicPartition(topic, partition)))
        except (AssertionError, IllegalStateError):
            return None

    # The group.

    def owns(self, topic: str, partition: int, generation: int) -> bool:
        """See `Group.owns`."""
        coordinator = self._thread._ensure_consumer()._coordinator
        return coordinator.generation == generation and TP(topic, partition) in self.assignment()

    def rejoin(self) -> None:
        """See `Positions.rejoin`."""
        self._thread.thread_loop.call_soon_threadsafe(self._thread._ensure_consumer()._coordinator.request_rejoin)

    async def commit_barrier(self, offsets: dict[tuple[str, int], int], generation: int) -> None:
        """See `Group.commit_barrier`."""
        await self._in_thread(self._commit_in_thread, offsets, generation)

    async def _commit_in_thread(self, offsets: dict[tuple[str, int], int], generation: int) -> None:
        consumer = self._thread._ensure_consumer()
        coordinator = consumer._coordinator
        await coordinator.ensure_coordinator_known()
        async with coordinator._commit_lock:
            # The request is built from the coordinator's generation before anything is awaited. With that checked
            # here, a commit decided in one generation can never be sent under the next.
            if coordinator.generation != generation:
                raise LostPartitions(f"the group is at generation {coordinator.generation}, not {generation}")
            wanted = {
                TopicPartition(*place): OffsetAndMetadata(offset, self._sources.get(place[0], ""))
                for place, offset in offsets.items()
            }
            assigned = consumer.assignment()
            if not wanted.keys() <= assigned:
                raise LostPartitions(f"not assigned: {sorted(wanted.keys() - assigned)}")
            await coordinator._do_commit_offsets(consumer._subscription.subscription.assignment, wanted)

    async def _in_thread(self, call: Any, *args: Any) -> Any:
        """Run in the consumer's thread, bounded in time, with errors sorted into two fates."""

        async def bounded() -> Any:
            async with asyncio.timeout(self.app.conf.broker_request_timeout):
                return await call(*args)

        try:
            return await self._thread.call_thread(bounded)
        except REFUSED as error:
            raise LostPartitions(f"Kafka refused: {error!r}") from error
        except IllegalStateError as error:
            raise LostPartitions(str(error)) from error
        except TimeoutError as error:
            raise RetryLater("the broker did not answer in time") from error
        except KafkaError as error:
            if error.retriable:
                raise RetryLater(repr(error)) from error
            raise


class BarrierFetcher(Fetcher):
    """Runs the consumer's delivery. Stopping it in the middle of a rebalance is no crash (in stock Faust it is)."""

    @Service.task
    async def _fetcher(self) -> None:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await cast(BarrierConsumer, self.app.consumer)._drain_messages(self)
        finally:
            self.set_shutdown()


class BarrierTransport(Transport):
    """Faust's aiokafka transport with `BarrierConsumer`."""

    Fetcher: ClassVar[type[BarrierFetcher]] = BarrierFetcher
    Consumer: ClassVar[type[BarrierConsumer]] = BarrierConsumer
