"""Collects the outcome of every consumed offset until it is told, one partition at a time. Pure.

Every request passes here: its numbers are copied, and columns are made for a whole event in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from inference_workers.ports import Place
from inference_workers.tasks.statistics import NONE, Statistics
from inference_workers.telemetry.served_page import (
    BYTES_PER_CHARACTER,
    LARGEST_ROW_BYTES,
    OUTCOME_NUMBERS,
    ROW_BYTES,
    BatchFacts,
    Page,
    Served,
    packed,
    served,
)
from infra.progress import Progress, Receipt
from schemas.predictions import ModelRef
from schemas.telemetry import Outcome, ProcessSample, WorkerRef

NEW = -2
"""Not in an event's table yet."""


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


class Line(NamedTuple):
    """What became of one record, as in `RequestColumns`; `batch` is None for one that was in none, `cached` the share
    of its inputs that the cache held."""

    record: Consumed
    outcome: Outcome
    now_ms: int
    total_ms: float
    queue_ms: float = 0.0
    batch: BatchFacts | None = None
    tokens: int = 0
    unknown_share: float = 0.0
    truncated: bool = False
    cached: float = 0.0
    output_norm: float = 0.0
    statistics: Statistics = NONE
    error: str = ""
    fingerprint: str = ""
    script: int = 0
    direction: int = 0


Told = tuple[
    Consumed,
    Outcome,
    int,
    float,
    float,
    BatchFacts | None,
    int,
    float,
    bool,
    float,
    float,
    Statistics,
    str,
    str,
    int,
    int,
]
"""A `Line` as a plain tuple: most requests make one, and to name its parts takes several times as long."""


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


class TelemetryAccumulator:
    """Outcomes by partition until they are due. Memory is bounded by its owner's bound on records in work."""

    def __init__(self, worker: WorkerRef, flush_ms: int) -> None:
        """`flush_ms`: longest wait of an outcome."""
        self._worker = worker
        self._flush_ms = flush_ms
        # One assignment of a partition is one `Progress`: an offset that comes back after a rebalance has another one,
        # so it is told in an event of its own, and read once.
        self._open: dict[Progress, Page] = {}
        self._full: list[Page] = []
        self._due_ms: int | None = None

    def add_all(self, lines: Iterable[Told]) -> None:
        """Offsets' outcomes. A record's receipt is handed back with the event that tells it."""
        for (
            record,
            outcome,
            now_ms,
            total_ms,
            queue_ms,
            batch,
            tokens,
            unknown_share,
            truncated,
            cached,
            output_norm,
            statistics,
            error,
            fingerprint,
            script,
            direction,
        ) in lines:
            receipt, scenario, model, request_id = record.receipt, record.scenario, record.model, record.request_id
            page = self._open.get(receipt.progress)
            if page is None:
                page = self._opened(receipt.progress, record.identity, now_ms)
            # The three tables are looked up here and not by a method: a call takes longer than the looking up.
            scenario_place = -1 if scenario is None else page.scenarios.get(scenario, NEW)
            model_place = -1 if model is None else page.models.get(id(model), NEW)
            batch_place = -1 if batch is None else page.batches.get(id(batch), NEW)
            if scenario is not None and scenario_place == NEW:
                scenario_place = page.new_scenario(scenario)
            if model is not None and model_place == NEW:
                model_place = page.new_model(model)
            if batch is not None and batch_place == NEW:
                batch_place = page.new_batch(batch)
            page.rows.append(
                packed(
                    record.identity[3],
                    record.appended_ms,
                    scenario_place,
                    model_place,
                    batch_place,
                    record.inputs,
                    record.input_bytes,
                    tokens,
                    OUTCOME_NUMBERS[outcome],
                    script,
                    direction,
                    queue_ms,
                    total_ms,
                    unknown_share,
                    output_norm,
                    cached,
                    statistics.confidence,
                    statistics.margin,
                    statistics.entropy,
                    truncated,
                )
            )
            if error or fingerprint:
                page.trouble[len(page.receipts)] = error, fingerprint
            page.receipts.append(receipt)
            page.request_ids.append(request_id)
            page.bytes_left -= ROW_BYTES + BYTES_PER_CHARACTER * (len(request_id) + len(error))
            if page.bytes_left < LARGEST_ROW_BYTES:
                self._full.append(self._open.pop(receipt.progress))

    def _opened(self, progress: Progress, place: Place, now_ms: int) -> Page:
        page = self._open[progress] = Page(place)
        if self._due_ms is None:
            self._due_ms = now_ms + self._flush_ms
        return page

    def take(
        self, now_ms: int, *, everything: bool = False, sample: Callable[[], ProcessSample | None] = lambda: None
    ) -> list[tuple[Served, list[Receipt]]]:
        """Events that are due, with the receipts of the offsets that they tell: full ones, and all once the oldest
        outcome has waited for long enough. `everything` does not wait. `sample` is asked only when there are some."""
        due = everything or (self._due_ms is not None and self._wait_ms(self._due_ms, now_ms) == 0)
        if not due and not self._full:
            return []
        pages, self._full = self._full, []
        if due:
            # All partitions together: the numbers of all events are then made in one go, which costs a third.
            pages += self._open.values()
            self._open, self._due_ms = {}, None
        if not pages:
            return []
        events = served(pages, self._worker, sample())
        return [(event, page.receipts) for event, page in zip(events, pages, strict=True)]

    def seconds_until_due(self, now_ms: int) -> float | None:
        """When `take` has something to give, or None while there is nothing."""
        if self._full:
            return 0.0
        return None if self._due_ms is None else self._wait_ms(self._due_ms, now_ms) / 1000

    def _wait_ms(self, due_ms: int, now_ms: int) -> int:
        """0 also when the clock was set back since: outcomes would wait until it is as late as it was."""
        left = due_ms - now_ms
        return left if 0 < left <= self._flush_ms else 0

    def __len__(self) -> int:
        return sum(len(page.receipts) for page in (*self._open.values(), *self._full))
