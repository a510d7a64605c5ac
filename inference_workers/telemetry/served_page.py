"""Outcomes of one partition as plain numbers, and the event that is made of them. Pure.

A Python object for each number would be out of the processor's cache when the event is made, and to fetch it again
would cost more than all else that is told: so numbers are copied, unboxed, while they are at hand.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from operator import itemgetter
from struct import Struct
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from inference_workers.ports import Place
from infra.progress import Progress
from schemas.predictions import ModelRef
from schemas.telemetry import (
    REQUESTS_PER_EVENT_MAX,
    BatchColumns,
    BatchReason,
    Outcome,
    ProcessSample,
    WorkerRef,
)

EVENT_BYTES_MAX = 700_000
"""Bounds an event as JSON to two thirds of what the topic takes."""
PAGE_BYTES = EVENT_BYTES_MAX // 2
"""Of some thousand requests, half of what a loop lets wait in one partition: the flush would hold a fast model up."""
ROW_BYTES, BATCH_BYTES, BYTES_PER_CHARACTER = EVENT_BYTES_MAX // REQUESTS_PER_EVENT_MAX, 200, 6
"""Upper bounds: a row's numbers take at most 300, and counted as more they bound an event's rows, too; a character of
JSON is at most six bytes."""
LARGEST_ROW_BYTES = ROW_BYTES + BATCH_BYTES + BYTES_PER_CHARACTER * (512 + 200)
"""What one more row takes at most, with its batch, its request id and its error."""
SCENARIOS_MAX = 256
MODELS_MAX = 250
"""Below what an event may hold: a row may bring two models, its own and its batch's."""
OUTCOMES = tuple(Outcome)
"""A row has an outcome's place among these."""
OUTCOME_NUMBERS = {outcome: number for number, outcome in enumerate(OUTCOMES)}
ANSWERED = OUTCOME_NUMBERS[Outcome.ANSWERED]
WHOLE = (
    *("offset", "appended_ms", "scenario", "model", "batch", "inputs", "input_bytes", "tokens", "outcome"),
    *("script", "direction"),
)
REAL = ("queue_ms", "total_ms", "unknown_share", "output_norm", "cached", "confidence", "margin", "entropy")
"""The numbers of a row, named as in `RequestColumns`; the outcome by its place in `OUTCOMES`."""
packed = Struct(f"={len(WHOLE)}q{len(REAL)}d?").pack
"""A row: its whole numbers, its other numbers, whether it was truncated; the same bytes as `_ROW`."""
_ROW = np.dtype([("whole", "=i8", len(WHOLE)), ("real", "=f8", len(REAL)), ("truncated", "?")])
OPTIONAL = frozenset({"cached", "confidence", "margin", "entropy", "script", "direction"})
"""Left empty when they hold only zeros."""
OF_OUTPUTS = "output_norm", "confidence", "margin", "entropy"
"""What is told of outputs beside their direction; 0 for a request that has none."""
MILLISECONDS_MAX = NORM_MAX = 1e12
_LARGEST = np.array([[MILLISECONDS_MAX], [MILLISECONDS_MAX], [1.0], [NORM_MAX]] + [[1.0]] * (len(REAL) - 4))
_SCALE = np.array([[1e3], [1e3]] + [[1e4]] * (len(REAL) - 2))
"""Of each of REAL, [REAL, 1]: its largest value, as the message allows, and one over its precision."""


@dataclass(slots=True, eq=False)
class BatchFacts:
    """What is told of a batch, as in `BatchColumns`. `post_ms` is filled in when its answers are handed over.

    `tokens` went through the model, generated ones too; with padding they are `padded_tokens`.
    """

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

    def told(self) -> tuple[Any, ...]:
        """In the order of `BATCH_COLUMNS`."""
        return (
            self.size,
            self.tokens,
            self.padded_tokens,
            bounded_ms(self.tokenise_ms),
            bounded_ms(self.compute_ms),
            self.reason,
            self.queue_depth,
            self.memory_bytes,
            bounded_ms(self.post_ms),
            self.computed,
        )


@dataclass(slots=True, eq=False)
class Page:
    """A partition's rows that wait to be told, `packed`. `trouble` has the error and the fingerprint of the rows, by
    number, that have one. Models and batches are told apart by identity: a batch is one object, and to compare models
    costs more than all else."""

    place: Place
    progress: Progress
    rows: list[bytes] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    request_ids: list[str] = field(default_factory=list)
    trouble: dict[int, tuple[str, str]] = field(default_factory=dict)
    scenarios: dict[str, int] = field(default_factory=dict)
    models: dict[int, int] = field(default_factory=dict)
    model_refs: list[ModelRef] = field(default_factory=list)
    batches: dict[int, int] = field(default_factory=dict)
    batch_facts: list[BatchFacts] = field(default_factory=list)
    bytes_left: int = PAGE_BYTES
    """Below `LARGEST_ROW_BYTES` the event is full."""

    def add(self, row: bytes, offset: int, request_id: str, error: str, fingerprint: str) -> None:
        """One more outcome, `packed`, and the offset that is settled when it is told."""
        if error or fingerprint:
            self.trouble[len(self.rows)] = error, fingerprint
        self.rows.append(row)
        self.offsets.append(offset)
        self.request_ids.append(request_id)
        self.bytes_left -= ROW_BYTES + BYTES_PER_CHARACTER * (len(request_id) + len(error))

    def place_of_scenario(self, name: str) -> int:
        """Its place in the event's table, where it is put if it was not there."""
        place = self.scenarios.setdefault(name, len(self.scenarios))
        if len(self.scenarios) >= SCENARIOS_MAX:
            self.bytes_left = 0
        return place

    def place_of_model(self, ref: ModelRef) -> int:
        """The same of a model."""
        place = self.models.setdefault(id(ref), len(self.model_refs))
        if place == len(self.model_refs):
            self.model_refs.append(ref)
        if len(self.model_refs) >= MODELS_MAX:
            self.bytes_left = 0
        return place

    def place_of_batch(self, facts: BatchFacts) -> int:
        """The same of a batch. Its model goes to the other table: a batch that only failures came of names its model
        too."""
        place = self.batches.setdefault(id(facts), len(self.batch_facts))
        if place == len(self.batch_facts):
            self.batch_facts.append(facts)
            self.bytes_left -= BATCH_BYTES
            self.place_of_model(facts.model)
        return place


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """An `InferenceServed` of rows with rising offsets: `whole` and `real` are [columns, rows], see `WHOLE`, `REAL`."""

    place: Place
    worker: WorkerRef
    models: list[ModelRef]
    scenarios: list[str]
    batches: list[BatchFacts]
    batch_models: list[int]
    whole: NDArray[np.int64]
    real: NDArray[np.float64]
    truncated: NDArray[np.bool_]
    request_ids: Sequence[str]
    trouble: dict[int, tuple[str, str]]
    sample: ProcessSample | None

    def __len__(self) -> int:
        return len(self.truncated)

    def column(self, name: str) -> NDArray[Any]:
        """One of the columns of numbers."""
        place = _WHOLE_PLACES.get(name)
        column: NDArray[Any] = self.real[_REAL_PLACES[name]] if place is None else self.whole[place]
        return column

    def with_failed(self, offsets: Collection[int], error: str) -> Served:
        """The same with these offsets failed: their outputs, of which nobody knows, say nothing."""
        rows = np.flatnonzero(np.isin(self.column("offset"), list(offsets)))
        whole, real = self.whole.copy(), self.real.copy()
        whole[_WHOLE_PLACES["outcome"], rows] = OUTCOME_NUMBERS[Outcome.FAILED]
        whole[_WHOLE_PLACES["direction"], rows] = 0
        for name in OF_OUTPUTS:
            real[_REAL_PLACES[name], rows] = 0.0
        trouble = self.trouble | dict.fromkeys(rows.tolist(), (error, ""))
        return replace(self, whole=whole, real=real, trouble=trouble)

    def as_json(self) -> bytes:
        """As `schemas.base.encode` gives the message; it is valid by construction, tests decode it."""
        event = {
            "cluster_id": self.place.cluster_id,
            "topic_id": self.place.topic_id,
            "partition": self.place.partition,
            "worker": self.worker,
            "models": self.models,
            "scenarios": self.scenarios,
            "batches": _batch_columns(self.batches, self.batch_models),
            "requests": self._request_columns(),
        }
        if self.sample is not None:
            event["sample"] = self.sample
        return orjson.dumps(event, default=_as_json, option=orjson.OPT_SERIALIZE_NUMPY)

    def _request_columns(self) -> dict[str, object]:
        count = len(self)
        told: dict[str, object] = {}
        for names, columns in ((WHOLE, self.whole), (REAL, self.real)):
            used: NDArray[np.bool_] = np.any(columns, axis=1)
            for name, column, some in zip(names, columns, used.tolist(), strict=True):
                told[name] = column if some or name not in OPTIONAL else []
        numbers = self.column("outcome")
        done = not numbers.any()  # nearly always
        told["outcome"] = [OUTCOMES[0].value] * count if done else [OUTCOMES[it].value for it in numbers.tolist()]
        told["truncated"], told["request_id"] = self.truncated, self.request_ids
        told["error"], told["fingerprint"] = [""] * count, []
        if self.trouble:
            none = ("", "")
            errors, fingerprints = zip(*(self.trouble.get(row, none) for row in range(count)), strict=True)
            told["error"], told["fingerprint"] = errors, fingerprints if any(fingerprints) else []
        return told


_WHOLE_PLACES = {name: place for place, name in enumerate(WHOLE)}
_REAL_PLACES = {name: place for place, name in enumerate(REAL)}
BATCH_COLUMNS = tuple(name for name in BatchColumns.model_fields if name != "model")


def served(pages: Sequence[Page], worker: WorkerRef, sample: ProcessSample | None) -> list[Served]:
    """The event of each page; each has at least one row. The numbers of all are made together: most of the time goes
    into calling numpy, not into what it does."""
    rows = np.frombuffer(b"".join(chain.from_iterable(page.rows for page in pages)), dtype=_ROW)
    counts = [len(page.rows) for page in pages]
    order = np.lexsort((rows["whole"][:, 0], np.repeat(np.arange(len(pages)), counts)))
    rows = rows[order]
    whole, truncated = np.ascontiguousarray(rows["whole"].T), np.ascontiguousarray(rows["truncated"])
    # fmax and fmin: whatever the clocks of two machines say; and what is no number is 0.
    real = np.fmin(np.fmax(rows["real"].T, 0.0), _LARGEST, order="C")
    np.rint(np.multiply(real, _SCALE, out=real), out=real)
    np.divide(real, _SCALE, out=real)
    events, begin, places = [], 0, order.tolist()
    for page, count in zip(pages, counts, strict=True):
        mine = slice(begin, begin + count)
        events.append(
            _event(
                page,
                worker,
                sample,
                [place - begin for place in places[mine]],
                whole[:, mine],
                real[:, mine],
                truncated[mine],
            )
        )
        begin += count
    return events


def _event(
    page: Page,
    worker: WorkerRef,
    sample: ProcessSample | None,
    places: list[int],
    whole: NDArray[np.int64],
    real: NDArray[np.float64],
    truncated: NDArray[np.bool_],
) -> Served:
    """`places` [rows]: where in the page each row of the event was."""
    trouble = page.trouble
    return Served(
        page.place,
        worker,
        page.model_refs,
        list(page.scenarios),
        page.batch_facts,
        [page.models[id(facts.model)] for facts in page.batch_facts],
        whole,
        real,
        truncated,
        itemgetter(*places)(page.request_ids) if len(places) > 1 else page.request_ids,
        {row: trouble[place] for row, place in enumerate(places) if place in trouble} if trouble else {},
        sample,
    )


def bounded_ms(value: float) -> float:
    """Milliseconds to the microsecond, 0 to 1e12, whatever the clocks of two machines say."""
    return round(value, 3) if 0.0 <= value <= MILLISECONDS_MAX else min(MILLISECONDS_MAX, max(0.0, value))


def _batch_columns(batches: Sequence[BatchFacts], models: list[int]) -> dict[str, object]:
    rows = [facts.told() for facts in batches]
    columns = zip(*rows, strict=True) if rows else [()] * len(BATCH_COLUMNS)
    return {"model": models, **dict(zip(BATCH_COLUMNS, columns, strict=True))}


_KEPT_MAX = 512
_kept: dict[int, tuple[object, orjson.Fragment]] = {}
"""Parts that nearly every event has, as JSON, by `id`; the part itself is kept, so that no other has its id."""


def _as_json(part: object) -> orjson.Fragment:
    """A part that is a model of its own: which worker, which model, how the process is doing."""
    found = _kept.get(id(part))
    if found is None:
        if not isinstance(part, ModelRef | WorkerRef | ProcessSample):
            raise TypeError(f"{type(part).__name__} is not part of telemetry")
        if len(_kept) >= _KEPT_MAX:
            _kept.clear()
        fields = {name: value for name, value in part.__dict__.items() if value is not None}
        found = _kept[id(part)] = part, orjson.Fragment(orjson.dumps(fields))
    return found[1]
