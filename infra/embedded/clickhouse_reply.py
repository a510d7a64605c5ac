"""Writes the answer to one request: whole with its length if it is short or asked for, else in chunks as it comes."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable
from http import HTTPStatus
from typing import IO

from infra.embedded.clickhouse_codings import PIECE_BYTES, compressor
from infra.embedded.clickhouse_engine import EngineError, QueryStats

# As many bytes are held back before the first is sent, so that an early error still has a status of its own.
HELD_BYTES = 1 << 20
WHOLE_ANSWER_BYTES_MAX = 4 << 30

# As ClickHouse's exceptionCodeToHTTPStatus, and 503 for "too many", so that clients try again; others are 500.
_STATUS_CODES = {
    400: (6, 8, 15, 25, 26, 27, 37, 38, 41, 44, 53, 62, 72, 117, 123, 167, 168, 223, 321, 376, 427, 467, 675, 676),
    403: (192, 193, 497, 516),
    404: (46, 47, 50, 56, 60, 63, 73, 78, 81, 115, 152, 336, 511),
    408: (159,),
    411: (381,),
    413: (229, 307),
    501: (48,),
    503: (202, 209, 439),
}
_STATUS = {code: status for status, codes in _STATUS_CODES.items() for code in codes}

_CONTENT_TYPES = {
    "csv": "text/csv; charset=UTF-8; header=absent",
    "csvwithnames": "text/csv; charset=UTF-8; header=present",
    "tabseparated": "text/tab-separated-values; charset=UTF-8",
    "tsv": "text/tab-separated-values; charset=UTF-8",
    "jsoneachrow": "application/x-ndjson; charset=UTF-8",
    "native": "application/octet-stream",
    "parquet": "application/vnd.apache.parquet",
    "arrowstream": "application/vnd.apache.arrow.stream",
    "arrow": "application/vnd.apache.arrow.file",
}


def http_status(code: int) -> int:
    """The HTTP status of a ClickHouse error number."""
    return _STATUS.get(code, 500)


def content_type(answer_format: str) -> str:
    """The media type of an answer in a ClickHouse format."""
    name = answer_format.lower()
    if name in _CONTENT_TYPES:
        return _CONTENT_TYPES[name]
    return "application/json; charset=UTF-8" if name.startswith("json") else "text/plain; charset=UTF-8"


def head(status: int, headers: dict[str, str]) -> bytes:
    """The status line and the header fields of a response. Line breaks in values are taken out."""
    lines = [f"HTTP/1.1 {status} {HTTPStatus(status).phrase}"]
    lines += [f"{name}: {value}".replace("\r", " ").replace("\n", " ") for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")


def summary(stats: QueryStats) -> str:
    """The value of X-ClickHouse-Summary; numbers are strings, as the server writes them."""
    numbers = {
        "read_rows": stats.read_rows,
        "read_bytes": stats.read_bytes,
        "written_rows": stats.written_rows,
        "written_bytes": stats.written_bytes,
        "total_rows_to_read": 0,
        "result_rows": stats.written_rows,
        "result_bytes": stats.written_bytes,
        "elapsed_ns": stats.elapsed_ns,
    }
    return json.dumps({name: str(value) for name, value in numbers.items()}, separators=(",", ":"))


class Reply:
    """One answer: `feed` its pieces, then `finish` or `fail`. Used by one thread."""

    def __init__(
        self,
        send: Callable[[bytes], object],
        open_spool: Callable[[], IO[bytes]],
        headers: dict[str, str],
        *,
        coding: str | None,
        wait_end: bool,
    ) -> None:
        """`send` writes to the client; `wait_end` holds the whole answer back until `finish`, in a spool file."""
        self._send = send
        self._open_spool = open_spool
        self._headers = headers
        self._compressor = compressor(coding) if coding else None
        self._coding = coding
        self._wait_end = wait_end
        self._held = bytearray()
        self._spool: IO[bytes] | None = None
        self._spooled = 0
        self._tag = ""
        self._fed = False
        self.broken = False

    def feed(self, piece: bytes | memoryview) -> None:
        """Adds bytes to the answer. Raises OSError if the client is gone, EngineError if the whole is too large."""
        self._fed = True
        if self._compressor is not None:
            piece = self._compressor.compress(piece)
        if self._tag:
            self._send_chunk(piece)
            return
        self._held += piece
        if len(self._held) <= HELD_BYTES:
            return
        if self._wait_end:
            self._spill()
        else:
            self._begin_chunks()

    def finish(self, stats: QueryStats) -> None:
        """Ends the answer. Raises OSError if the client is gone."""
        last = self._compressor.flush() if self._compressor is not None and self._fed else b""
        if self._tag:
            self._send_chunk(last)
            self._send(b"0\r\n\r\n")
            return
        self._held += last
        headers = self._headers | {"X-ClickHouse-Summary": summary(stats)}
        if self._coding and self._fed:
            headers["Content-Encoding"] = self._coding
        length = self._spooled + len(self._held)
        started = head(200, headers | {"Content-Length": str(length)})
        if self._spool is None:
            self._send(started + self._held)
            return
        self._send(started)
        self._spool.seek(0)
        while piece := self._spool.read(PIECE_BYTES):
            self._send(piece)
        self._send(bytes(self._held))

    def fail(self, error: EngineError) -> None:
        """Answers with an error; in the middle of a chunked answer as ClickHouse marks it, and breaks off."""
        text = f"{error}\n".encode()
        if not self._tag:
            headers = self._headers | {
                "Content-Type": "text/plain; charset=UTF-8",
                "X-ClickHouse-Exception-Code": str(error.code),
                "Content-Length": str(len(text)),
            }
            headers.pop("X-ClickHouse-Format", None)
            self._send(head(http_status(error.code), headers) + text)
            return
        self.broken = True
        tag = self._tag.encode()
        marked = b"\r\n__exception__\r\n%b\r\n%b%d %b\r\n__exception__\r\n" % (tag, text, len(text), tag)
        if self._compressor is not None:
            marked = self._compressor.compress(marked) + self._compressor.flush()
        self._send_chunk(marked)

    def close(self) -> None:
        """Deletes what was spooled."""
        if self._spool is not None:
            self._spool.close()

    def _spill(self) -> None:
        if self._spool is None:
            self._spool = self._open_spool()
        self._spool.write(self._held)
        self._spooled += len(self._held)
        self._held.clear()
        if self._spooled > WHOLE_ANSWER_BYTES_MAX:
            raise EngineError(
                396, f"Code: 396. DB::Exception: Limit for result exceeded: {WHOLE_ANSWER_BYTES_MAX} bytes"
            )

    def _begin_chunks(self) -> None:
        self._tag = secrets.token_hex(8)
        headers = self._headers | {"Transfer-Encoding": "chunked", "X-ClickHouse-Exception-Tag": self._tag}
        if self._coding:
            headers["Content-Encoding"] = self._coding
        self._send(head(200, headers))
        held, self._held = self._held, bytearray()
        self._send_chunk(held)

    def _send_chunk(self, piece: bytes | bytearray | memoryview) -> None:
        if len(piece):
            self._send(b"".join((b"%x\r\n" % len(piece), piece, b"\r\n")))
