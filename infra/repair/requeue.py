"""Puts dead letters back on their topic, each once, whatever dies in between.

1. began: a marker on `control.requeues` says that the record is about to be put back, and the topic's end then
2. put back: key, value and headers unchanged, on its partition, with two headers that say where it came from
3. done: a second marker says at which offset it is

Telemetry of which the table refused rows goes back with a third header that names them: stage 1 makes them again,
and counts nothing.

A run that finds 1 without 3 reads the topic from the end named in 1 and looks for the header: nothing is sent on the
word of a marker alone. Of two runs at once, the one whose first marker came first goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Protocol

from infra.ports import Clock, Publisher, Record, RetryLater
from infra.repair.letters import Letter
from schemas.base import DecodeError, decode, encode, headers_for
from schemas.refused_rows import ROWS_HEADER
from schemas.requeues import FROM_HEADER, ID_HEADER, REQUEUE_KINDS, RecordRequeued, RequeueBegan
from schemas.topics import REQUEUES

LEASE_MS = 60_000
"""So long a run that has begun is left alone: it may still be at it."""
DELIVERY_SECONDS = 30.0
"""Half of the lease: what is not delivered then is not waited for, and the next run looks."""
BATCH = 200
SOURCE = "inferwatch-dead-letters"


class Fate(StrEnum):
    """What became of one letter."""

    REQUEUED = "requeued"
    BEFORE = "requeued_before"
    IN_PROGRESS = "in_progress"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Result:
    """A letter's fate; `offset` is where it is now, `why` says why not."""

    letter: Letter
    fate: Fate
    offset: int | None = None
    why: str = ""


class Logs(Protocol):
    """What is read from Kafka. Methods may block and raise RetryLater."""

    def markers(self, first: int) -> Iterator[Record]:
        """Records of `control.requeues` from an offset to its end now."""

    def end(self, topic: str, partition: int) -> int:
        """The next offset of a partition. Raises ValueError when there is no such partition."""

    def since(self, topic: str, partition: int, first: int) -> Iterator[Record]:
        """Records of a partition from an offset to its end now."""


@dataclass(slots=True)
class Markers:
    """What the markers say, by requeue id. Memory: one entry a requeue of the last 30 days."""

    began: dict[str, RequeueBegan] = field(default_factory=dict)
    done: dict[str, RecordRequeued] = field(default_factory=dict)
    next_offset: int = 0

    def add(self, records: Iterator[Record]) -> dict[str, RequeueBegan]:
        """Take records in, in order. Returns the first that began among these, by id."""
        first: dict[str, RequeueBegan] = {}
        for record in records:
            self.next_offset = record.offset + 1
            try:
                marker = decode(record.headers, record.value, REQUEUE_KINDS).data
            except DecodeError:
                continue
            if isinstance(marker, RecordRequeued):
                self.done[marker.requeue_id] = marker
            elif isinstance(marker, RequeueBegan):
                self.began[marker.requeue_id] = marker
                first.setdefault(marker.requeue_id, marker)
        return first


class Requeue:
    """One run of the command. Raises RetryLater when Kafka is away: running it again goes on where it was."""

    def __init__(self, publisher: Publisher, logs: Logs, clock: Clock, run_id: str) -> None:
        """`run_id` names this run; no other run has it."""
        self._publisher, self._logs, self._clock, self._run_id = publisher, logs, clock, run_id
        self.markers = Markers()

    def read(self) -> None:
        """Read the markers that are there. To be called before `run`."""
        self.markers.add(self._logs.markers(0))

    def run(self, letters: Sequence[Letter]) -> Iterator[Result]:
        """Put these back; a fate for each that is not there twice."""
        distinct = list({letter.requeue_id: letter for letter in letters}.values())
        for first in range(0, len(distinct), BATCH):
            yield from self._batch(distinct[first : first + BATCH])

    def _batch(self, letters: Sequence[Letter]) -> Iterator[Result]:
        open_letters = []
        for letter in letters:
            result = self._known(letter)
            if result is None:
                open_letters.append(letter)
            else:
                yield result
        if not open_letters:
            return
        began_at = self._clock.monotonic()
        ours = self._begin(open_letters)
        theirs = [letter for letter in open_letters if letter.requeue_id not in ours]
        yield from (Result(letter, Fate.IN_PROGRESS, why="another run began it first") for letter in theirs)
        mine = [letter for letter in open_letters if letter.requeue_id in ours]
        if self._clock.monotonic() - began_at > DELIVERY_SECONDS:
            # Stopped in between: by now another run may have taken them for left behind.
            yield from (Result(letter, Fate.IN_PROGRESS, why="this run stood still") for letter in mine)
            return
        # 2 put back
        offsets = self._deliver([(letter.requeue_id, self._sender(letter)) for letter in mine])
        # 3 done
        self._deliver(
            [(letter.requeue_id, self._marker(self._done(letter, offsets[letter.requeue_id]))) for letter in mine]
        )
        for letter in mine:
            yield Result(letter, Fate.REQUEUED, offsets[letter.requeue_id])

    def _known(self, letter: Letter) -> Result | None:
        """The fate of one that needs nothing more; None: it is to be put back."""
        name = letter.requeue_id
        if (done := self.markers.done.get(name)) is not None:
            return Result(letter, Fate.BEFORE, done.offset)
        if letter.why_not is not None:
            return Result(letter, Fate.REFUSED, why=letter.why_not)
        began = self.markers.began.get(name)
        if began is None:
            return None
        found = self._found(letter, began.search_from)
        if found is not None:
            self._deliver([(name, self._marker(self._done(letter, found)))])
            return Result(letter, Fate.BEFORE, found)
        if self._clock.now_ms() < began.at_ms + LEASE_MS and began.run_id != self._run_id:
            wait = (began.at_ms + LEASE_MS - self._clock.now_ms()) / 1000
            return Result(letter, Fate.IN_PROGRESS, why=f"another run is at it, or died: try again in {wait:.0f} s")
        return None

    def _found(self, letter: Letter, first: int) -> int | None:
        wanted = (ID_HEADER, letter.requeue_id.encode())
        records = self._logs.since(letter.content.topic, letter.content.partition, first)
        return next((record.offset for record in records if wanted in record.headers), None)

    def _begin(self, letters: Sequence[Letter]) -> set[str]:
        """1 began. The ids of which this run's marker came first."""
        ends: dict[tuple[str, int], int] = {}
        sends = []
        for letter in letters:
            place = (letter.content.topic, letter.content.partition)
            if place not in ends:
                ends[place] = self._logs.end(*place)
            # What an earlier run sent and did not see delivered may lie before this end: its own is kept.
            before = self.markers.began.get(letter.requeue_id)
            marker = RequeueBegan(
                requeue_id=letter.requeue_id,
                topic=letter.content.topic,
                partition=letter.content.partition,
                origin_offset=letter.content.offset,
                run_id=self._run_id,
                search_from=ends[place] if before is None else min(ends[place], before.search_from),
                at_ms=self._clock.now_ms(),
            )
            sends.append((letter.requeue_id, self._marker(marker)))
        self._deliver(sends)
        first = self.markers.add(self._logs.markers(self.markers.next_offset))
        return {name for name, marker in first.items() if marker.run_id == self._run_id}

    def _done(self, letter: Letter, offset: int) -> RecordRequeued:
        return RecordRequeued(
            requeue_id=letter.requeue_id,
            topic=letter.content.topic,
            partition=letter.content.partition,
            origin_offset=letter.content.offset,
            offset=offset,
        )

    def _marker(self, marker: RequeueBegan | RecordRequeued) -> Callable[[DeliveryOf], None]:
        headers = headers_for(
            marker,
            event_id=f"{marker.requeue_id}/{marker.KIND}/{self._run_id}",
            source=SOURCE,
            time=datetime.fromtimestamp(self._clock.now_ms() / 1000, UTC),
        )

        def send(delivered: DeliveryOf) -> None:
            key = marker.requeue_id.encode()
            self._publisher.publish(
                REQUEUES.name, encode(marker), key=key, partition=0, headers=headers, on_delivery=delivered
            )

        return send

    def _sender(self, letter: Letter) -> Callable[[DeliveryOf], None]:
        one = letter.content
        more = [(FROM_HEADER, letter.name.encode()), (ID_HEADER, letter.requeue_id.encode())]
        if (rows := letter.refused_rows) is not None:
            more.append((ROWS_HEADER, rows.text().encode()))

        def send(delivered: DeliveryOf) -> None:
            self._publisher.publish(
                one.topic,
                one.value,
                key=one.key,
                partition=one.partition,
                headers=[*one.headers, *more],
                on_delivery=delivered,
            )

        return send

    def _deliver(self, sends: Sequence[tuple[str, Callable[[DeliveryOf], None]]]) -> Mapping[str, int]:
        """Send all and wait; offsets by name. Raises RetryLater when one was not delivered."""
        offsets: dict[str, int] = {}
        errors: list[Exception] = []

        def delivery(name: str) -> DeliveryOf:
            def report(offset: int | None, error: Exception | None) -> None:
                if offset is None:
                    errors.append(error or RetryLater("not delivered"))
                else:
                    offsets[name] = offset

            return report

        for name, send in sends:
            send(delivery(name))
        left = self._publisher.flush(DELIVERY_SECONDS)
        if errors:
            raise RetryLater(f"Kafka did not take a record: {errors[0]}; run the command again: it goes on")
        if left or len(offsets) < len(sends):
            raise RetryLater("Kafka did not confirm a record in time; run the command again: it looks where it is")
        return offsets


DeliveryOf = Callable[[int | None, Exception | None], None]
