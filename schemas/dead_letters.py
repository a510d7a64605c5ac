"""What becomes of a record that cannot be used: its bytes unchanged on `<topic>.dead-letters`, the origin as headers.

Header names are Kafka Connect's (`__connect.errors.*`); three of our own carry the reason code and what was cut.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field

from schemas.base import KEY_BYTES_MAX, UNREADABLE_HEADERS, Headers, Reason

SUFFIX = ".dead-letters"
CONNECT = "__connect.errors."
REASON_HEADER = "inferwatch.reason"
CUT_HEADER = "inferwatch.value.bytes.cut"
KEY_CUT_HEADER = "inferwatch.key.bytes.cut"
TOPIC_ID_HEADER = "inferwatch.topic.id"
HEADROOM_BYTES = 65_536
"""How much larger than its source's a dead-letter topic's records may be: room for the headers added here."""
HEADERS_BYTES_MAX = 49_152
"""Original headers kept, bytes. More than that are dropped from the end, and `detail` says so."""
DETAIL_CHARACTERS_MAX = 2_000


class DeadLetter(BaseModel):
    """A record that could not be used and why. `value` is None where the record had none."""

    model_config = ConfigDict(strict=True, frozen=True)

    topic: Annotated[str, Field(min_length=1, max_length=249)]
    partition: Annotated[int, Field(ge=0)]
    offset: Annotated[int, Field(ge=0)]
    stage: Annotated[str, Field(max_length=100)] = Field(description="Which part refused it: worker, jobs.score, ...")
    reason: Reason
    detail: Annotated[str, Field(max_length=DETAIL_CHARACTERS_MAX)]
    key: bytes | None = None
    value: bytes | None = None
    cut_bytes: Annotated[int, Field(ge=0)] = Field(default=0, description="Bytes of the value that did not fit.")
    key_cut_bytes: Annotated[int, Field(ge=0)] = Field(default=0, description="Bytes of the key that did not fit.")
    headers: tuple[tuple[str, bytes | None], ...] = ()
    topic_id: str = Field(default="", description="Of the record's topic; empty where it was not known.")

    @property
    def dead_letter_topic(self) -> str:
        """Where it goes."""
        return self.topic + SUFFIX

    @classmethod
    def of(
        cls,
        *,
        topic: str,
        partition: int,
        offset: int,
        stage: str,
        reason: Reason,
        detail: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        value_bytes_max: int,
        topic_id: str = "",
    ) -> Self:
        """Make one from a record, cutting what would not fit its topic and saying so.

        Whatever the record holds (a compressed one may hold any number of bytes), the dead letter is at most
        HEADROOM_BYTES larger than `value_bytes_max`. The key gives way first, down to the longest that a request may
        have; then the value.
        """
        kept, dropped = _fit(headers)
        if dropped:
            detail = f"{detail} ({dropped} headers dropped)"
        key_room = min(value_bytes_max, max(KEY_BYTES_MAX, value_bytes_max - len(value or b"")))
        key_cut = max(0, len(key or b"") - key_room)
        cut = max(0, len(value or b"") + len(key or b"") - key_cut - value_bytes_max)
        return cls(
            topic=topic,
            partition=partition,
            offset=offset,
            stage=stage,
            reason=reason,
            detail=_clean(detail),
            key=key if key is None else key[:key_room],
            value=value if value is None else value[: len(value) - cut],
            cut_bytes=cut,
            key_cut_bytes=key_cut,
            headers=kept,
            topic_id=topic_id,
        )

    def record_headers(self) -> list[tuple[str, bytes | None]]:
        """The headers of the dead-letter record: the original ones, then the origin and the reason."""
        origin = {
            CONNECT + "topic": self.topic,
            CONNECT + "partition": str(self.partition),
            CONNECT + "offset": str(self.offset),
            CONNECT + "stage": self.stage,
            CONNECT + "class.name": "inferwatch." + self.stage,
            CONNECT + "exception.class.name": "DecodeError",
            CONNECT + "exception.message": self.detail,
            REASON_HEADER: self.reason.value,
        }
        if self.topic_id:
            origin[TOPIC_ID_HEADER] = self.topic_id
        if self.cut_bytes:
            origin[CUT_HEADER] = str(self.cut_bytes)
        if self.key_cut_bytes:
            origin[KEY_CUT_HEADER] = str(self.key_cut_bytes)
        return [*self.headers, *((name, text.encode()) for name, text in origin.items())]

    @classmethod
    def from_record(cls, headers: Headers, key: bytes | None, value: bytes | None) -> Self:
        """Read one back. Raises ValueError when the origin headers are missing or wrong."""
        ours = {name: (raw or b"").decode() for name, raw in headers if name.startswith((CONNECT, "inferwatch."))}
        try:
            return cls(
                topic=ours[CONNECT + "topic"],
                partition=int(ours[CONNECT + "partition"]),
                offset=int(ours[CONNECT + "offset"]),
                stage=ours[CONNECT + "stage"],
                reason=Reason(ours[REASON_HEADER]),
                detail=ours[CONNECT + "exception.message"],
                key=key,
                value=value,
                cut_bytes=int(ours.get(CUT_HEADER, "0")),
                key_cut_bytes=int(ours.get(KEY_CUT_HEADER, "0")),
                headers=tuple(pair for pair in headers if not pair[0].startswith((CONNECT, "inferwatch."))),
                topic_id=ours.get(TOPIC_ID_HEADER, ""),
            )
        except KeyError as error:
            raise ValueError(f"not a dead letter: header {error.args[0]} is missing") from None


def _clean(detail: str) -> str:
    return detail.encode("utf-8", "replace").decode()[:DETAIL_CHARACTERS_MAX]


def _fit(headers: Headers) -> tuple[tuple[tuple[str, bytes | None], ...], int]:
    if tuple(headers) == UNREADABLE_HEADERS:
        return (), 0
    kept: list[tuple[str, bytes | None]] = []
    room = HEADERS_BYTES_MAX
    for name, raw in headers:
        room -= len(name.encode("utf-8", "replace")) + len(raw or b"") + 10
        if room < 0:
            break
        if not name.startswith((CONNECT, "inferwatch.")):
            kept.append((name, raw))
    # Ours are no part of the record: of one that was put back and is buried again nothing is lost with them.
    theirs = sum(not name.startswith((CONNECT, "inferwatch.")) for name, _ in headers)
    return tuple(kept), theirs - len(kept)
