"""What the ledger tells stage 2 of the stream jobs on `inference.windows`: what is asked, settled and still owed."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.base import Count, EpochMs, Label, Message, Part

SCENARIOS_MAX = 128
"""Scenarios of one partition that are told apart, `OTHER` and `UNREAD` among them."""
PARTITIONS_PER_EVENT_MAX = 1_000
OTHER, UNREAD = "(other)", "(unread)"
"""Scenarios beyond the bound; and requests that retention took before the ledger had read them."""
ScenarioText = Annotated[str, Field(max_length=64)]


class ScenarioOwed(Part):
    """The account of one scenario in one partition, since the book began; owed is counted apart, not subtracted.

    The scenario of what cannot be read is the empty text.
    """

    scenario: ScenarioText
    asked: Count = 0
    answered: Count = 0
    failed: Count = 0
    shed: Count = 0
    dead_lettered: Count = 0
    expired: Count = Field(
        default=0,
        description="Retention took the request, or what may have been its answer, before it had an end. One that "
        "is answered after all counts as answered.",
    )
    late: Count = Field(default=0, description="Of the answered: after the deadline that the request named.")
    owed: Count = 0
    oldest_ms: EpochMs | None = Field(default=None, description="When the oldest owed request was appended.")
    oldest_offset: Count | None = None


class PartitionOwed(Part):
    """One request partition. Times are append times of the broker, so that no clock of ours is in them."""

    partition: Annotated[int, Field(ge=0, le=2**31 - 1)]
    epoch: Count = Field(description="Of the book's owner: what an earlier owner still says is ignored.")
    first_offset: Count = Field(description="Where the book begins.")
    next_offset: Count = Field(description="Requests below it are accounted for.")
    unread: Count = Field(default=0, description="Requests that follow and are not read yet, because too many wait.")
    absent: Count = Field(default=0, description="Offsets without a request: transaction markers, say.")
    repeated: Count = Field(default=0, description="Answers to requests that had one; the first counts.")
    given_up: Count = Field(default=0, description="Owed requests no longer followed, for want of room for the gaps.")
    served_ms: EpochMs | None = Field(
        default=None, description="When the last answer or failure that was computed was appended; None: none yet."
    )
    worker: Annotated[str, Field(max_length=200)] = Field(default="", description="Who gave it.")
    scenarios: Annotated[list[ScenarioOwed], Field(max_length=SCENARIOS_MAX)] = Field(
        default=[], description="Those whose series belong to the partition of the windows topic this is on."
    )


class RequestsOwed(Message):
    """The books of some request partitions at one moment: that of the record's append."""

    KIND: ClassVar[str] = "requests.owed"
    MINOR: ClassVar[int] = 1

    cluster_id: Label
    topic_id: Label = Field(description="The request topic's id: another one begins new books.")
    partitions: Annotated[list[PartitionOwed], Field(max_length=PARTITIONS_PER_EVENT_MAX)]


OWED_KINDS: tuple[type[RequestsOwed]] = (RequestsOwed,)
