"""What `inferwatch dead-letters requeue` writes down on `control.requeues`, so that nothing is put back twice."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.base import Count, EpochMs, Label, Message

FROM_HEADER = "inferwatch.requeued.from"
"""On a record that was put back: topic/partition/offset where it lay first."""
ID_HEADER = "inferwatch.requeued.id"
"""On a record that was put back: the name that its requeue goes by."""


class _Requeue(Message):
    requeue_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] = Field(
        description="Hash of the dead letter's origin and content: the same record always has the same."
    )
    topic: Label = Field(description="Where it was and is put back to.")
    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    origin_offset: Count


class RequeueBegan(_Requeue):
    """Somebody is about to put a record back; whoever finds this and no `RecordRequeued` looks whether it is there."""

    KIND: ClassVar[str] = "requeue.began"

    run_id: Label = Field(description="Which run of the command it was.")
    search_from: Count = Field(description="Next offset of the partition then: put back, it is here or behind.")
    at_ms: EpochMs = Field(description="When, by the clock of the machine that runs the command.")


class RecordRequeued(_Requeue):
    """A record is back on its topic, once."""

    KIND: ClassVar[str] = "record.requeued"

    offset: Count = Field(description="Its new offset.")


REQUEUE_KINDS: tuple[type[RequeueBegan], type[RecordRequeued]] = (RequeueBegan, RecordRequeued)
