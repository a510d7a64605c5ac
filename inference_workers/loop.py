"""The worker's `Work`: records in; predictions, dead letters and telemetry out, one outcome for every offset.

A thin shell around pure parts: admission, batching, computing and telling are decided elsewhere.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Sequence

from inference_workers.admission import Admission, Ready, Unusable, append_time_ms
from inference_workers.answers import Answers
from inference_workers.batching import BatchLimit, BatchPlan, Waiting, expired, plan_batch, seconds_until_due
from inference_workers.compute import PREFETCHED_MAX, Compute, Computed, Fault
from inference_workers.telemetry import BatchFacts, RequestFacts, TelemetryAccumulator
from infra import metrics
from infra.batch_loop import PartitionSet
from infra.dead_letters import DeadLetters
from infra.outbox import Outbox
from infra.ports import Clock, Record, RetryLater
from infra.progress import Receipt
from schemas.base import Identity
from schemas.predictions import ModelRef
from schemas.telemetry import Outcome

LOG = logging.getLogger(__name__)
DELIVERIES_PER_RECORD = 2
"""Every offset owes an answer (or a dead letter) and its line of telemetry."""
ADMITTED_MAX, ADMITTED_BYTES_MAX = 64, 65_536
"""Bounds the decoding and tokenising of one step to some milliseconds: polling goes on in between."""
BUSY_SECONDS = 0.002
"""How often a finished batch is looked for."""
IDLE_SECONDS = 0.1
IDENTITY_RETRY_SECONDS = 0.5
SCENARIO_LABELS_MAX = 100
"""Scenarios that get a metric label of their own; the producers choose their names, so the rest is `other`."""

IdentityOf = Callable[[str], tuple[str, str]]
"""Topic name to (cluster id, topic id); may raise RetryLater."""


class InferenceWork:
    """Admits records, plans batches, hands them to the compute thread, publishes what comes of it."""

    def __init__(
        self,
        admission: Admission,
        compute: Compute,
        answers: Answers,
        telemetry: TelemetryAccumulator,
        dead_letters: DeadLetters,
        identity_of: IdentityOf,
        clock: Clock,
        *,
        model: ModelRef,
        limit: BatchLimit,
        queue_requests_max: int,
        queue_bytes_max: int,
    ) -> None:
        self._admission, self._compute, self._answers = admission, compute, answers
        self._telemetry, self._dead_letters, self._identity_of = telemetry, dead_letters, identity_of
        self._clock, self._model, self._limit = clock, model, limit
        self._queue_requests_max, self._queue_bytes_max = queue_requests_max, queue_bytes_max
        self._topics: dict[tuple[str, int], tuple[str, str]] = {}
        self._identity_due = 0.0
        self._incoming: deque[tuple[Record, Receipt]] = deque()
        self._queue: list[Ready] = []
        self._held_bytes = 0
        self._started: dict[int, tuple[BatchPlan, list[Ready], int]] = {}
        self._tickets = 0
        self._scenarios: set[str] = set()

    def assigned(self, partitions: PartitionSet) -> None:
        """See `Work.assigned`: ask for the topic's id again, for it may have been made anew."""
        for where in partitions:
            self._topics.pop(where, None)

    def dropped(self, partitions: PartitionSet) -> None:
        """See `Work.dropped`."""
        self._incoming = deque(one for one in self._incoming if (one[0].topic, one[0].partition) not in partitions)
        self._queue = [one for one in self._queue if _where(one.receipt) not in partitions]
        self._held_bytes = sum(_size(one) for one, _ in self._incoming) + sum(one.size for one in self._queue)

    def accept(self, records: Sequence[tuple[Record, Receipt]]) -> None:
        """See `Work.accept`."""
        self._incoming.extend(records)
        self._held_bytes += sum(_size(record) for record, _ in records)

    def is_full(self) -> bool:
        """See `Work.is_full`."""
        return self.waiting() >= self._queue_requests_max or self._held_bytes >= self._queue_bytes_max

    def under_way(self) -> int:
        """See `Work.under_way`: batches, and outcomes not yet told."""
        return self._compute.under_way() + len(self._telemetry)

    def waiting(self) -> int:
        """See `Work.waiting`."""
        return len(self._incoming) + len(self._queue)

    def step(self, outbox: Outbox, *, start: bool) -> float:
        """See `Work.step`."""
        for ticket, computed in self._compute.collect():
            self._fold(ticket, computed, outbox)
        if start:
            self._admit(outbox)
            self._start(outbox)
        now_ms = self._clock.now_ms()
        last = not start and self._compute.under_way() == 0
        for event, receipts in self._telemetry.take(now_ms, everything=last):
            outbox.send(self._answers.telemetry(event, now_ms), receipts)
        metrics.QUEUE_DEPTH.set(len(self._queue))
        return self._seconds_until_next(now_ms)

    def _seconds_until_next(self, now_ms: int) -> float:
        if self._incoming and self._clock.monotonic() >= self._identity_due:
            return 0.0
        due = self._telemetry.seconds_until_due(now_ms)
        seconds = IDLE_SECONDS if due is None else min(due, IDLE_SECONDS)
        if self._compute.under_way():
            return min(seconds, BUSY_SECONDS)
        if self._queue:
            return min(seconds, seconds_until_due(self._window(), self._limit, now_ms))
        return seconds

    def _admit(self, outbox: Outbox) -> None:
        """Decode and tokenise a bounded slice of what came in."""
        if not self._incoming or not self._know_identities():
            return
        chosen: list[tuple[Record, Receipt, Identity]] = []
        size = 0
        while self._incoming and len(chosen) < ADMITTED_MAX and size < ADMITTED_BYTES_MAX:
            record, receipt = self._incoming.popleft()
            cluster_id, topic_id = self._topics[record.topic, record.partition]
            identity = Identity.model_construct(
                cluster_id=cluster_id, topic_id=topic_id, partition=record.partition, offset=record.offset
            )
            chosen.append((record, receipt, identity))
            size += _size(record)
        self._held_bytes -= size
        for one in self._admission.admit(chosen):
            if isinstance(one, Unusable):
                self._dead_letter(one, outbox)
            else:
                self._queue.append(one)
                self._held_bytes += one.size

    def _know_identities(self) -> bool:
        """Ask for the ids of newly assigned topics. False while the cluster does not answer."""
        unknown = {(r.topic, r.partition) for r, _ in self._incoming} - self._topics.keys()
        if not unknown:
            return True
        if self._clock.monotonic() < self._identity_due:
            return False
        try:
            for topic in {topic for topic, _ in unknown}:
                found = self._identity_of(topic)
                self._topics.update((where, found) for where in unknown if where[0] == topic)
        except RetryLater as error:
            LOG.warning("the topic's id is not known yet: %s", error)
            self._identity_due = self._clock.monotonic() + IDENTITY_RETRY_SECONDS
            return False
        return True

    def _start(self, outbox: Outbox) -> None:
        """Shed what is too late; give the compute thread batches while it has room."""
        while self._queue and self._compute.under_way() <= PREFETCHED_MAX:
            now_ms = self._clock.now_ms()
            waiting = self._window()
            late = expired(waiting, self._limit, now_ms)
            if late:
                for one in self._take(late):
                    self._shed(one, "expired", now_ms, outbox)
                continue
            plan = plan_batch(waiting, self._limit, now_ms, only_full=self._compute.under_way() > 0)
            if plan is None:
                return
            depth = len(self._queue)
            members = self._take(plan.members)
            self._tickets += 1
            self._started[self._tickets] = plan, members, depth
            self._compute.submit(self._tickets, plan, [[text.ids for text in one.tokenised] for one in members])

    def _window(self) -> list[Waiting]:
        return [one.waiting for one in self._queue[: self._limit.window]]

    def _take(self, indexes: Sequence[int]) -> list[Ready]:
        chosen = set(indexes)
        taken = [self._queue[i] for i in indexes]
        self._queue = [one for i, one in enumerate(self._queue) if i not in chosen]
        self._held_bytes -= sum(one.size for one in taken)
        return taken

    def _fold(self, ticket: int, computed: Computed, outbox: Outbox) -> None:
        """Publish a batch's answers and note its outcomes."""
        plan, members, depth = self._started.pop(ticket)
        facts = BatchFacts(
            model=self._model,
            size=len(members),
            tokens=sum(one.tokens for one in members),
            padded_tokens=computed.tokens_computed,
            tokenise_ms=sum(one.tokenise_ms for one in members),
            compute_ms=computed.compute_ms,
            reason=plan.reason,
            queue_depth=depth,
            memory_bytes=computed.memory_bytes,
        )
        metrics.BATCH_SECONDS.observe(computed.compute_ms / 1000)
        for one, result in zip(members, computed.results, strict=True):
            if not one.receipt.is_alive():
                continue  # its partition went to another worker, who answers it
            now_ms = self._clock.now_ms()
            queue_ms = computed.started_ms - one.appended_ms
            outgoing, fault = self._answers.of_result(one, result, facts, queue_ms, now_ms)
            outbox.send(outgoing, [one.receipt], instead=self._answers.refusal_of(one, now_ms))
            norm = 0.0 if isinstance(result, Fault) else result.norm
            outcome = Outcome.ANSWERED if fault is None else Outcome.FAILED
            error = "" if fault is None else fault.code
            self._tell(one, outcome, now_ms, batch=facts, queue_ms=queue_ms, output_norm=norm, error=error)

    def _shed(self, one: Ready, reason: str, now_ms: int, outbox: Outbox) -> None:
        outbox.send(self._answers.shed(one, reason, now_ms), [one.receipt])
        self._tell(one, Outcome.SHED, now_ms, queue_ms=now_ms - one.appended_ms, error=reason)

    def _tell(
        self,
        one: Ready,
        outcome: Outcome,
        now_ms: int,
        *,
        batch: BatchFacts | None = None,
        queue_ms: float,
        output_norm: float = 0.0,
        error: str,
    ) -> None:
        facts = RequestFacts(
            identity=one.identity,
            appended_ms=one.appended_ms,
            outcome=outcome,
            total_ms=now_ms - one.appended_ms,
            scenario=one.scenario,
            batch=batch,
            request_id=one.request_id,
            queue_ms=queue_ms,
            inputs=len(one.tokenised),
            input_bytes=one.input_bytes,
            tokens=one.tokens,
            unknown_share=one.unknown_share,
            output_norm=min(output_norm, 1e12),
            truncated=one.truncated,
            error=error,
        )
        self._telemetry.add(facts, one.receipt, now_ms)
        scenario = self._label(one.scenario)
        metrics.REQUESTS.labels(scenario, outcome.value).inc()
        metrics.REQUEST_SECONDS.labels(scenario).observe(max(0.0, facts.total_ms / 1000))

    def _dead_letter(self, one: Unusable, outbox: Outbox) -> None:
        record, error, now_ms = one.record, one.error, self._clock.now_ms()
        outbox.send_with(
            "dead letters",
            lambda on_delivery: self._dead_letters.send(record, error, on_delivery),
            [one.receipt],
            _size(record),
        )
        appended_ms = append_time_ms(record, now_ms)
        facts = RequestFacts(
            identity=one.identity,
            appended_ms=appended_ms,
            outcome=Outcome.DEAD_LETTERED,
            total_ms=now_ms - appended_ms,
            queue_ms=now_ms - appended_ms,
            input_bytes=len(record.value or b""),
            error=error.reason.value,
        )
        self._telemetry.add(facts, one.receipt, now_ms)
        metrics.REQUESTS.labels("", Outcome.DEAD_LETTERED.value).inc()

    def _label(self, scenario: str) -> str:
        if scenario not in self._scenarios:
            if len(self._scenarios) >= SCENARIO_LABELS_MAX:
                return "other"
            self._scenarios.add(scenario)
        return scenario


def _where(receipt: Receipt) -> tuple[str, int]:
    return receipt.progress.topic, receipt.progress.partition


def _size(record: Record) -> int:
    headers: Iterable[tuple[str, bytes | None]] = record.headers or ()
    return 300 + len(record.value or b"") + len(record.key or b"") + sum(len(n) + len(v or b"") for n, v in headers)
