"""Dead letters as people look for them: named by where the record lay first, filtered, and what may be put back."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

from infra.ports import Record
from schemas import topics
from schemas.base import Reason
from schemas.dead_letters import SUFFIX, DeadLetter
from schemas.refused_rows import RefusedRows

LETTER_TOPICS = tuple(topics.dead_letters_of(topic) for topic in topics.DECLARED if topic.processed)
HEADERS_LOST = "a header's name is not UTF-8"
"""What a reader says of headers that it could not hand over: they are not in the dead letter either."""
HEADERS_DROPPED = "headers dropped)"


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter and where it lies."""

    topic: str
    partition: int
    offset: int
    appended_ms: int
    content: DeadLetter

    @property
    def name(self) -> str:
        """How people name it: where its record lay first."""
        return f"{self.content.topic}/{self.content.partition}/{self.content.offset}"

    @property
    def requeue_id(self) -> str:
        """A hash of origin and content. A record that was buried twice, by a process that died in between, has one; a
        record of a topic that was deleted and made again has another."""
        one = self.content
        digest = hashlib.sha256(self.name.encode())
        for part in (one.key, one.value, *(raw for name, value in one.headers for raw in (name.encode(), value))):
            digest.update(b"-" if part is None else b"+%d:" % len(part) + part)
        return digest.hexdigest()[:32]

    @property
    def refused_rows(self) -> RefusedRows | None:
        """The rows of requests that the table refused of the record, when the letter names them all."""
        is_refused = self.content.reason is Reason.REFUSED_BY_TABLE and self.content.topic == topics.TELEMETRY.name
        try:
            return RefusedRows.of_detail(self.content.detail) if is_refused else None
        except ValueError:
            return None

    @property
    def why_not(self) -> str | None:
        """Why it cannot be put back; None: it can."""
        one = self.content
        if one.topic == topics.WINDOWS.name:
            return "stage 2 takes partial windows in their order: it would take this one for a repeat"
        if one.topic not in (topics.REQUESTS.name, topics.TELEMETRY.name):
            return f"what {one.topic} says has been decided otherwise since: publish a new record"
        if one.reason is Reason.REFUSED_BY_TABLE and self.refused_rows is None:
            return "it does not name all rows that were refused: the job would take the record for a repeat"
        if one.cut_bytes or one.key_cut_bytes:
            return f"{one.cut_bytes + one.key_cut_bytes:,} bytes of it were cut: publish the whole record"
        if one.detail.endswith(HEADERS_DROPPED) or (one.reason is Reason.WRONG_HEADERS and HEADERS_LOST in one.detail):
            return "headers of it were lost: publish the whole record"
        return None


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters are meant. None: any. `topic` is the one that the record lay on."""

    name: str | None = None
    topic: str | None = None
    reason: Reason | None = None
    stage: str | None = None
    since_ms: int | None = None

    def takes(self, letter: Letter) -> bool:
        """Whether this one is meant."""
        one = letter.content
        return (
            self.name in (None, letter.name)
            and self.topic in (None, one.topic)
            and self.reason in (None, one.reason)
            and self.stage in (None, one.stage)
            and (self.since_ms is None or letter.appended_ms >= self.since_ms)
        )

    def topics(self) -> list[str]:
        """Dead-letter topics that can hold such."""
        wanted = self.name.rsplit("/", 2)[0] if self.name is not None else self.topic
        found = [topic.name for topic in LETTER_TOPICS]
        return found if wanted is None else [name for name in found if name == wanted + SUFFIX]


def letters_in(records: Iterator[Record], wanted: Filter) -> Iterator[Letter | Record]:
    """The letters that are meant, in order; a record that is no dead letter of ours as it is."""
    for record in records:
        try:
            content = DeadLetter.from_record(record.headers, record.key, record.value)
        except ValueError:
            yield record
            continue
        letter = Letter(record.topic, record.partition, record.offset, record.timestamp_ms, content)
        if wanted.takes(letter):
            yield letter
