"""CloudEvents headers for many messages of one type: what does not change is encoded once."""

from __future__ import annotations

from datetime import UTC, datetime

from schemas.base import CONTENT_TYPE, SPEC_VERSION, Message, time_text


class HeaderTemplate:
    """Headers of one message type from one source. Used by one thread."""

    def __init__(self, message: type[Message], source: str) -> None:
        self._fixed = [
            ("ce_specversion", SPEC_VERSION.encode()),
            ("ce_source", source.encode()),
            ("ce_type", message.event_type().encode()),
            ("ce_dataschema", message.data_schema().encode()),
            ("content-type", CONTENT_TYPE.encode()),
        ]
        self._time_ms = -1
        self._stamp = b""

    def headers(self, event_id: str, time_ms: int, traceparent: str | None = None) -> list[tuple[str, bytes]]:
        """As `headers_for`, at `time_ms` milliseconds since 1970 UTC."""
        if time_ms != self._time_ms:
            moment = datetime.fromtimestamp(time_ms / 1000, UTC)
            self._time_ms, self._stamp = time_ms, time_text(moment).encode()
        pairs = [*self._fixed, ("ce_id", event_id.encode()), ("ce_time", self._stamp)]
        if traceparent is not None:
            pairs.append(("traceparent", traceparent.encode()))
        return pairs
