"""Logs of a process: one line each on stderr, UTC, JSON or for people. Never a secret, never a request's text."""

from __future__ import annotations

import json
import logging
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime

from infra.fingerprints import fingerprint
from infra.redaction import hide_secrets
from infra.settings import LogSettings, load
from infra.traces import trace_id_of

trace: ContextVar[str] = ContextVar("trace", default="")
"""Trace id of the request that is worked on; every line logged meanwhile carries it. Empty: none."""
CHARACTERS_MAX = 16_000
"""A longer message or stack is cut: what a request's error holds must not fill a disk."""
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@contextmanager
def traced(traceparent: str | None) -> Iterator[None]:
    """Lines logged inside carry the trace of this context."""
    token = trace.set(trace_id_of(traceparent))
    try:
        yield
    finally:
        trace.reset(token)


@dataclass(frozen=True, slots=True)
class Line:
    """What a log record says, cut and without secrets. `stack` and `fingerprint` are empty without an exception."""

    time_ms: int
    level: str
    logger: str
    message: str
    trace_id: str
    stack: str
    fingerprint: str


def line_of(record: logging.LogRecord) -> Line:
    """Read a record, on the thread that logs it: the trace is that thread's."""
    stack, print_ = "", ""
    if record.exc_info and record.exc_info[1] is not None:
        stack = logging.Formatter().formatException(record.exc_info)
        print_ = fingerprint(record.exc_info[1])
    return Line(
        round(record.created * 1000),
        _level(record.levelno),
        record.name,
        hide_secrets(record.getMessage()[: 2 * CHARACTERS_MAX])[:CHARACTERS_MAX],  # the cut may halve a secret
        trace.get(),
        hide_secrets(stack[-2 * CHARACTERS_MAX :])[-CHARACTERS_MAX:],  # the end says what went wrong
        print_,
    )


class JsonLines(logging.Formatter):
    """Formats a record as one line of JSON: time, level, process, worker, logger, message; trace, stack and its
    fingerprint where there are some."""

    def __init__(self, process: str, worker_id: str = "") -> None:
        super().__init__()
        self._process, self._worker_id = process, worker_id

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = line_of(record)
        found = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": line.level.lower(),
            "process": self._process,
            "worker_id": self._worker_id,
            "logger": line.logger,
            "message": line.message,
            "trace_id": line.trace_id,
            "stack": line.stack,
            "fingerprint": line.fingerprint,
        }
        return json.dumps({name: value for name, value in found.items() if value}, ensure_ascii=False)


class TextLines(logging.Formatter):
    """Formats a record for a person: a line, then the stack."""

    def format(self, record: logging.LogRecord) -> str:
        """A line; control characters are shown, so that no text can pretend to be another line."""
        line = line_of(record)
        time = datetime.fromtimestamp(record.created, UTC).strftime("%H:%M:%S")
        message = _CONTROL.sub(lambda found: repr(found[0])[1:-1], line.message)
        text = f"{time}.{line.time_ms % 1000:03d} {line.level:<8} {line.logger}: {message}"
        if line.trace_id:
            text += f" [trace {line.trace_id}]"
        return f"{text}\n{line.stack}" if line.stack else text


def setup_logging(process: str, level: str = "INFO", *, worker_id: str = "") -> None:
    """Send this process's logs to stderr, as `LogSettings` say; `level` holds unless they do."""
    settings = load(LogSettings)
    handler = logging.StreamHandler(sys.stderr)
    is_text = sys.stderr.isatty() if settings.format == "auto" else settings.format == "text"
    handler.setFormatter(TextLines() if is_text else JsonLines(process, worker_id))
    logging.basicConfig(level=settings.level or level, handlers=[handler], force=True)


def _level(number: int) -> str:
    """The nearest of the five levels below: libraries make levels of their own."""
    for least, name in ((50, "CRITICAL"), (40, "ERROR"), (30, "WARNING"), (20, "INFO")):
        if number >= least:
            return name
    return "DEBUG"
