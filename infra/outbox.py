"""What must be delivered before records are done: publishes, waits for confirmations, publishes again what failed."""

from __future__ import annotations

import heapq
import itertools
import logging
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from infra.ports import Clock, DeliveryCallback, Fatal, InvalidRecord, Publisher, RetryLater
from infra.progress import Progress, Receipt, Receipts

LOG = logging.getLogger(__name__)
BACK_OFF_SECONDS = (0.1, 5.0)
"""First and longest wait before a failed record is published again; doubles in between."""
TIMES_KEPT = 8_192
"""Delivery times that nobody took: the newest stay. More than a busy worker delivers in a second."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to publish. `partition` is None when the key decides."""

    topic: str
    value: bytes
    key: bytes | None = None
    partition: int | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


@dataclass(slots=True)
class _Item:
    what: str
    publish: Callable[[DeliveryCallback], None]
    receipts: Sequence[Receipt | Receipts]
    size: int
    instead: Callable[[], Outgoing] | None
    since: float
    failures: int = 0


@dataclass(slots=True)
class Outbox:
    """Delivers records and settles receipts. Used by one thread; confirmations may come on another.

    Bounded: with `pending_max` records or `bytes_max` bytes unconfirmed it is full, and its owner stops adding.
    """

    publisher: Publisher
    clock: Clock
    pending_max: int = 20_000
    bytes_max: int = 24 * 1_048_576
    pending: int = field(default=0, init=False)
    delivered: int = field(default=0, init=False)
    """Confirmed so far."""
    _bytes: int = field(default=0, init=False)
    _reports: deque[tuple[_Item, Exception | None, float]] = field(default_factory=deque, init=False)
    _again: list[tuple[float, int, _Item]] = field(default_factory=list, init=False)
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=TIMES_KEPT), init=False)
    _by_progress: dict[Progress, int] = field(default_factory=dict, init=False)
    """Unconfirmed records by what their receipts belong to."""
    _order: itertools.count[int] = field(default_factory=itertools.count, init=False)

    def send(
        self,
        outgoing: Outgoing,
        receipts: Sequence[Receipt | Receipts],
        *,
        instead: Callable[[], Outgoing] | None = None,
    ) -> None:
        """Publish; once it is durable, settle each receipt. Never raises for a broker that is away.

        `instead` makes what is published when this record is refused for good, such as too large for its topic;
        without it the refusal is raised (InvalidRecord), here or from `collect`. Fatal is always raised.
        """
        size = len(outgoing.value) + len(outgoing.key or b"") + 512
        publish = self._publishing(outgoing)
        self._add(_Item(outgoing.topic, publish, receipts, size, instead, self.clock.monotonic()))

    def send_with(
        self, what: str, publish: Callable[[DeliveryCallback], None], receipts: Sequence[Receipt | Receipts], size: int
    ) -> None:
        """The same for a record that something else publishes, such as a dead letter of `size` bytes."""
        self._add(_Item(what, publish, receipts, size, None, self.clock.monotonic()))

    def send_now(self) -> None:
        """Let what was sent go out at once: nothing more is coming that could go with it."""
        self.publisher.send_now()

    def collect(self) -> None:
        """Settle what was confirmed, publish again what failed and is due. Call it often; does not block."""
        while self._reports:
            item, error, at = self._reports.popleft()
            if error is None:
                self.pending -= 1
                self.delivered += 1
                self._bytes -= item.size
                self._seconds.append(at - item.since)
                self._count(item, -1)
                for receipt in item.receipts:
                    receipt.settle()
            else:
                self._failed(item, error)
        while self._again and self._again[0][0] <= self.clock.monotonic():
            self._attempt(heapq.heappop(self._again)[2])

    def take_delivery_seconds(self) -> list[float]:
        """How long each record took from being handed over to its delivery, tries again included, since last asked;
        the newest TIMES_KEPT. On the thread that collects."""
        seconds, self._seconds = self._seconds, deque(maxlen=TIMES_KEPT)
        return list(seconds)

    def is_full(self) -> bool:
        """True while nothing should be added."""
        return self.pending >= self.pending_max or self._bytes >= self.bytes_max

    @property
    def pending_bytes(self) -> int:
        """Bytes of what is not confirmed. From any thread."""
        return self._bytes

    def holds_lost(self) -> bool:
        """Whether records are unconfirmed of a partition that was given up since: they may yet come to be in Kafka."""
        return any(progress.closed for progress in self._by_progress)

    def _count(self, item: _Item, change: int) -> None:
        if not item.receipts:
            return
        progress = item.receipts[0].progress
        count = self._by_progress.get(progress, 0) + change
        if count:
            self._by_progress[progress] = count
        else:
            del self._by_progress[progress]

    def _add(self, item: _Item) -> None:
        self.pending += 1
        self._count(item, 1)
        self._bytes += item.size
        self._attempt(item)

    def _attempt(self, item: _Item) -> None:
        def delivered(offset: int | None, error: Exception | None) -> None:
            self._reports.append(
                (item, error, self.clock.monotonic())
            )  # on the publisher's thread: hand over and be gone

        try:
            item.publish(delivered)
        except (RetryLater, InvalidRecord) as error:
            self._failed(item, error)

    def _failed(self, item: _Item, error: Exception) -> None:
        if isinstance(error, Fatal):
            raise error
        if isinstance(error, InvalidRecord):
            if item.instead is None:
                # What comes here is bounded to fit our topics: this is a topic's setting, no record can cause it.
                LOG.error("%s refused a record that has no stand-in (its max.message.bytes?): %s", item.what, error)
                raise error
            LOG.warning("%s refused a record, sending another in its place: %s", item.what, error)
            item.publish = self._publishing(item.instead())
            item.instead = None
            self._attempt(item)
            return
        first, longest = BACK_OFF_SECONDS
        seconds = min(longest, first * 2 ** min(item.failures, 10))
        item.failures += 1
        if item.failures in (1, 5) or item.failures % 20 == 0:
            LOG.warning("%s: delivery failed %d times, again in %.1f s: %s", item.what, item.failures, seconds, error)
        heapq.heappush(self._again, (self.clock.monotonic() + seconds, next(self._order), item))

    def _publishing(self, outgoing: Outgoing) -> Callable[[DeliveryCallback], None]:
        def publish(on_delivery: DeliveryCallback) -> None:
            self.publisher.publish(
                outgoing.topic,
                outgoing.value,
                key=outgoing.key,
                partition=outgoing.partition,
                headers=outgoing.headers,
                on_delivery=on_delivery,
            )

        return publish
