"""Telemetry records decoded: an event whose requests are arrays. The fast way and the careful way give the same.

The fast way takes the requests out of the JSON with compiled code and puts one made request in their place; the rest
is checked as ever. Whatever it does not take for sure is decoded the careful way, which alone says what is wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from infra.columns import Coded, Texts
from infra.ports import Record
from schemas.base import INT64_MAX, VALUE_BYTES_MAX, DecodeError, Headers, Reason, decode
from schemas.telemetry import (
    DIRECTIONS,
    MAY_BE_EMPTY,
    REQUESTS_PER_EVENT_MAX,
    TELEMETRY_KINDS,
    BatchColumns,
    InferenceServed,
    RequestColumns,
    TelemetryTicked,
)
from stream_jobs.request_arrays import (
    BOOLS,
    FLOATS,
    INTS,
    OUTCOME_NAMES,
    OUTCOMES,
    TEXTS,
    WORDS,
    RequestArrays,
    arrays_of,
)

UINT32_MAX = 2**32 - 1
_BEGIN = b'"requests":{'
_MADE = (
    b'{"offset":[0],"appended_ms":[0],"outcome":["shed"],"scenario":[-1],"batch":[-1],"request_id":[""],"queue_ms":[0],'
    b'"total_ms":[0],"inputs":[0],"input_bytes":[0],"tokens":[0],"unknown_share":[0],"output_norm":[0],'
    b'"truncated":[false],"error":[""]}'
)
_INT_COLUMNS: dict[str, tuple[float, float]] = {
    "offset": (0, INT64_MAX),
    "appended_ms": (0, 253_402_300_799_999),
    "scenario": (-1, 255),
    "batch": (-1, REQUESTS_PER_EVENT_MAX),
    "inputs": (0, UINT32_MAX),
    "input_bytes": (0, UINT32_MAX),
    "tokens": (0, UINT32_MAX),
    "model": (-1, 255),
    "truncated": (0, 1),
    "outcome": (0, len(OUTCOMES) - 1),
    "script": (0, 31),
    "direction": (0, DIRECTIONS),
}
"""Least and most that is taken the fast way; a test holds them against the schema."""
_FLOAT_COLUMNS: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("queue_ms", "total_ms", "output_norm"), (0.0, 1e12)),
    **dict.fromkeys(("unknown_share", "cached", "confidence", "entropy", "margin"), (0.0, 1.0)),
}
_TEXT_COLUMNS: dict[str, tuple[float, float]] = {"request_id": (0, 512), "error": (0, 200), "fingerprint": (0, 64)}
COLUMNS = _INT_COLUMNS | _FLOAT_COLUMNS | _TEXT_COLUMNS


@dataclass(frozen=True, slots=True)
class Served:
    """An `InferenceServed` with its requests as arrays; `event.requests` may hold a made one and is not to be read."""

    event: InferenceServed
    requests: RequestArrays


class TelemetryDecoder:
    """Decodes records of telemetry. For one thread at a time: it keeps the arrays that requests are read into."""

    def __init__(self) -> None:
        self._ints = np.empty((len(_INT_COLUMNS), REQUESTS_PER_EVENT_MAX), dtype=np.int64)
        self._floats = np.empty((len(_FLOAT_COLUMNS), REQUESTS_PER_EVENT_MAX))
        self._texts = np.empty(VALUE_BYTES_MAX, dtype=np.uint8)
        self._text_ends = np.empty((len(_TEXT_COLUMNS), REQUESTS_PER_EVENT_MAX), dtype=np.int64)
        self._text_begins = np.zeros(len(_TEXT_COLUMNS), dtype=np.int64)
        self._counts = np.empty(len(COLUMNS), dtype=np.int64)

    def decoded(self, record: Record) -> Served | TelemetryTicked:
        """The event. Raises DecodeError, and nothing else, for whatever the record holds."""
        found = self.fast(record.headers, record.value) or careful(record.headers, record.value)
        event = found.event if isinstance(found, Served) else found
        if event.partition != record.partition:
            raise DecodeError(
                Reason.BAD_VALUE, f"partition {event.partition} in a record of partition {record.partition}"
            )
        if isinstance(found, Served):
            check_fits(found.event.batches, found.requests)
        return found

    def fast(self, headers: Headers, value: bytes | None) -> Served | None:
        """The event, when the fast way takes it."""
        if value is None or len(value) > VALUE_BYTES_MAX or value.count(b'"requests"') != 1:
            return None
        begin = value.find(_BEGIN)
        # In a text the quote would come after a backslash: it is a name, and the only one.
        if begin < 1 or value[begin - 1 : begin] not in (b",", b"{"):
            return None
        opened = begin + len(_BEGIN) - 1
        end = self._read(value, opened + 1)
        if end < 0:
            return None
        rest = value[:opened] + _MADE + value[end:]
        if b"\\" in rest:
            return None  # a name could be written with escapes
        try:
            event = decode(headers, rest, TELEMETRY_KINDS).data
        except DecodeError:
            return None
        if not isinstance(event, InferenceServed):
            return None
        requests = self._taken()
        return None if requests is None or not _agree(event, requests) else Served(event, requests)

    def _read(self, value: bytes, at: int) -> int:
        from stream_jobs.compiled_requests import read_requests  # numba takes a second to import

        raw = np.frombuffer(value, dtype=np.uint8)
        return int(
            read_requests(
                *(raw, at, *_NAMES, _KINDS, _SLOTS, _LIMITS, *_WORDS, self._ints, self._floats),
                *(self._texts, self._text_ends, self._text_begins, self._counts),
            )
        )

    def _taken(self) -> RequestArrays | None:
        """Copies of what was read; None when columns are not of one length, or are not there."""
        counts = dict(zip(COLUMNS, self._counts.tolist(), strict=True))
        rows = counts["offset"]
        told = {name for name, count in counts.items() if count > 0}
        if rows < 1 or any(count != rows and (count > 0 or name not in MAY_BE_EMPTY) for name, count in counts.items()):
            return None
        ints = dict(zip(_INT_COLUMNS, self._ints[:, :rows].copy(), strict=True))
        floats = dict(zip(_FLOAT_COLUMNS, self._floats[:, :rows].copy(), strict=True))
        for name in _FLOAT_COLUMNS.keys() - told:
            floats[name][:] = 0.0
        for name, not_told in (("model", -1), ("script", 0), ("direction", 0)):
            if name not in told:
                ints[name][:] = not_told
        texts = {name: self._text(slot, rows) for slot, name in enumerate(_TEXT_COLUMNS) if name in told}
        request_id = texts.pop("request_id")
        truncated = ints.pop("truncated").astype(np.bool_)
        coded = {name: _coded(texts.get(name), rows) for name in ("error", "fingerprint")}
        tells = {"tells_model": "model" in told, "tells_confidence": "confidence" in told}
        return RequestArrays(**ints, **floats, **coded, **tells, truncated=truncated, request_id=request_id)  # type: ignore[arg-type]

    def _text(self, slot: int, rows: int) -> Texts:
        begin, ends = int(self._text_begins[slot]), self._text_ends[slot, :rows].copy()
        return Texts(self._texts[begin : begin + int(ends[-1])].copy(), ends)


def careful(headers: Headers, value: bytes | None) -> Served | TelemetryTicked:
    """The event, value by value. Raises DecodeError."""
    event = decode(headers, value, TELEMETRY_KINDS).data
    if isinstance(event, InferenceServed):
        return Served(event, arrays_of(event.requests))
    if not isinstance(event, TelemetryTicked):
        raise AssertionError(f"decode gave a {type(event).__name__}")
    return event


def check_fits(batches: BatchColumns, requests: RequestArrays) -> None:
    """Raises DecodeError when a number is larger than its column in the tables."""
    columns: dict[str, int] = {
        **{
            f"batches.{name}": max(getattr(batches, name), default=0)
            for name in ("size", "tokens", "padded_tokens", "queue_depth", "computed")
        },
        **{f"requests.{name}": int(getattr(requests, name).max()) for name in ("inputs", "input_bytes", "tokens")},
    }
    for name, most in columns.items():
        if most > UINT32_MAX:
            raise DecodeError(Reason.BAD_VALUE, f"{name}: {most} is above {UINT32_MAX}")


def _agree(event: InferenceServed, requests: RequestArrays) -> bool:
    """What `InferenceServed` checks of its columns together."""
    return bool(
        (np.diff(requests.offset) > 0).all()
        and requests.batch.max() < len(event.batches.model)
        and requests.scenario.max() < len(event.scenarios)
        and requests.model.max() < len(event.models)
    )


def _coded(texts: Texts | None, rows: int) -> Coded:
    """The texts by name: most are empty, and few of the others differ."""
    codes, names = np.zeros(rows, dtype=np.int32), {"": 0}
    if texts is not None and len(texts.data):
        for row, text in texts.not_empty():
            codes[row] = names.setdefault(text, len(names))
    return Coded(tuple(names), codes)


def _blob(names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    texts = Texts.of(list(names))
    return texts.data, texts.ends


def _kinds() -> list[int]:
    """By column."""
    special = {"truncated": BOOLS, "outcome": WORDS}
    ints = [special.get(name, INTS) for name in _INT_COLUMNS]
    return [*ints, *(FLOATS for _ in _FLOAT_COLUMNS), *(TEXTS for _ in _TEXT_COLUMNS)]


if set(COLUMNS) != set(RequestColumns.model_fields):
    raise AssertionError(f"columns: {set(COLUMNS) ^ set(RequestColumns.model_fields)}")
_NAMES, _WORDS = _blob(list(COLUMNS)), _blob(OUTCOME_NAMES)
_KINDS = np.array(_kinds(), dtype=np.int64)
_SLOTS = np.array([*range(len(_INT_COLUMNS)), *range(len(_FLOAT_COLUMNS)), *range(len(_TEXT_COLUMNS))], dtype=np.int64)
_LIMITS = np.array(list(COLUMNS.values()), dtype=np.float64)
