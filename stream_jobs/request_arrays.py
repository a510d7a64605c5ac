"""The request columns of a telemetry event as arrays. What an older worker does not tell is filled in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.columns import Coded, Texts
from schemas.telemetry import Outcome, RequestColumns

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

INTS, FLOATS, BOOLS, WORDS, TEXTS = 0, 1, 2, 3, 4
"""Sorts of columns, as `compiled_requests` is told of them: words are texts of a closed list."""
OUTCOMES: tuple[Outcome, ...] = (Outcome.ANSWERED, Outcome.FAILED, Outcome.SHED, Outcome.DEAD_LETTERED)
_CODES = {outcome: number for number, outcome in enumerate(OUTCOMES)}
OUTCOME_NAMES = tuple(outcome.value for outcome in OUTCOMES)


@dataclass(frozen=True, slots=True)
class RequestArrays:
    """As `schemas.telemetry.RequestColumns`, n entries each."""

    offset: Ints
    appended_ms: Ints
    outcome: Ints
    """Index into OUTCOMES."""
    scenario: Ints
    batch: Ints
    request_id: Texts
    queue_ms: Floats
    total_ms: Floats
    inputs: Ints
    input_bytes: Ints
    tokens: Ints
    unknown_share: Floats
    output_norm: Floats
    truncated: Bools
    error: Coded
    model: Ints
    cached: Floats
    confidence: Floats
    entropy: Floats
    margin: Floats
    fingerprint: Coded
    script: Ints
    direction: Ints
    tells_model: bool
    tells_confidence: bool

    def __len__(self) -> int:
        return len(self.offset)

    def chosen(self, rows: Ints) -> RequestArrays:
        """These rows."""

        def cut(column: Any) -> Any:
            if isinstance(column, Coded):
                return Coded(column.names, column.codes[rows])
            if isinstance(column, Texts):
                return column.chosen(rows)
            return column[rows] if isinstance(column, np.ndarray) else column

        return RequestArrays(*(cut(getattr(self, one.name)) for one in fields(self)))


def arrays_of(columns: RequestColumns) -> RequestArrays:
    """The arrays of columns that were checked one value at a time."""
    count = len(columns.offset)

    def ints(values: Sequence[int], not_told: int = 0) -> Ints:
        return np.array(values, dtype=np.int64) if values else np.full(count, not_told, dtype=np.int64)

    def floats(values: Sequence[float]) -> Floats:
        return np.array(values, dtype=np.float64) if values else np.zeros(count)

    return RequestArrays(
        offset=ints(columns.offset),
        appended_ms=ints(columns.appended_ms),
        outcome=np.array([_CODES[outcome] for outcome in columns.outcome], dtype=np.int64),
        scenario=ints(columns.scenario),
        batch=ints(columns.batch),
        request_id=Texts.of(columns.request_id),
        queue_ms=floats(columns.queue_ms),
        total_ms=floats(columns.total_ms),
        inputs=ints(columns.inputs),
        input_bytes=ints(columns.input_bytes),
        tokens=ints(columns.tokens),
        unknown_share=floats(columns.unknown_share),
        output_norm=floats(columns.output_norm),
        truncated=np.array(columns.truncated, dtype=np.bool_),
        error=Coded.of(columns.error),
        model=ints(columns.model, -1),
        cached=floats(columns.cached),
        confidence=floats(columns.confidence),
        entropy=floats(columns.entropy),
        margin=floats(columns.margin),
        fingerprint=Coded.of(columns.fingerprint or [""] * count),
        script=ints(columns.script),
        direction=ints(columns.direction),
        tells_model=bool(columns.model),
        tells_confidence=bool(columns.confidence),
    )
