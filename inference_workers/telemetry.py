"""Collects the outcome of every consumed offset into columnar events, one partition at a time. Pure.

Every request passes here: what is told of it is kept as it came, and columns are made for a whole event in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Protocol, TypeVar

from inference_workers.ports import Place
from inference_workers.tasks.statistics import NONE, Statistics
from infra.progress import Progress, Receipt
from infra.trusted_messages import trusted
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
MODELS_MAX = 250
"""Below what an event may hold: a batch that only failures came of names its model too."""
MILLISECONDS_MAX = 1e12

T = TypeVar("T")


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


class Consumed(Protocol):
    """The record that an outcome is told of, as in `RequestColumns`; `scenario` and `model` are None for one that could
    not be read."""

    @property
    def receipt(self) -> Receipt: ...
    @property
    def identity(self) -> Place: ...
    @property
    def appended_ms(self) -> int: ...
    @property
    def scenario(self) -> str | None: ...
    @property
    def model(self) -> ModelRef | None: ...
    @property
    def request_id(self) -> str: ...
    @property
    def inputs(self) -> int: ...
    @property
    def input_bytes(self) -> int: ...


@dataclass(slots=True, eq=False)
class Unread:
    """A `Consumed` of which nothing is known but where it is."""

    receipt: Receipt
    identity: Place
    appended_ms: int
    input_bytes: int
    scenario: None = None
    model: None = None
    request_id: str = ""
    inputs: int = 0


_Row = tuple[Any, ...]
"""What is told of one consumed offset, in the order of `_COLUMNS`."""
_COLUMNS = (
    *("offset", "receipt", "identity", "appended_ms", "outcome", "scenario", "model", "batch", "request_id"),
    *("queue_ms", "total_ms", "inputs", "input_bytes", "tokens", "unknown_share", "output_norm", "truncated"),
    *("error", "cached", "statistics", "fingerprint"),
)


@dataclass(slots=True)
class _Page:
    since_ms: int
    rows: list[_Row] = field(default_factory=list)


class TelemetryAccumulator:
    """Outcomes by partition until they are due. Memory is bounded by its owner's bound on records in work."""

    def __init__(self, worker: WorkerRef, flush_ms: int) -> None:
        """`flush_ms`: longest wait of an outcome."""
        self._worker = worker
        self._flush_ms = flush_ms
        # One assignment of a partition is one `Progress`: an offset that comes back after a rebalance has another one,
        # so it is told in an event of its own, and read once.
        self._open: dict[Progress, _Page] = {}
        self._full: list[_Page] = []
        self._due_ms: int | None = None

    def add(
        self,
        record: Consumed,
        outcome: Outcome,
        now_ms: int,
        *,
        total_ms: float,
        queue_ms: float = 0.0,
        batch: BatchFacts | None = None,
        tokens: int = 0,
        unknown_share: float = 0.0,
        truncated: bool = False,
        cached: float = 0.0,
        output_norm: float = 0.0,
        statistics: Statistics = NONE,
        error: str = "",
        fingerprint: str = "",
    ) -> None:
        """One offset's outcome, as in `RequestColumns`; `batch` is None for one that was in none, `cached` the share of
        its inputs that the cache held. The record's receipt is handed back with the event that tells it."""
        receipt = record.receipt
        page = self._open.get(receipt.progress)
        if page is None:
            page = self._open[receipt.progress] = _Page(now_ms)
            if self._due_ms is None:
                self._due_ms = now_ms + self._flush_ms
        # Copied while it is at hand: when the event is made, the processor's cache has forgotten the request.
        page.rows.append(
            (
                record.identity[3],
                receipt,
                record.identity,
                record.appended_ms,
                outcome,
                record.scenario,
                record.model,
                batch,
                record.request_id,
                queue_ms,
                total_ms,
                record.inputs,
                record.input_bytes,
                tokens,
                unknown_share,
                output_norm,
                truncated,
                error,
                cached,
                statistics,
                fingerprint,
            )
        )
        if len(page.rows) >= REQUESTS_PER_EVENT_MAX:
            self._full.append(self._open.pop(receipt.progress))

    def take(
        self, now_ms: int, *, everything: bool = False, sample: Callable[[], ProcessSample | None] = lambda: None
    ) -> list[tuple[InferenceServed, list[Receipt]]]:
        """Events that are due, with the receipts of the offsets that they tell; `everything` does not wait. `sample`
        is asked only when there are some."""
        if not everything and not self._full and (self._due_ms is None or now_ms < self._due_ms):
            return []
        due = [key for key, page in self._open.items() if everything or now_ms - page.since_ms >= self._flush_ms]
        pages = self._full + [self._open.pop(key) for key in due]
        self._full = []
        first = min((page.since_ms for page in self._open.values()), default=None)
        self._due_ms = None if first is None else first + self._flush_ms
        if not pages:
            return []
        taken = sample()
        parts = [rows for page in pages for rows in _fitting(sorted(page.rows, key=_OFFSET))]
        return [(self._event(rows, taken), list(map(_RECEIPT, rows))) for rows in parts]

    def seconds_until_due(self, now_ms: int) -> float | None:
        """When `take` has something to give, or None while there is nothing."""
        if self._full:
            return 0.0
        return None if self._due_ms is None else max(0, self._due_ms - now_ms) / 1000

    def __len__(self) -> int:
        return sum(len(page.rows) for page in (*self._open.values(), *self._full))

    def _event(self, rows: Sequence[_Row], sample: ProcessSample | None) -> InferenceServed:
        columns = dict(zip(_COLUMNS, map(list, zip(*rows, strict=True)), strict=True))
        del columns["receipt"]
        identity: Place = columns.pop("identity")[0]
        batches, columns["batch"] = _numbered(columns["batch"])
        # A batch that only failures came of names its model too.
        models, model = _numbered([*columns["model"], *(one.model for one in batches)])
        columns["model"] = model[: len(rows)]
        names = [name for name in dict.fromkeys(columns["scenario"]) if name is not None]
        places: dict[str | None, int] = {name: place for place, name in enumerate(names)} | {None: -1}
        columns["scenario"] = [places[name] for name in columns["scenario"]]
        for name in ("queue_ms", "total_ms"):
            columns[name] = _milliseconds(columns[name])
        for name in ("unknown_share", "output_norm"):
            columns[name] = _rounded(columns[name])
        columns["cached"] = _told(columns["cached"])
        statistics: list[Statistics] = columns.pop("statistics")
        some = statistics if any(one is not NONE for one in statistics) else []
        columns["confidence"] = _told([one.confidence for one in some])
        columns["margin"] = _told([one.margin for one in some])
        columns["entropy"] = _told([one.entropy for one in some])
        if not any(columns["fingerprint"]):
            columns["fingerprint"] = []
        # What this makes is valid by construction; tests decode it.
        return trusted(
            InferenceServed,
            cluster_id=identity.cluster_id,
            topic_id=identity.topic_id,
            partition=identity.partition,
            worker=self._worker,
            models=models,
            scenarios=names,
            batches=_batch_columns(batches, model[len(rows) :]),
            requests=trusted(RequestColumns, **columns),
            sample=sample,
        )


_OFFSET, _RECEIPT, _SCENARIO, _MODEL, _BATCH, _REQUEST_ID, _ERROR = (
    itemgetter(_COLUMNS.index(name))
    for name in ("offset", "receipt", "scenario", "model", "batch", "request_id", "error")
)


def _fitting(rows: list[_Row]) -> list[list[_Row]]:
    """The rows in as many parts as it takes for each to fit an event: one, nearly always."""
    size = ROW_BYTES * len(rows) + BATCH_BYTES * len(set(map(id, map(_BATCH, rows))))
    size += REQUEST_ID_BYTES_PER_CHARACTER * sum(map(len, map(_REQUEST_ID, rows))) + sum(map(len, map(_ERROR, rows)))
    fits = size <= EVENT_BYTES_MAX and len(set(map(_SCENARIO, rows))) <= SCENARIOS_MAX
    if len(rows) == 1 or (fits and len(set(map(id, map(_MODEL, rows)))) <= MODELS_MAX):
        return [rows]
    half = len(rows) // 2
    return [*_fitting(rows[:half]), *_fitting(rows[half:])]


def _numbered(values: Sequence[T | None]) -> tuple[list[T], list[int]]:
    """The different objects among these, and for each value its object's place among them; -1 for None.

    Told apart by identity: a batch is one object, and to compare models costs more than all else that is told.
    """
    objects = {id(value): value for value in values if value is not None}
    places = {identity: place for place, identity in enumerate(objects)}
    places[id(None)] = -1
    return list(objects.values()), [places[id(value)] for value in values]


def _batch_columns(batches: Sequence[BatchFacts], model: list[int]) -> BatchColumns:
    return trusted(
        BatchColumns,
        model=model,
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


def _milliseconds(values: list[float]) -> list[float]:
    if min(values) >= 0.0 and max(values) <= MILLISECONDS_MAX:
        return [round(value, 3) for value in values]
    return [bounded_ms(value) for value in values]


def _rounded(values: list[float]) -> list[float]:
    return [round(value, 4) for value in values] if any(values) else values


def _told(values: list[float]) -> list[float]:
    """A column that may be left out, when it says nothing."""
    return _rounded(values) if any(values) else []


def bounded_ms(value: float) -> float:
    """Milliseconds to the microsecond, 0 to 1e12, whatever the clocks of two machines say."""
    return round(value, 3) if 0.0 <= value <= MILLISECONDS_MAX else min(MILLISECONDS_MAX, max(0.0, value))
