"""Collects the outcome of every consumed offset until it is told, one partition at a time. Pure.

Every request passes here: its numbers are copied, and columns are made for a whole event in one go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from inference_workers.batching.compute import Fault, Row
from inference_workers.ports import Place
from inference_workers.tasks.statistics import NONE, Statistics
from inference_workers.telemetry.served_page import (
    ANSWERED,
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
from infra.progress import Progress, Receipt, Receipts
from schemas.predictions import ModelRef
from schemas.telemetry import Outcome, ProcessSample, WorkerRef

NEW = -2
"""Not in an event's table yet."""
NEVER_MS = 2**63 - 1
FAILED = OUTCOME_NUMBERS[Outcome.FAILED]


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


class Routed(Protocol):
    """By which model a request is computed."""

    @property
    def ref(self) -> ModelRef: ...


class Read(Consumed, Protocol):
    """A record that could be read. Its model is its route's: to ask for that takes one call less."""

    @property
    def scenario(self) -> str: ...
    @property
    def route(self) -> Routed: ...


class Worked(Protocol):
    """A request that was worked on, as in `RequestColumns`; `cached` of its `parts` were in the cache."""

    @property
    def asked(self) -> Read: ...
    @property
    def parts(self) -> Sequence[object]: ...
    @property
    def tokens(self) -> int: ...
    @property
    def unknown_share(self) -> float: ...
    @property
    def truncated(self) -> bool: ...
    @property
    def cached(self) -> int: ...
    @property
    def script(self) -> int: ...


Settled = tuple[Worked, Sequence[Row | Fault], int, float, BatchFacts | None, Fault | None, Statistics]
"""A request that was answered or failed: its rows, when that was, how long it waited, in which batch, why it failed."""


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
        self.look_ms = NEVER_MS
        """When `take` has something to give: it need not be called before, unless the clock was set back."""
        self._worker = worker
        self._flush_ms = flush_ms
        # One assignment of a partition is one `Progress`: an offset that comes back after a rebalance has another one,
        # so it is told in an event of its own, and read once.
        self._open: dict[Progress, Page] = {}
        self._full: list[Page] = []
        self._due_ms: int | None = None

    def add_all(self, lines: Iterable[Line]) -> None:
        """Offsets' outcomes. Their receipts are handed back with the event that tells them."""
        for line in lines:
            record, batch, statistics = line.record, line.batch, line.statistics
            page = self._page_of(record, line.now_ms)
            row = packed(
                record.identity[3],
                record.appended_ms,
                -1 if record.scenario is None else page.place_of_scenario(record.scenario),
                -1 if record.model is None else page.place_of_model(record.model),
                -1 if batch is None else page.place_of_batch(batch),
                record.inputs,
                record.input_bytes,
                line.tokens,
                OUTCOME_NUMBERS[line.outcome],
                line.script,
                line.direction,
                line.queue_ms,
                line.total_ms,
                line.unknown_share,
                line.output_norm,
                line.cached,
                statistics.confidence,
                statistics.margin,
                statistics.entropy,
                line.truncated,
            )
            page.add(row, record.receipt.offset, record.request_id, line.error, line.fingerprint)
            self._close_full(page, record.receipt.progress)

    def add_settled(self, settled: Iterable[Settled]) -> None:
        """The same for requests that were answered or failed, which are nearly all: a batch in one go. Written out,
        because calls, tuples and names of a line took longer than what is done here."""
        open_pages = self._open
        for one, rows, now_ms, queue_ms, batch, fault, statistics in settled:
            asked = one.asked
            receipt, model, appended_ms = asked.receipt, asked.route.ref, asked.appended_ms
            outcome, error, stack, norm, direction = ANSWERED, "", "", 0.0, 0
            if fault is not None:
                outcome, error, stack = FAILED, fault.code, fault.fingerprint
            elif isinstance(first := rows[0], Row):
                norm, direction = first.norm if len(rows) == 1 else _mean_norm(rows), first.direction
            page = open_pages.get(receipt.progress)
            if page is None:
                page = self._page_of(asked, now_ms)
            scenario_place = page.scenarios.get(asked.scenario, NEW)
            model_place = page.models.get(id(model), NEW)
            batch_place = -1 if batch is None else page.batches.get(id(batch), NEW)
            if scenario_place == NEW:
                scenario_place = page.place_of_scenario(asked.scenario)
            if model_place == NEW:
                model_place = page.place_of_model(model)
            if batch is not None and batch_place == NEW:
                batch_place = page.place_of_batch(batch)
            offset = receipt.offset  # its identity's, too
            row = packed(
                offset,
                appended_ms,
                scenario_place,
                model_place,
                batch_place,
                asked.inputs,
                asked.input_bytes,
                one.tokens,
                outcome,
                one.script,
                direction,
                queue_ms,
                now_ms - appended_ms,
                one.unknown_share,
                norm,
                one.cached / len(one.parts) if one.cached else 0.0,
                statistics.confidence,
                statistics.margin,
                statistics.entropy,
                one.truncated,
            )
            request_id = asked.request_id
            if error or stack:
                page.trouble[len(page.rows)] = error, stack
            page.rows.append(row)
            page.offsets.append(offset)
            page.request_ids.append(request_id)
            page.bytes_left -= ROW_BYTES + BYTES_PER_CHARACTER * (len(request_id) + len(error))
            if page.bytes_left < LARGEST_ROW_BYTES:
                self._close_full(page, receipt.progress)

    def _page_of(self, record: Consumed, now_ms: int) -> Page:
        progress = record.receipt.progress
        page = self._open.get(progress)
        if page is None:
            page = self._open[progress] = Page(record.identity, progress)
            if self._due_ms is None:
                self._due_ms = now_ms + self._flush_ms
                self.look_ms = min(self.look_ms, self._due_ms)
        return page

    def _close_full(self, page: Page, progress: Progress) -> None:
        if page.bytes_left < LARGEST_ROW_BYTES:
            self._full.append(self._open.pop(progress))
            self.look_ms = 0

    def take(
        self, now_ms: int, *, everything: bool = False, sample: Callable[[], ProcessSample | None] = lambda: None
    ) -> list[tuple[Served, Receipts]]:
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
        self.look_ms = NEVER_MS if self._due_ms is None else self._due_ms
        if not pages:
            return []
        events = served(pages, self._worker, sample())
        return [(event, Receipts(page.progress, page.offsets)) for event, page in zip(events, pages, strict=True)]

    def _wait_ms(self, due_ms: int, now_ms: int) -> int:
        """0 also when the clock was set back since: outcomes would wait until it is as late as it was."""
        left = due_ms - now_ms
        return left if 0 < left <= self._flush_ms else 0

    def __len__(self) -> int:
        return sum(len(page.rows) for page in (*self._open.values(), *self._full))


def _mean_norm(rows: Sequence[Row | Fault]) -> float:
    norms = [row.norm for row in rows if isinstance(row, Row)]
    return sum(norms) / len(norms) if norms else 0.0
