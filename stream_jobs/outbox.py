"""Outgoing events and dead letters: handed over without waiting, delivered by a thread of its own, counted by batch.

Owns re-sending: a record that failed is sent again, the same bytes, until it is delivered or refused for good. And
order: what one source partition sends to one place (partition or key) arrives in order, because stage 2 takes what
does not rise for a repeat. So an event goes to the publisher only when the one before it in its lane is delivered.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from infra.dead_letters import DeadLetters
from infra.ports import DeliveryCallback, Fatal, InvalidRecord, Publisher, Record, RetryLater
from schemas.base import DecodeError, Reason
from stream_jobs.stage import Outgoing

LOG = logging.getLogger(__name__)
Lane = tuple[str, int, str, int | None, bytes | None]
"""Whose order is kept: the cause's topic and partition, then the event's topic, partition and key."""
RESEND_SECONDS = 0.5


@dataclass(eq=False, slots=True)
class Batch:
    """What one partition handed over between two barriers. `settled` is set when it is sealed and all is delivered."""

    pending: int = 0
    sealed: bool = False
    dropped: bool = False
    """The partition was lost: the next owner sends all of it again, and what is sent here too would come behind."""
    settled: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True, eq=False)
class _Item:
    batch: Batch
    size: int
    send: Callable[[DeliveryCallback], None]
    what: str
    cause: Record
    lane: Lane | None
    """None for a dead letter: their order means nothing."""


class Outbox:
    """Sends for all partitions. Methods are for the event loop's thread unless they say otherwise."""

    def __init__(
        self,
        publisher: Publisher,
        letters: DeadLetters,
        *,
        items_max: int = 10_000,
        bytes_max: int = 32 * 1_048_576,
        resend_seconds: float = RESEND_SECONDS,
    ) -> None:
        """`items_max`, `bytes_max` bound what is handed over and not delivered; beyond, `room` waits."""
        self._publisher, self._letters = publisher, letters
        self._items_max, self._bytes_max, self._resend_seconds = items_max, bytes_max, resend_seconds
        self._items = self._bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._lanes: dict[Lane, deque[_Item]] = {}
        """What waits behind the item that is on its way, for each lane that has one."""
        self._queue: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)
        self._fatal: Callable[[BaseException], None] | None = None

    def start(self, on_fatal: Callable[[BaseException], None]) -> None:
        """Start sending. `on_fatal` is called when sending itself is broken, on the sender's thread or the loop's."""
        self._loop, self._fatal = asyncio.get_running_loop(), on_fatal
        self._thread.start()

    def stop(self) -> None:
        """Stop sending; what is left is dropped (its offsets were not committed)."""
        self._stopping.set()
        self._queue.put(None)
        if self._thread.is_alive():
            self._thread.join(timeout=5.0)

    async def room(self) -> None:
        """Wait while too much is undelivered."""
        await self._room.wait()

    @property
    def is_full(self) -> bool:
        """Whether `room` waits. From any thread."""
        return not self._room.is_set()

    @property
    def held(self) -> dict[str, tuple[int, int]]:
        """What is not delivered yet, by name, and how much of it makes `room` wait. From any thread."""
        return {"events": (self._items, self._items_max), "event_bytes": (self._bytes, self._bytes_max)}

    def event(self, batch: Batch, event: Outgoing, cause: Record) -> None:
        """Hand an event over. `cause` becomes a dead letter when the event is refused for good."""
        send = partial(
            self._publisher.publish,
            event.topic,
            event.value,
            key=event.key,
            partition=event.partition,
            headers=event.headers,
        )
        lane = (cause.topic, cause.partition, event.topic, event.partition, event.key)
        what = f"an event of {len(event.value)} bytes for {event.topic}"
        item = _Item(batch, len(event.value), lambda callback: send(on_delivery=callback), what, cause, lane)
        self._count(item)
        waiting = self._lanes.get(lane)
        if waiting is None:
            self._lanes[lane] = deque()
            self._queue.put(item)
        else:
            waiting.append(item)

    def dead_letter(self, batch: Batch, record: Record, error: DecodeError) -> None:
        """Hand a dead letter over."""
        item = self._letter(batch, len(record.value or b""), record, error)
        self._count(item)
        self._queue.put(item)

    def seal(self, batch: Batch) -> None:
        """Nothing more will be added to this batch."""
        batch.sealed = True
        if not batch.pending:
            batch.settled.set()

    def _letter(self, batch: Batch, size: int, record: Record, error: DecodeError) -> _Item:
        what = f"the dead letter of {_place(record)}"
        return _Item(batch, size, lambda callback: self._letters.send(record, error, callback), what, record, None)

    def _count(self, item: _Item) -> None:
        item.batch.pending += 1
        self._items += 1
        self._bytes += item.size
        if self._items >= self._items_max or self._bytes >= self._bytes_max:
            self._room.clear()

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None and not self._stopping.is_set():
                if item.batch.dropped:
                    self._reported(item, None, None)
                    continue
                try:
                    item.send(partial(self._reported, item))
                except (RetryLater, InvalidRecord) as error:
                    self._reported(item, None, error)
        except BaseException as error:
            if self._fatal is not None:
                self._fatal(error)

    def _reported(self, item: _Item, offset: int | None, error: Exception | None) -> None:
        # On the publisher's thread or the sender's: quick, never raises.
        call = partial(self._delivered, item) if error is None else partial(self._failed, item, error)
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is committed any more
                self._loop.call_soon_threadsafe(call)

    def _delivered(self, item: _Item) -> None:
        self._next_of(item.lane)
        self._items -= 1
        self._bytes -= item.size
        if self._items < self._items_max and self._bytes < self._bytes_max:
            self._room.set()
        batch = item.batch
        batch.pending -= 1
        if batch.sealed and not batch.pending:
            batch.settled.set()

    def _failed(self, item: _Item, error: Exception) -> None:
        if isinstance(error, InvalidRecord) and item.lane is not None:
            LOG.error("%s, made from %s, is refused for good: %s", item.what, _place(item.cause), error)
            self._next_of(item.lane)
            reason = DecodeError(Reason.TOO_LARGE, f"{item.what}, made from this record, was refused: {error}")
            self._queue.put(self._letter(item.batch, item.size, item.cause, reason))  # counted with the item's count
        elif isinstance(error, InvalidRecord | Fatal):
            LOG.critical("%s cannot be sent: %s", item.what, error)
            if self._fatal is not None:
                self._fatal(error)
        elif self._loop is not None:
            LOG.warning("%s was not delivered and is sent again: %s", item.what, error)
            self._loop.call_later(self._resend_seconds, self._queue.put, item)  # its lane waits for it

    def _next_of(self, lane: Lane | None) -> None:
        if lane is None:
            return
        waiting = self._lanes[lane]
        if waiting:
            self._queue.put(waiting.popleft())
        else:
            del self._lanes[lane]


def _place(record: Record) -> str:
    return f"{record.topic}[{record.partition}]@{record.offset}"
