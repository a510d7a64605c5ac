"""Requests from a stream of JSON lines, CSV or plain text: each line a request or a refusal that says why.

Memory is bounded by one record, whatever the stream holds: a line without an end is cut and refused. Pure but for
reading the stream.
"""

from __future__ import annotations

import csv
import json
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, BinaryIO

from schemas.base import VALUE_BYTES_MAX, DecodeError, Reason, decode
from schemas.requests import InferenceRequested

LINE_BYTES_MAX = VALUE_BYTES_MAX
CSV_RECORD_LINES_MAX = 200
"""A quoted field may span lines; a quote that is never closed must not swallow the file."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Format(StrEnum):
    """What a file is."""

    JSONL = "jsonl"
    CSV = "csv"
    TEXT = "text"


SUFFIXES = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSONL,
    ".csv": Format.CSV,
    ".txt": Format.TEXT,
    ".text": Format.TEXT,
}


@dataclass(frozen=True, slots=True)
class Layout:
    """How a file is to be read. `column` holds the input (CSV column, JSON field), `key_column` the key."""

    format: Format
    column: str = "input"
    key_column: str | None = None
    scenario: str | None = None
    """For requests that name none themselves."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request that can be sent, and the line it began on (from 1)."""

    line: int
    request: InferenceRequested
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """A line that is no request: why, as a code and in words."""

    line: int
    reason: Reason
    detail: str


class WrongFile(ValueError):
    """The whole file cannot be read as it was said to be; the text says what to do."""


def read_requests(stream: BinaryIO, layout: Layout) -> Iterator[Request | Refused]:
    """Yield a request or a refusal for each line that is not blank, in order. Raises WrongFile."""
    lines = _Lines(stream)
    if layout.format is Format.CSV:
        yield from _csv(lines, layout)
        return
    one = _json_line if layout.format is Format.JSONL else _text_line
    for number, raw in lines:
        try:
            if raw is None:
                raise DecodeError(Reason.TOO_LARGE, f"the line is longer than {LINE_BYTES_MAX} bytes")
            if raw.strip():
                yield one(number, raw, layout)
        except DecodeError as error:
            yield Refused(number, error.reason, error.detail)


class _Lines:
    """Numbered lines without their ends; None for one that is too long. Lines can be put back."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._number = 0
        self._returned: deque[tuple[int, bytes | None]] = deque()

    def __iter__(self) -> Iterator[tuple[int, bytes | None]]:
        return self

    def __next__(self) -> tuple[int, bytes | None]:
        if self._returned:
            return self._returned.popleft()
        raw: bytes | None = self._stream.readline(LINE_BYTES_MAX + 2)
        if not raw:
            raise StopIteration
        self._number += 1
        if self._number == 1:
            if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
                raise WrongFile("the file is UTF-16: write it as UTF-8 (iconv -f UTF-16 -t UTF-8)")
            raw = raw.removeprefix(BYTE_ORDER_MARK)
        whole = raw.endswith(b"\n")
        raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        if len(raw) > LINE_BYTES_MAX:
            while not whole and (rest := self._stream.readline(LINE_BYTES_MAX)):
                whole = rest.endswith(b"\n")
            return self._number, None
        return self._number, raw

    def put_back(self, lines: list[tuple[int, bytes | None]]) -> None:
        self._returned.extendleft(reversed(lines))


def _text_line(number: int, raw: bytes, layout: Layout) -> Request:
    return _request(number, {"input": _text(raw)}, None, layout)


def _json_line(number: int, raw: bytes, layout: Layout) -> Request:
    if layout.column == "input" and layout.key_column is None and layout.scenario is None:
        return Request(number, decode((), raw, (InferenceRequested,), plain=InferenceRequested).data)
    text = _text(raw)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DecodeError(Reason.NOT_JSON, str(error) or "nested too deeply") from None
    if not isinstance(values, dict):
        raise DecodeError(Reason.NOT_AN_OBJECT, "the line is JSON but not an object")
    key = _field(values, layout.key_column) if layout.key_column is not None else None
    if layout.column != "input":
        values["input"] = _field(values, layout.column)
    return _request(number, values, None if key is None else str(key), layout)


def _field(values: dict[str, Any], name: str) -> Any:
    if name not in values:
        raise DecodeError(Reason.MISSING_FIELD, f"{name}: there is no such field")
    return values[name]


def _request(number: int, values: dict[str, Any], key: str | None, layout: Layout) -> Request:
    if layout.scenario is not None:
        values.setdefault("scenario", layout.scenario)
    try:
        value = json.dumps(values, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise DecodeError(Reason.BAD_VALUE, "a lone surrogate escape is no text") from None
    # The same decoder as the workers' own: what is refused there is refused here, with the same reason.
    return Request(number, decode((), value, (InferenceRequested,), plain=InferenceRequested).data, key)


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DecodeError(Reason.NOT_UTF8, f"byte {error.start} of the line is not UTF-8") from None


def _csv(lines: _Lines, layout: Layout) -> Iterator[Request | Refused]:
    csv.field_size_limit(LINE_BYTES_MAX)  # Python's own limit is 128 KiB
    header = _csv_header(lines, layout)
    for number, raw in lines:
        if raw is not None and not raw.strip():
            continue
        try:
            cells = _csv_record(lines, number, raw)
            if len(cells) != len(header):
                raise DecodeError(Reason.BAD_VALUE, f"{len(cells)} cells, {len(header)} in the header")
            row = dict(zip(header, cells, strict=True))
            key = row[layout.key_column] if layout.key_column is not None else None
            yield _request(number, {"input": row[layout.column]}, key, layout)
        except DecodeError as error:
            yield Refused(number, error.reason, error.detail)


def _csv_header(lines: _Lines, layout: Layout) -> list[str]:
    number, raw = next(lines, (0, b""))
    if number == 0:
        return [layout.column]
    try:
        header = [cell.strip() for cell in _csv_record(lines, number, raw)]
    except DecodeError as error:
        raise WrongFile(f"line 1 is no CSV header: {error.detail}") from None
    for option, column in (("--column", layout.column), ("--key-column", layout.key_column)):
        if column is not None and header.count(column) != 1:
            found = ", ".join(header)[:200]
            raise WrongFile(f"{option} {column}: the header has {header.count(column)} such columns (it has: {found})")
    return header


def _csv_record(lines: _Lines, number: int, raw: bytes | None) -> list[str]:
    """The cells of the record that begins with `raw`. On failure only that line is used up."""
    if raw is None:
        raise DecodeError(Reason.TOO_LARGE, f"the line is longer than {LINE_BYTES_MAX} bytes")
    taken: list[tuple[int, bytes | None]] = []

    def texts() -> Iterator[str]:
        yield _text(raw) + "\n"
        size = len(raw)
        for more in lines:
            taken.append(more)
            size += len(more[1] or b"")
            if more[1] is None or size > LINE_BYTES_MAX or len(taken) > CSV_RECORD_LINES_MAX:
                raise DecodeError(Reason.BAD_VALUE, "a quote is opened and not closed in reasonable distance")
            yield _text(more[1]) + "\n"

    try:
        return next(csv.reader(texts(), strict=True))
    except StopIteration:
        raise DecodeError(Reason.EMPTY_VALUE, "the line is empty") from None
    except csv.Error as error:
        lines.put_back(taken)
        raise DecodeError(Reason.BAD_VALUE, f"not CSV: {error}") from None
    except DecodeError:
        lines.put_back(taken)
        raise
