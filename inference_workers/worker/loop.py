"""The worker's `Work`: records in; predictions, dead letters and telemetry out, one outcome for every offset.

A thin shell around pure parts: admission, batching, computing and telling are decided elsewhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inference_workers.admission.admit import Admission
from inference_workers.admission.lanes import Lane, Lanes
from inference_workers.admission.requests import Denied, Ready, Unusable, append_time_ms
from inference_workers.answers.newcomers import Newcomers
from inference_workers.answers.outcomes import Outcomes, batch_facts, rows_in_order, size_of
from inference_workers.batching.cache import ResultCache
from inference_workers.batching.compute import PREFETCHED_MAX, Compute, Computed, Row
from inference_workers.batching.planner import Arrangement, BatchPlan, arrange
from inference_workers.deployments.routing import RoutingTable
from inference_workers.models.servable import Servable
from inference_workers.ports import Place
from inference_workers.telemetry.observer import Observer
from inference_workers.telemetry.served_page import Served
from infra.batch_loop import PartitionSet
from infra.outbox import Outbox
from infra.ports import Clock, Record
from infra.progress import Receipt, Receipts
from schemas.telemetry import Outcome, ProcessSample

DELIVERIES_PER_RECORD = 2
"""Every offset owes an answer (or a dead letter) and its line of telemetry."""
ADMITTED_MAX, ADMITTED_BYTES_MAX = 64, 65_536
"""Bounds the decoding and tokenising of one step to some milliseconds: polling goes on in between."""
BUSY_SECONDS, PREFETCHED_SECONDS, IDLE_SECONDS = 0.004, 0.008, 0.1
"""How often requests are taken in while a batch is computed; seldomer while the next one lies ready; and when idle."""


@dataclass(frozen=True, slots=True)
class WorkLimit:
    """What the worker holds at most: requests and bytes. Above either, fetching pauses."""

    requests_max: int
    bytes_max: int


@dataclass(frozen=True, slots=True)
class _Started:
    lane: Lane
    plan: BatchPlan
    members: list[Ready]
    arrangement: Arrangement
    depth: int

    @property
    def appended_ms(self) -> int:
        """When the most urgent member was appended."""
        return self.members[0].asked.appended_ms


@dataclass(slots=True)
class Models:
    """What the loop may compute with. `changes` gives a new table when deployments changed, between batches; `retire`
    is called with each model that nothing uses any more, and again when it says False."""

    changes: Callable[[], RoutingTable | None] = lambda: None
    retire: Callable[[Servable], bool] = lambda servable: True
    leaving: set[Servable] = field(default_factory=set)


class InferenceWork:
    """Admits records, plans batches, hands them to the compute thread, publishes what comes of it."""

    def __init__(
        self,
        admission: Admission,
        lanes: Lanes,
        compute: Compute,
        cache: ResultCache,
        outcomes: Outcomes,
        newcomers: Newcomers,
        clock: Clock,
        limit: WorkLimit,
        *,
        models: Models | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._admission, self._lanes, self._compute, self._cache = admission, lanes, compute, cache
        self._outcomes, self._newcomers, self._clock, self._limit = outcomes, newcomers, clock, limit
        self._models, self._observer = models or Models(), observer
        self._incoming: deque[tuple[Record, Receipt, int]] = deque()  # with its size in bytes
        self._incoming_bytes = 0
        self._started: dict[int, _Started] = {}
        self._tickets = 0
        self._untold: list[tuple[Served, Receipts]] = []
        self._stepped_ms = 0
        admission.lookup, self._images = self._lookup, admission.images
        admission.was_answered = newcomers.was_answered

    def assigned(self, partitions: PartitionSet) -> None:
        """See `Work.assigned`."""
        self._newcomers.assigned(partitions, (record for record, _, _ in self._incoming))
        if self._observer is not None:
            self._observer.joined()

    def dropped(self, partitions: PartitionSet) -> None:
        """See `Work.dropped`."""
        self._incoming = deque(one for one in self._incoming if (one[0].topic, one[0].partition) not in partitions)
        self._newcomers.dropped(partitions)
        self._incoming_bytes = sum(size for _, _, size in self._incoming)
        for waiting in (self._lanes, self._images):
            waiting.drop(lambda one: one.shadow or _where(one.asked.receipt) in partitions)

    def accept(self, records: Sequence[tuple[Record, Receipt]]) -> None:
        """See `Work.accept`."""
        for record, receipt in records:
            size = size_of(record)
            self._incoming.append((record, receipt, size))
            self._incoming_bytes += size
            self._newcomers.saw(record)

    def is_full(self) -> bool:
        """See `Work.is_full`."""
        return self.waiting() >= self._limit.requests_max or self.held_bytes() >= self._limit.bytes_max

    def held_bytes(self) -> int:
        """Bytes of what waits. From any thread."""
        return self._incoming_bytes + self._lanes.held_bytes + self._images.held_bytes

    def under_way(self) -> int:
        """See `Work.under_way`: batches, and outcomes not yet told."""
        return self._compute.under_way() + len(self._outcomes.telemetry) + len(self._untold)

    def waiting(self) -> int:
        """See `Work.waiting`."""
        return len(self._incoming) + len(self._lanes) + self._images.waiting()

    def gathers(self) -> bool:
        """See `Work.gathers`: while a batch is computed."""
        return self._compute.under_way() > 0

    def step(self, outbox: Outbox, *, start: bool) -> float:
        """See `Work.step`."""
        for ticket, computed in (done := self._compute.collect()):
            self._started[ticket].lane.learn(computed.exhausted_tokens, computed.compute_ms)
        self._switch()
        sent_before = outbox.pending
        if start:
            self._admit(outbox)
            self._start(outbox)
        for ticket, computed in done:  # told of while the next batch is computed
            self._fold(self._started.pop(ticket), computed, outbox)
        # The answers of a batch, all at once: to gather more would only delay them, but where a queue does so anyway.
        if outbox.pending > sent_before and self._compute.under_way() <= PREFETCHED_MAX:
            outbox.send_now()
        now_ms = self._clock.now_ms()
        last = not start and self._compute.under_way() == 0
        steady, self._stepped_ms = self._stepped_ms <= now_ms, now_ms  # else the clock was set back
        # A busy loop comes round hundreds of times a second: what is not due is not even called.
        if last or not steady or now_ms >= self._outcomes.telemetry.look_ms:
            self._untold += self._outcomes.telemetry.take(now_ms, everything=last, sample=self._sample)
        told = self._tell(outbox, now_ms) if self._untold else []
        if self._observer is not None:
            if told:
                self._observer.told(told)
            waiting = len(self._lanes)
            if not (steady and waiting and now_ms < self._observer.look_ms):
                self._turned(self._observer, outbox, now_ms, waiting + self._images.waiting())
        return self._seconds_until_next(now_ms, start=start)

    def _tell(self, outbox: Outbox, now_ms: int) -> list[Served]:
        """Send the telemetry of which every answer is in Kafka: a death must not leave it telling of others."""
        told, waiting = [], []
        for event, receipts in self._untold:
            if not receipts.is_alive():
                continue  # who has the partition now finds what was answered, and tells of it
            if receipts.progress.owes_all_of_any(receipts.offsets):
                waiting.append((event, receipts))
                continue
            told.append(self._outcomes.tell(event, receipts, outbox, now_ms))
        self._untold = waiting
        return told

    def _sample(self) -> ProcessSample | None:
        return None if self._observer is None else self._observer.sample()

    def _turned(self, observer: Observer, outbox: Outbox, now_ms: int, waiting: int) -> None:
        started = self._started.values()
        held = [append_time_ms(record, now_ms) for record, _, _ in self._incoming] if self._newcomers.asks() else []
        first = [*self._lanes.first_appended_ms(), *self._images.first_appended_ms(), *held]
        oldest = min([*first, *(one.appended_ms for one in started)], default=None)
        observer.turned(
            waiting=waiting,
            waiting_bytes=self._lanes.held_bytes + self._images.held_bytes,
            computing=sum(len(one.members) for one in started),
            held=len(held),
            oldest_seconds=None if oldest is None else max(0, now_ms - oldest) / 1000,
            outbox=outbox,
        )

    def _seconds_until_next(self, now_ms: int, *, start: bool) -> float:
        if start and self._incoming and self._newcomers.may_ask():
            return 0.0
        longest = BUSY_SECONDS if self._images else IDLE_SECONDS
        seconds = min(longest, max(0, self._outcomes.telemetry.look_ms - now_ms) / 1000)
        if self._compute.under_way():
            return min(seconds, PREFETCHED_SECONDS if self._compute.under_way() > PREFETCHED_MAX else BUSY_SECONDS)
        batch_due = self._lanes.seconds_until_due(now_ms)
        return seconds if batch_due is None else min(seconds, batch_due)

    def _switch(self) -> None:
        """Take a new routing table over; let go of models that nothing uses any more."""
        table = self._models.changes()
        leaving = self._models.leaving
        if table is not None:
            leaving |= self._admission.table.servables() | table.superseded
            self._admission.table = table
            if self._observer is not None:
                self._observer.deployed(table)
        if not leaving:
            return
        leaving -= self._admission.table.servables()
        used = (
            self._lanes.using() | self._images.using() | {id(one.lane.route.servable) for one in self._started.values()}
        )
        for servable in [one for one in leaving if id(one) not in used]:
            if self._models.retire(servable):
                leaving.discard(servable)
                self._cache.forget(servable.cache_name)
                named = {(one.ref.name, one.ref.version) for one in (*self._admission.table.servables(), *leaving)}
                if self._observer is not None and (servable.ref.name, servable.ref.version) not in named:
                    self._observer.retired(servable.ref)
        routes = {(id(one.servable), one.ref.arm) for one in self._admission.table.routes()}
        self._lanes.retire(routes, {id(one) for one in leaving})

    def _admit(self, outbox: Outbox) -> None:
        """Decode and tokenise a bounded slice of what came in, and what was waiting for images."""
        known = self._incoming and self._newcomers.are_known(settled=not outbox.holds_lost())
        chosen = self._slice() if known else []
        room = 2 * self.waiting() < self._limit.requests_max  # shadows give way: they are computed only with room
        images = self._limit.bytes_max - self._lanes.held_bytes
        for one in self._admission.admit(chosen, shadows=room, image_bytes_max=images):
            if isinstance(one, Unusable):
                self._outcomes.unusable(one, outbox)
            elif self._is_settled(one):
                continue
            elif isinstance(one, Ready):
                self._take_in(one, outbox)
            else:
                self._outcomes.denied(one, outbox)

    def _is_settled(self, one: Ready | Denied) -> bool:
        """Whether another worker has given the request up before, in predictions: then it is, for telemetry, too."""
        earlier = self._newcomers.earlier(one.asked.receipt)
        if earlier is None or earlier.outcome is Outcome.ANSWERED or (isinstance(one, Ready) and one.shadow):
            return False
        self._outcomes.given_up_before(one.asked, earlier)
        return True

    def _slice(self) -> list[tuple[Record, Receipt, Place]]:
        chosen: list[tuple[Record, Receipt, Place]] = []
        size = 0
        while self._incoming and len(chosen) < ADMITTED_MAX and size < ADMITTED_BYTES_MAX:
            record, receipt, record_bytes = self._incoming.popleft()
            chosen.append((record, receipt, self._newcomers.place_of(record)))
            size += record_bytes
        self._incoming_bytes -= size
        return chosen

    def _take_in(self, one: Ready, outbox: Outbox) -> None:
        if one.items:
            self._lanes.add(one)
        elif not one.shadow:
            late = one.is_late(self._clock.now_ms())
            (self._outcomes.expired if late else self._outcomes.finished)(one, outbox)

    def _start(self, outbox: Outbox) -> None:
        """Shed what is too late; give the compute thread batches while it has room."""
        while self._lanes.has_any() and self._compute.under_way() <= PREFETCHED_MAX:
            now_ms = self._clock.now_ms()
            late = self._lanes.late(now_ms)
            for one in late:
                if not one.shadow:
                    self._outcomes.expired(one, outbox)
            if late:
                continue
            found = self._lanes.plan(now_ms, only_full=self._compute.under_way() > 0)
            if found is None:
                return
            lane, plan = found
            depth = len(self._lanes)
            members = self._lanes.take(lane, plan.members)
            arrangement = arrange([one.items for one in members], lane.limit.tokens_max)
            self._tickets += 1
            self._started[self._tickets] = _Started(lane, plan, members, arrangement, depth)
            self._compute.submit(self._tickets, lane.route.servable.engine, arrangement)

    def _fold(self, started: _Started, computed: Computed, outbox: Outbox) -> None:
        """Publish a batch's answers and note its outcomes."""
        members, arrangement = started.members, started.arrangement
        start = self._clock.monotonic()
        facts = batch_facts(started.lane.route.ref, started.plan, members, arrangement, computed, started.depth)
        name = started.lane.route.servable.cache_name
        for item, result in zip(arrangement.items, computed.results, strict=True):
            if isinstance(result, Row):
                self._cache.put(name, item.content, result)
        told = []
        for one, place in zip(members, arrangement.places, strict=True):
            if one.shadow:
                self._outcomes.of_shadow(one, [computed.results[number] for number in place])
            elif not one.asked.receipt.is_alive():
                continue  # its partition went to another worker, who answers it
            elif one.is_late(computed.started_ms):  # while its batch lay ready
                self._outcomes.expired(one, outbox, computed.started_ms)
            else:
                rows = rows_in_order(one, {i: computed.results[number] for i, number in enumerate(place)})
                queue_ms = one.queue_ms(computed.started_ms)
                told.append(self._outcomes.answered(one, rows, outbox, batch=facts, queue_ms=queue_ms))
        facts.post_ms = (self._clock.monotonic() - start) * 1000
        self._outcomes.telemetry.add_settled(told)
        if self._observer is not None:
            self._observer.folded(facts)

    def _lookup(self, servable: Servable, content: bytes) -> Row | None:
        return self._cache.get(servable.cache_name, content)


def _where(receipt: Receipt) -> tuple[str, int]:
    return receipt.progress.topic, receipt.progress.partition
