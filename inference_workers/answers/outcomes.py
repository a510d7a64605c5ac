"""What becomes of each request: its answer (or failure, shed event, dead letter) goes out, and the outcome is told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from inference_workers.admission.requests import Asked, Denied, Ready, Unusable, append_time_ms
from inference_workers.answers.earlier import Earlier
from inference_workers.answers.records import ANSWER_TOO_LARGE, Answers, timings
from inference_workers.batching.compute import Computed, Fault, Row, fault_of
from inference_workers.batching.planner import Arrangement, BatchPlan
from inference_workers.ports import Item, Tokens
from inference_workers.tasks.inputs import Expired
from inference_workers.tasks.outputs import outputs_of
from inference_workers.tasks.statistics import NONE, Statistics
from inference_workers.telemetry.accumulator import Line, Settled, TelemetryAccumulator, Unread
from inference_workers.telemetry.served_page import BatchFacts, Served
from infra.dead_letters import DeadLetters
from infra.logs import traced
from infra.outbox import Outbox, Outgoing
from infra.ports import Clock, Record
from infra.progress import Progress, Receipts
from schemas.predictions import ModelRef
from schemas.telemetry import Outcome

LOG = logging.getLogger(__name__)
LOG_EVERY_MS = 1_000


@dataclass(slots=True)
class _Seldom:
    """Lets one failure be logged in `LOG_EVERY_MS`, and counts the others."""

    _logged_ms: int | None = None
    _unlogged: int = 0

    def words(self, now_ms: int) -> str | None:
        """What the line ends with, about those that had none; None when this failure has none either."""
        if self._logged_ms is not None and 0 <= now_ms - self._logged_ms < LOG_EVERY_MS:
            self._unlogged += 1
            return None
        more = f" ({self._unlogged} more failures were not logged)" if self._unlogged else ""
        self._logged_ms, self._unlogged = now_ms, 0
        return more


@dataclass(slots=True)
class Outcomes:
    """One outcome for every consumed offset. Used by the loop's thread."""

    answers: Answers
    telemetry: TelemetryAccumulator
    dead_letters: DeadLetters
    clock: Clock
    on_shadow_failure: Callable[[ModelRef, str], None] = lambda model, error: None
    """Gets each shadow's failure: the model and the error's code. Called on the loop's thread."""
    _refused: dict[Progress, set[int]] = field(init=False, default_factory=dict)
    """Offsets whose answer the broker refused for good, until they are told."""
    _failures: _Seldom = field(init=False, default_factory=_Seldom)
    _shadow_failures: _Seldom = field(init=False, default_factory=_Seldom)

    def finished(self, one: Ready, outbox: Outbox) -> None:
        """Nothing of a request is to be computed: answer it with the rows that are there, or say what failed."""
        rows, queue_ms = rows_in_order(one, {}), one.queue_ms(self.clock.now_ms())
        self.telemetry.add_settled([self.answered(one, rows, outbox, batch=None, queue_ms=queue_ms)])

    def answered(
        self, one: Ready, rows: Sequence[Row | Fault], outbox: Outbox, *, batch: BatchFacts | None, queue_ms: float
    ) -> Settled:
        """All parts of a request are there, in order: answer it, or say what failed. What became of it is handed back
        for `TelemetryAccumulator.add_settled` instead of being noted. To answer a whole batch and note its outcomes
        then takes less time than to do both for each: the processor's cache holds one of the two programs."""
        asked, now_ms = one.asked, self.clock.now_ms()
        outgoing, fault, statistics = self._answer(one, rows, batch, queue_ms, now_ms)
        if fault is not None:
            self._log_failure(asked, fault, now_ms)
        outbox.send(outgoing, [asked.receipt], instead=lambda: self._refused_by_broker(asked, now_ms))
        return one, rows, now_ms, queue_ms, batch, fault, statistics

    def _answer(
        self, one: Ready, rows: Sequence[Row | Fault], batch: BatchFacts | None, queue_ms: float, now_ms: int
    ) -> tuple[Outgoing, Fault | None, Statistics]:
        asked = one.asked
        good = [row for row in rows if isinstance(row, Row)]
        fault = next((row for row in rows if isinstance(row, Fault)), None)
        if fault is None:
            try:
                outputs, statistics = outputs_of(asked.wanted, good, one.route.servable)
            except Exception as error:  # results of another shape than the task needs are this request's failure
                fault = fault_of(error)
            else:
                times = timings(
                    queue_ms, one.tokenise_ms, 0.0 if batch is None else batch.compute_ms, now_ms - asked.appended_ms
                )
                cached = one.cached == len(one.parts)
                outgoing = self.answers.answered(asked, outputs, times, now_ms, truncated=one.truncated, cached=cached)
                if outgoing is not None:
                    return outgoing, None, statistics
                fault = ANSWER_TOO_LARGE
        return self.answers.failed(asked, fault, now_ms), fault, NONE

    def _refused_by_broker(self, asked: Asked, now_ms: int) -> Outgoing:
        """What is sent instead of an answer that the broker refused for good. To be called before it is told of."""
        progress, offset = asked.receipt.progress, asked.receipt.offset
        for lost in [one for one in self._refused if one.closed]:
            del self._refused[lost]  # whoever has the partition now tells of it
        self._refused.setdefault(progress, set()).add(offset)
        return self.answers.failed(asked, ANSWER_TOO_LARGE, now_ms)

    def tell(self, event: Served, receipts: Receipts, outbox: Outbox, now_ms: int) -> Served:
        """Send telemetry of which every answer is in Kafka, and hand it back as it was told: what was noted as answered
        and refused by the broker since has failed."""
        if self._refused:
            refused = self._refused.get(receipts.progress, set()).intersection(receipts.offsets)
            if refused:
                event = event.with_failed(refused, ANSWER_TOO_LARGE.code)
                self._refused[receipts.progress] -= refused
            self._refused = {progress: left for progress, left in self._refused.items() if left}
        outbox.send(self.answers.telemetry(event, now_ms), [receipts])
        return event

    def expired(self, one: Ready, outbox: Outbox, at_ms: int | None = None) -> None:
        """A request whose deadline passed before it could be computed, which is now, or was `at_ms`."""
        at_ms = self.clock.now_ms() if at_ms is None else at_ms
        expired = Expired(at_ms - (one.asked.deadline_ms or at_ms), "it could be computed")
        self._shed(one.asked, expired.code, str(expired), one.reading_ms, outbox)

    def denied(self, one: Denied, outbox: Outbox) -> None:
        """A request that is not computed here: shed when it is over a limit, else failed."""
        asked, refusal = one.asked, one.refusal
        if one.is_shed:
            self._shed(asked, refusal.code, str(refusal), one.reading_ms, outbox)
            return
        now_ms = self.clock.now_ms()
        fault = Fault(refusal.code, str(refusal)[:2_000], "")
        self._log_failure(asked, fault, now_ms)
        outbox.send(self.answers.failed(asked, fault, now_ms), [asked.receipt])
        total_ms = now_ms - asked.appended_ms
        queue_ms = total_ms - one.reading_ms
        self.telemetry.add_all([Line(asked, Outcome.FAILED, now_ms, total_ms, queue_ms, error=fault.code)])

    def given_up_before(self, asked: Asked, earlier: Earlier) -> None:
        """A request that another worker has failed or shed, and not told of: its answer is there, and stands."""
        asked.receipt.settle()
        waited_ms = max(0, earlier.at_ms - asked.appended_ms)
        outcome = Line(asked, earlier.outcome, self.clock.now_ms(), waited_ms, waited_ms, error=earlier.error)
        self.telemetry.add_all([outcome])

    def unusable(self, one: Unusable, outbox: Outbox) -> None:
        """A record that could not be read."""
        record, error, now_ms = one.record, one.error, self.clock.now_ms()
        outbox.send_with(
            "dead letters",
            lambda on_delivery: self.dead_letters.send(record, error, on_delivery, one.identity.topic_id),
            [one.receipt],
            size_of(record),
        )
        appended_ms = append_time_ms(record, now_ms)
        read = Unread(one.receipt, one.identity, appended_ms, len(record.value or b""))
        waited_ms = now_ms - appended_ms
        outcome = Line(read, Outcome.DEAD_LETTERED, now_ms, waited_ms, waited_ms, error=error.reason.value)
        self.telemetry.add_all([outcome])

    def _shed(self, asked: Asked, reason: str, message: str, reading_ms: float, outbox: Outbox) -> None:
        now_ms = self.clock.now_ms()
        outbox.send(self.answers.shed(asked, reason, message, now_ms), [asked.receipt])
        total_ms = now_ms - asked.appended_ms
        self.telemetry.add_all([Line(asked, Outcome.SHED, now_ms, total_ms, total_ms - reading_ms, error=reason)])

    def of_shadow(self, one: Ready, rows: Sequence[Row | Fault]) -> None:
        """A shadow was computed. Nobody is answered; that its model fails is counted all the same, and said now and
        then."""
        fault = next((row for row in rows if isinstance(row, Fault)), None)
        if fault is not None:
            self._shadow_failed(one.asked, one.route.ref, fault.code, fault.message)

    def shadow_refused(self, one: Denied, model: ModelRef) -> None:
        """A shadow cannot compute a request: the same as one that fails on it, unless it only came too late."""
        if not isinstance(one.refusal, Expired):
            self._shadow_failed(one.asked, model, one.refusal.code, str(one.refusal))

    def _shadow_failed(self, asked: Asked, ref: ModelRef, code: str, message: str) -> None:
        self.on_shadow_failure(ref, code)
        more = self._shadow_failures.words(self.clock.now_ms())
        if more is not None:
            with traced(asked.traceparent):
                LOG.warning(
                    "shadow %s (%s %s) failed on request %s, which another model answers: %s: %s%s",
                    *(ref.arm, ref.name, ref.version, asked.identity, code, message, more),
                )

    def _log_failure(self, asked: Asked, fault: Fault, now_ms: int) -> None:
        """A line with the request's trace, now and then: a model that fails on everything must not fill the log."""
        more = self._failures.words(now_ms)
        if more is not None:
            with traced(asked.traceparent):
                LOG.warning("request %s failed: %s: %s%s", asked.identity, fault.code, fault.message, more)


def batch_facts(
    model: ModelRef, plan: BatchPlan, members: Sequence[Ready], arrangement: Arrangement, computed: Computed, depth: int
) -> BatchFacts:
    """What is told of a batch but for `post_ms`; `depth` requests waited when it was closed."""
    items = arrangement.items
    tokens = sum([item.cost for item in items])
    if items and items[0].sampling is not None:  # their cost counts what they may generate
        tokens = sum([len(item.ids) or 1 for item in items]) + sum(map(_fed_back, computed.results))
    return BatchFacts(
        model=model,
        size=len(members),
        tokens=tokens,
        padded_tokens=computed.tokens_computed,
        tokenise_ms=sum([one.tokenise_ms for one in members]),
        compute_ms=computed.compute_ms,
        reason=plan.reason,
        queue_depth=depth,
        memory_bytes=computed.memory_bytes,
        computed=len(items),
    )


def _fed_back(result: Row | Fault) -> int:
    """How many generated tokens went through the model: all but one that nothing came after."""
    tokens = result.value if isinstance(result, Row) else None
    return len(tokens.ids) - (tokens.finish_reason == "length") if isinstance(tokens, Tokens) else 0


def rows_in_order(one: Ready, computed: dict[int, Row | Fault]) -> list[Row | Fault]:
    """A request's results by part: those computed, in the order of its items, between those that were there."""
    if len(computed) == len(one.parts):
        return list(computed.values())
    results = iter(computed.values())
    return [next(results) if isinstance(part, Item) else part for part in one.parts]


def size_of(record: Record) -> int:
    """What a record takes in memory, roughly, in bytes."""
    headers: Iterable[tuple[str, bytes | None]] = record.headers or ()
    return 300 + len(record.value or b"") + len(record.key or b"") + sum(len(n) + len(v or b"") for n, v in headers)
