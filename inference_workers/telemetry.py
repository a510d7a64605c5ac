"""Collects the outcome of every consumed offset into columnar events, one partition at a time. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from infra.progress import Receipt
from schemas.base import Identity
from schemas.predictions import ModelRef
from schemas.telemetry import (
    REQUESTS_PER_EVENT_MAX,
    BatchColumns,
    BatchReason,
    InferenceServed,
    Outcome,
    RequestColumns,
    WorkerRef,
)

EVENT_BYTES_MAX = 500_000
"""Bounds an event as JSON to half of what the topic takes."""
ROW_BYTES, BATCH_BYTES, REQUEST_ID_BYTES_PER_CHARACTER = 220, 160, 6
"""Upper bounds: a row's numbers are at most so long; a character of JSON is at most six bytes."""
SCENARIOS_MAX = 256

PartitionKey = tuple[str, str, int]
"""Cluster id, topic id, partition."""


@dataclass(frozen=True, slots=True, eq=False)
class BatchFacts:
    """What is told of a batch, as in `BatchColumns`."""

    model: ModelRef
    size: int
    tokens: int
    padded_tokens: int
    tokenise_ms: float
    compute_ms: float
    reason: BatchReason
    queue_depth: int
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What is told of one consumed offset, as in `RequestColumns`; `batch` is None for one that was in none."""

    identity: Identity
    appended_ms: int
    outcome: Outcome
    total_ms: float
    scenario: str | None = None
    batch: BatchFacts | None = None
    request_id: str = ""
    queue_ms: float = 0.0
    inputs: int = 0
    input_bytes: int = 0
    tokens: int = 0
    unknown_share: float = 0.0
    output_norm: float = 0.0
    truncated: bool = False
    error: str = ""


@dataclass(slots=True)
class _Page:
    since_ms: int
    rows: list[tuple[RequestFacts, Receipt]] = field(default_factory=list)
    batches: dict[int, BatchFacts] = field(default_factory=dict)  # by id(): a batch is one object
    scenarios: set[str] = field(default_factory=set)
    size: int = 0


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
        key = identity.cluster_id, identity.topic_id, identity.partition
        page = self._open.get(key)
        size = ROW_BYTES + REQUEST_ID_BYTES_PER_CHARACTER * len(facts.request_id) + len(facts.error)
        if page is not None and not _fits(page, facts, size):
            self._full.append((key, self._open.pop(key)))
            page = None
        if page is None:
            page = self._open[key] = _Page(now_ms)
        if facts.batch is not None and id(facts.batch) not in page.batches:
            page.batches[id(facts.batch)] = facts.batch
            size += BATCH_BYTES
        if facts.scenario is not None:
            page.scenarios.add(facts.scenario)
        page.rows.append((facts, receipt))
        page.size += size

    def take(self, now_ms: int, *, everything: bool = False) -> list[tuple[InferenceServed, list[Receipt]]]:
        """Events that are due, with the receipts of the offsets that they tell; `everything` does not wait."""
        due = [key for key, page in self._open.items() if everything or now_ms - page.since_ms >= self._flush_ms]
        pages = self._full + [(key, self._open.pop(key)) for key in due]
        self._full = []
        return [(self._event(key, page), [receipt for _, receipt in page.rows]) for key, page in pages]

    def seconds_until_due(self, now_ms: int) -> float | None:
        """When `take` has something to give, or None while there is nothing."""
        if self._full:
            return 0.0
        first = min((page.since_ms for page in self._open.values()), default=None)
        return None if first is None else max(0, first + self._flush_ms - now_ms) / 1000

    def __len__(self) -> int:
        return sum(len(page.rows) for page in self._open.values()) + sum(len(page.rows) for _, page in self._full)

    def _event(self, key: PartitionKey, page: _Page) -> InferenceServed:
        rows = sorted((facts for facts, _ in page.rows), key=lambda facts: facts.identity.offset)
        batches = list(page.batches.values())
        models = list(dict.fromkeys(batch.model.model_dump_json() for batch in batches))
        scenarios = sorted(page.scenarios)
        return InferenceServed(
            cluster_id=key[0],
            topic_id=key[1],
            partition=key[2],
            worker=self._worker,
            models=[ModelRef.model_validate_json(model) for model in models],
            scenarios=scenarios,
            batches=_batch_columns(batches, models),
            requests=_request_columns(rows, list(page.batches), scenarios),
        )


def _fits(page: _Page, facts: RequestFacts, size: int) -> bool:
    return (
        len(page.rows) < REQUESTS_PER_EVENT_MAX
        and page.size + size + BATCH_BYTES <= EVENT_BYTES_MAX
        and (facts.scenario is None or facts.scenario in page.scenarios or len(page.scenarios) < SCENARIOS_MAX)
    )


def _batch_columns(batches: Sequence[BatchFacts], models: Sequence[str]) -> BatchColumns:
    return BatchColumns(
        model=[models.index(batch.model.model_dump_json()) for batch in batches],
        size=[batch.size for batch in batches],
        tokens=[batch.tokens for batch in batches],
        padded_tokens=[batch.padded_tokens for batch in batches],
        tokenise_ms=[bounded_ms(batch.tokenise_ms) for batch in batches],
        compute_ms=[bounded_ms(batch.compute_ms) for batch in batches],
        reason=[batch.reason for batch in batches],
        queue_depth=[batch.queue_depth for batch in batches],
        memory_bytes=[batch.memory_bytes for batch in batches],
    )


def _request_columns(rows: Sequence[RequestFacts], batches: Sequence[int], scenarios: Sequence[str]) -> RequestColumns:
    batch_index = {batch: i for i, batch in enumerate(batches)}
    scenario_index: dict[str | None, int] = {scenario: i for i, scenario in enumerate(scenarios)}
    return RequestColumns(
        offset=[row.identity.offset for row in rows],
        appended_ms=[row.appended_ms for row in rows],
        outcome=[row.outcome for row in rows],
        scenario=[scenario_index.get(row.scenario, -1) for row in rows],
        batch=[-1 if row.batch is None else batch_index[id(row.batch)] for row in rows],
        request_id=[row.request_id for row in rows],
        queue_ms=[bounded_ms(row.queue_ms) for row in rows],
        total_ms=[bounded_ms(row.total_ms) for row in rows],
        inputs=[row.inputs for row in rows],
        input_bytes=[row.input_bytes for row in rows],
        tokens=[row.tokens for row in rows],
        unknown_share=[round(row.unknown_share, 4) for row in rows],
        output_norm=[round(row.output_norm, 4) for row in rows],
        truncated=[row.truncated for row in rows],
        error=[row.error for row in rows],
    )


def bounded_ms(value: float) -> float:
    """Milliseconds to the microsecond, 0 to 1e12, whatever the clocks of two machines say."""
    return min(1e12, max(0.0, round(value, 3)))
