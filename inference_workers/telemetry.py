"""Collects the outcome of every consumed offset into columnar events, one partition at a time. Pure.

Every request passes here, so a row is one tuple in the order of the columns, and columns are cut from rows in one go.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from inference_workers.ports import Place
from inference_workers.tasks.statistics import NONE, Statistics
from infra.progress import Receipt
from schemas.predictions import ModelRef
from schemas.telemetry import (
    REQUESTS_PER_EVENT_MAX,
    BatchColumns,
    BatchReason,
    InferenceServed,
    Outcome,
    ProcessSample,
    RequestColumns,
    WorkerRef,
)

EVENT_BYTES_MAX = 700_000
"""Bounds an event as JSON to two thirds of what the topic takes."""
ROW_BYTES, BATCH_BYTES, REQUEST_ID_BYTES_PER_CHARACTER = 300, 200, 6
"""Upper bounds: a row's numbers are at most so long; a character of JSON is at most six bytes."""
SCENARIOS_MAX = 256
MODELS_MAX = 256

PartitionKey = tuple[str, str, int]
"""Cluster id, topic id, partition."""
_ROW_FIELDS = (
    *("offset", "appended_ms", "outcome", "scenario", "batch", "request_id", "queue_ms", "total_ms", "inputs"),
    *("input_bytes", "tokens", "unknown_share", "output_norm", "truncated", "error", "model", "cached"),
    *("confidence", "margin", "entropy", "fingerprint"),
)


@dataclass(slots=True, eq=False)
class BatchFacts:
    """What is told of a batch, as in `BatchColumns`. `post_ms` is filled in when its answers are handed over."""

    model: ModelRef
    size: int
    tokens: int
    padded_tokens: int
    tokenise_ms: float
    compute_ms: float
    reason: BatchReason
    queue_depth: int
    memory_bytes: int
    computed: int
    post_ms: float = 0.0


@dataclass(slots=True, eq=False)
class RequestFacts:
    """What is told of one consumed offset, as in `RequestColumns`; `batch` is None for one that was in none, `model`
    for one that reached none. `cached` is the share of its inputs that the cache held."""

    identity: Place
    appended_ms: int
    outcome: Outcome
    total_ms: float
    scenario: str | None = None
    batch: BatchFacts | None = None
    model: ModelRef | None = None
    request_id: str = ""
    queue_ms: float = 0.0
    inputs: int = 0
    input_bytes: int = 0
    tokens: int = 0
    unknown_share: float = 0.0
    output_norm: float = 0.0
    truncated: bool = False
    error: str = ""
    fingerprint: str = ""
    cached: float = 0.0
    statistics: Statistics = NONE


@dataclass(slots=True)
class _Page:
    since_ms: int
    rows: list[tuple[Any, ...]] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    offsets: set[int] = field(default_factory=set)
    batches: dict[int, tuple[int, BatchFacts]] = field(default_factory=dict)  # by id(): a batch is one object
    models: dict[ModelRef, int] = field(default_factory=dict)
    scenarios: dict[str, int] = field(default_factory=dict)
    size: int = 0

    def fits(self, facts: RequestFacts, size: int) -> bool:
        return (
            len(self.rows) < REQUESTS_PER_EVENT_MAX
            and facts.identity.offset not in self.offsets  # it came back after a rebalance: told apart, read once
            and self.size + size + BATCH_BYTES <= EVENT_BYTES_MAX
            and (facts.scenario is None or facts.scenario in self.scenarios or len(self.scenarios) < SCENARIOS_MAX)
            and (facts.model is None or facts.model in self.models or len(self.models) < MODELS_MAX)
        )

    def add(self, facts: RequestFacts, receipt: Receipt, size: int) -> None:
        scenario = model = batch = -1
        if facts.scenario is not None:
            scenario = self.scenarios.setdefault(facts.scenario, len(self.scenarios))
        if facts.model is not None:
            model = self.models.setdefault(facts.model, len(self.models))
        if facts.batch is not None:
            found = self.batches.get(id(facts.batch))
            if found is None:
                found = self.batches[id(facts.batch)] = len(self.batches), facts.batch
                size += BATCH_BYTES
            batch = found[0]
        statistics = facts.statistics
        self.rows.append(
            (
                facts.identity.offset,
                facts.appended_ms,
                facts.outcome,
                scenario,
                batch,
                facts.request_id,
                bounded_ms(facts.queue_ms),
                bounded_ms(facts.total_ms),
                facts.inputs,
                facts.input_bytes,
                facts.tokens,
                round(facts.unknown_share, 4),
                round(facts.output_norm, 4),
                facts.truncated,
                facts.error,
                model,
                round(facts.cached, 4),
                round(statistics.confidence, 4),
                round(statistics.margin, 4),
                round(statistics.entropy, 4),
                facts.fingerprint,
            )
        )
        self.receipts.append(receipt)
        self.offsets.add(facts.identity.offset)
        self.size += size


class TelemetryAccumulator:
    """Outcomes by partition until they are due. Memory is bounded by its owner's bound on records in work."""

    def __init__(self, worker: WorkerRef, flush_ms: int) -> None:
        """`flush_ms`: longest wait of an outcome."""
        self._worker = worker
        self._flush_ms = flush_ms
        self._open: dict[PartitionKey, _Page] = {}
        self._full: list[tuple[PartitionKey, _Page]] = []

    def add(self, facts: RequestFacts, receipt: Receipt, now_ms: int) -> None:
        """One offset's outcome. The receipt is handed back with the event that tells it."""
        identity = facts.identity
        key = identity[:3]
        page = self._open.get(key)
        size = ROW_BYTES + REQUEST_ID_BYTES_PER_CHARACTER * len(facts.request_id) + len(facts.error)
        if page is not None and not page.fits(facts, size):
            self._full.append((key, self._open.pop(key)))
            page = None
        if page is None:
            page = self._open[key] = _Page(now_ms)
        page.add(facts, receipt, size)

    def take(
        self, now_ms: int, *, everything: bool = False, sample: ProcessSample | None = None
    ) -> list[tuple[InferenceServed, list[Receipt]]]:
        """Events that are due, with the receipts of the offsets that they tell; `everything` does not wait."""
        due = [key for key, page in self._open.items() if everything or now_ms - page.since_ms >= self._flush_ms]
        pages = self._full + [(key, self._open.pop(key)) for key in due]
        self._full = []
        return [(self._event(key, page, sample), page.receipts) for key, page in pages]

    def seconds_until_due(self, now_ms: int) -> float | None:
        """When `take` has something to give, or None while there is nothing."""
        if self._full:
            return 0.0
        first = min((page.since_ms for page in self._open.values()), default=None)
        return None if first is None else max(0, first + self._flush_ms - now_ms) / 1000

    def __len__(self) -> int:
        return sum(len(page.rows) for page in self._open.values()) + sum(len(page.rows) for _, page in self._full)

    def _event(self, key: PartitionKey, page: _Page, sample: ProcessSample | None) -> InferenceServed:
        batches = [batch for _, batch in page.batches.values()]
        for batch in batches:  # a batch that only failures came of
            page.models.setdefault(batch.model, len(page.models))
        page.rows.sort(key=_offset)
        columns: dict[str, Any] = {
            name: list(values) for name, values in zip(_ROW_FIELDS, zip(*page.rows, strict=True), strict=True)
        }
        # What this makes is valid by construction; tests decode it.
        return InferenceServed.model_construct(
            cluster_id=key[0],
            topic_id=key[1],
            partition=key[2],
            worker=self._worker,
            models=list(page.models),
            scenarios=list(page.scenarios),
            batches=_batch_columns(batches, page.models),
            requests=RequestColumns.model_construct(**columns),
            sample=sample,
        )


def _offset(row: tuple[Any, ...]) -> int:
    return int(row[0])


def _batch_columns(batches: Iterable[BatchFacts], models: dict[ModelRef, int]) -> BatchColumns:
    batches = list(batches)
    return BatchColumns.model_construct(
        model=[models[batch.model] for batch in batches],
        size=[batch.size for batch in batches],
        tokens=[batch.tokens for batch in batches],
        padded_tokens=[batch.padded_tokens for batch in batches],
        tokenise_ms=[bounded_ms(batch.tokenise_ms) for batch in batches],
        compute_ms=[bounded_ms(batch.compute_ms) for batch in batches],
        reason=[batch.reason for batch in batches],
        queue_depth=[batch.queue_depth for batch in batches],
        memory_bytes=[batch.memory_bytes for batch in batches],
        post_ms=[bounded_ms(batch.post_ms) for batch in batches],
        computed=[batch.computed for batch in batches],
    )


def bounded_ms(value: float) -> float:
    """Milliseconds to the microsecond, 0 to 1e12, whatever the clocks of two machines say."""
    return min(1e12, max(0.0, round(value, 3)))
