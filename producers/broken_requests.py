"""Requests that are wrong on purpose, one maker for each way, with the reason each must be refused for. Pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from schemas.base import Headers, Reason, headers_for
from schemas.requests import InferenceRequested


class BrokenKind(StrEnum):
    """How a request is broken."""

    BROKEN_JSON = "broken_json"
    NOT_AN_OBJECT = "not_an_object"
    NOT_UTF8 = "not_utf8"
    WRONG_TYPE = "wrong_type"
    MISSING_FIELD = "missing_field"
    OUT_OF_RANGE = "out_of_range"
    NOT_A_NUMBER = "not_a_number"
    LONE_SURROGATE = "lone_surrogate"
    EMPTY_VALUE = "empty_value"
    NULL_VALUE = "null_value"
    UNKNOWN_VERSION = "unknown_version"
    UNKNOWN_TYPE = "unknown_type"
    WRONG_HEADERS = "wrong_headers"
    WRONG_CONTENT_TYPE = "wrong_content_type"


EXPECTED: dict[BrokenKind, Reason] = {
    BrokenKind.BROKEN_JSON: Reason.NOT_JSON,
    BrokenKind.NOT_AN_OBJECT: Reason.NOT_AN_OBJECT,
    BrokenKind.NOT_UTF8: Reason.NOT_UTF8,
    BrokenKind.WRONG_TYPE: Reason.WRONG_TYPE,
    BrokenKind.MISSING_FIELD: Reason.MISSING_FIELD,
    BrokenKind.OUT_OF_RANGE: Reason.BAD_VALUE,
    BrokenKind.NOT_A_NUMBER: Reason.WRONG_TYPE,
    BrokenKind.LONE_SURROGATE: Reason.NOT_JSON,
    BrokenKind.EMPTY_VALUE: Reason.EMPTY_VALUE,
    BrokenKind.NULL_VALUE: Reason.NULL_VALUE,
    BrokenKind.UNKNOWN_VERSION: Reason.UNKNOWN_VERSION,
    BrokenKind.UNKNOWN_TYPE: Reason.UNKNOWN_TYPE,
    BrokenKind.WRONG_HEADERS: Reason.WRONG_HEADERS,
    BrokenKind.WRONG_CONTENT_TYPE: Reason.WRONG_CONTENT_TYPE,
}


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as it goes out, unchecked."""

    value: bytes | None
    headers: Headers


def broken_record(kind: BrokenKind, text: str, *, request_id: str, source: str, time: datetime) -> RawRecord:
    """The record of a request about `text` that is broken in one way. `time` must be aware."""
    headers = dict(headers_for(InferenceRequested, event_id=request_id, source=source, time=time))
    return RawRecord(_value(kind, text), tuple((headers | _headers(kind)).items()))


def _value(kind: BrokenKind, text: str) -> bytes | None:
    good = json.dumps({"input": text, "scenario": "search"}).encode()
    values: dict[BrokenKind, bytes | None] = {
        BrokenKind.BROKEN_JSON: good[:-1],
        BrokenKind.NOT_AN_OBJECT: json.dumps([text]).encode(),
        BrokenKind.NOT_UTF8: b'{"input": "\xff\xfe"}',
        BrokenKind.WRONG_TYPE: b'{"input": 17}',
        BrokenKind.MISSING_FIELD: b'{"scenario": "search"}',
        BrokenKind.OUT_OF_RANGE: json.dumps({"input": text, "timeout_ms": -1}).encode(),
        BrokenKind.NOT_A_NUMBER: json.dumps({"input": text, "timeout_ms": float("nan")}).encode(),
        BrokenKind.LONE_SURROGATE: b'{"input": "red \\ud800 shoes"}',
        BrokenKind.EMPTY_VALUE: b"",
        BrokenKind.NULL_VALUE: None,
    }
    return values.get(kind, good)


def _headers(kind: BrokenKind) -> dict[str, bytes]:
    if kind is BrokenKind.UNKNOWN_VERSION:
        return {"ce_type": b"inferwatch.inference.requested.v9"}
    if kind is BrokenKind.UNKNOWN_TYPE:
        return {"ce_type": b"com.example.order.placed"}
    if kind is BrokenKind.WRONG_HEADERS:
        return {"ce_id": b""}
    if kind is BrokenKind.WRONG_CONTENT_TYPE:
        return {"content-type": b"text/xml"}
    return {}
