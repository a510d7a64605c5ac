"""Records as Faust's messages, and back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

from faust.types import TP
from faust.types.tuples import ConsumerMessage

from infra.ports import Record


class PlacedMessage(ConsumerMessage):
    """A message that knows which placing of its partition it was fetched under."""

    serial: int = -1


def message_of(tp: TP, record: Record, generation_id: int) -> PlacedMessage:
    """A record that another client read, as a message."""
    return PlacedMessage(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp_ms / 1000.0,
        1,
        cast(Any, record.headers),
        record.key,
        record.value,
        None,
        tp=tp,
        generation_id=generation_id,
    )


def record_of(message: PlacedMessage) -> Record:
    """A message as a record."""
    headers = cast("Iterable[tuple[str, bytes | None]]", message.headers or ())
    return Record(
        message.topic,
        message.partition,
        message.offset,
        round(message.timestamp * 1000),
        message.key,
        message.value,
        tuple(headers),
    )
