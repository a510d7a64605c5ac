"""The ledger's shell: a group member that keeps the books of the request partitions it owns. One thread.

Without Faust: a book is one state over three topics, and has no rows or events whose loss a commit could cause. The
state log holds each book with its three positions, under the owner's epoch; what the group commits is only for people.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence

from infra.kafka import KafkaCluster, KafkaLog, KafkaRangeReader, KafkaTail
from infra.metrics import STATE_FALLBACKS
from infra.ports import Clock, Place, Publisher, Record, RetryLater
from infra.settings import KafkaSettings
from infra.up.traffic import REQUEST_DEAD_LETTERS
from schemas.topics import LEDGER_STATE, PREDICTIONS, REQUESTS, WINDOWS
from stream_jobs.ledger.book import Book, Doings, positions
from stream_jobs.ledger.book_start import BookStarts
from stream_jobs.ledger.gauges import Unsaved, show
from stream_jobs.ledger.partition_ledger import BookStart, PartitionLedger
from stream_jobs.ledger.telling import Pace, Telling
from stream_jobs.settings import JobSettings
from stream_jobs.stall_watch import Progress
from stream_jobs.state_log import PartitionState, Superseded
from stream_jobs.state_store import KafkaStateStore

LOG = logging.getLogger(__name__)
POLL_RECORDS, POLL_SECONDS, GATHER_SECONDS = 5_000, 0.2, 0.2
FACTS_SECONDS = 5.0
"""Between two questions for the request topic's id and its first offsets."""
RETRY_SECONDS = 0.5
START_SECONDS = 10.0
"""Longest wait for a record that says where a book begins."""
STATE_SECONDS = 10.0
"""Longest wait for the delivery of a book's state, and for the next records of one that is read: as for a question."""
QUIET_POLLS = 3
"""So many polls without a record mean that all is read: the end may be a transaction's marker, which never comes."""


class LedgerJob:
    """Keeps books until it is stopped. `run` belongs to one thread."""

    def __init__(
        self,
        settings: JobSettings,
        kafka: KafkaSettings,
        publisher: Publisher,
        clock: Clock,
        client_id: str,
        *,
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_turn` is called whenever the loop has come on, once a second and more, for whoever watches it."""
        self._settings, self._kafka, self._publisher, self._clock = settings, kafka, publisher, clock
        self._client_id, self._owner = client_id, uuid.uuid4().hex
        self._on_turn, self._awake_at = on_turn, clock.monotonic()
        self._cluster = KafkaCluster(kafka, client_id=f"{client_id}-ledger")
        reader = KafkaRangeReader(kafka, clock, client_id=f"{client_id}-ledger-start", silence_seconds=START_SECONDS)
        self._starts = BookStarts(self._cluster, reader)
        self._store = KafkaStateStore(kafka, publisher, LEDGER_STATE.name, clock, timeout_seconds=STATE_SECONDS)
        # A report must come well within a window, or two of them could not be enough.
        interval = min(settings.ledger_seconds, settings.window_seconds / 8)
        self.unsaved = Unsaved(clock)
        self._pace = Pace(interval, settings.window_seconds / 2)
        self._books: dict[int, Book] = {}
        self._waiting: set[int] = set()
        self._tail: KafkaTail | None = None
        self._ends: dict[Place, int] = {}
        self._quiet = 0
        self._source = ("", "")
        self._doings, self._stop = Doings(), threading.Event()

    def progress(self, ranges: Mapping[Place, tuple[int, int]]) -> Progress | None:
        """See `stall_watch.Job`. From any thread."""
        return None if self._stop.is_set() else self._doings.progress(len(self._books) + len(self._waiting))

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. Raises what makes going on useless, as `Fatal`."""
        self._stop = stop
        self._members = KafkaLog(
            self._kafka,
            group=self._settings.ledger_group,
            topics=[REQUESTS.name],
            client_id=f"{self._client_id}-ledger",
            on_assigned=self._assigned,
            on_revoked=self._revoked,
        )
        try:
            self._run(stop)
        finally:
            self._close_tail()  # before: leaving calls back, and may do so late and on another thread
            self._members.close()

    def _run(self, stop: threading.Event) -> None:
        tell_at = save_at = facts_at = self._awake_at = self._clock.monotonic()
        while not stop.is_set():
            try:
                self._awake()
                self._join()
                self._read(stop)
                now = self._awake()
                if now >= facts_at:
                    self._ask_facts()
                    facts_at = now + FACTS_SECONDS
                if now >= tell_at:
                    self._tell()
                    tell_at = now + self._pace.interval_seconds
                if now >= save_at:
                    self._save()
                    save_at = now + self._settings.barrier_interval_seconds
                self._doings.rounds += 1
            except RetryLater as error:
                LOG.warning("the ledger tries again: %s", error)
                stop.wait(RETRY_SECONDS)
        try:
            self._save()
        except RetryLater as error:
            LOG.warning("the last of the books was not saved, it is counted again: %s", error)

    def _awake(self) -> float:
        """Now. Who stood still past its session has lost its partitions, whether it was told so or not. Call it after
        each thing that may take long: only one of them must fit into a session."""
        self._on_turn()
        before, now = self._awake_at, self._clock.monotonic()
        self._awake_at = now
        if now - before > self._kafka.session_timeout_ms / 1000 and self._books:
            LOG.warning("the ledger stood still for %.0f s: its books are taken over anew", now - before)
            self._drop(self._books.keys())
        return now

    # Owning.

    def _assigned(self, places: set[Place]) -> None:
        self._doings.is_member = True
        self._waiting.update(number for _, number in places)

    def _revoked(self, places: set[Place]) -> None:
        numbers = {number for _, number in places}
        self._waiting -= numbers
        for number in numbers & self._books.keys():
            del self._books[number]
        self._close_tail()

    def _drop(self, numbers: Iterable[int]) -> None:
        """These books must be taken over again."""
        for number in list(numbers):
            del self._books[number]
            self._waiting.add(number)
        self._close_tail()

    def _join(self) -> None:
        """Let the group speak, and take over what it gave. The member itself reads nothing."""
        self._members.poll(1, 0.0)
        if not self._waiting:
            return
        owned = self._members.assignment()
        self._members.pause(sorted(owned))
        if not self._source[1]:
            self._source = self._ask_source()
        self._close_tail()
        for number in sorted(self._waiting):
            if (REQUESTS.name, number) in owned:
                try:
                    self._books[number] = self._take_over(number)
                    self._doings.taken_over += 1
                except Superseded as error:
                    raise RetryLater(f"{REQUESTS.name}[{number}]: {error}") from None
            self._waiting.discard(number)
            self._awake()

    def _take_over(self, number: int) -> Book:
        cluster_id, topic_id = self._source
        state = PartitionState(
            self._store,
            number,
            owner=uuid.uuid4().hex,
            source=f"{cluster_id}/{topic_id}",
            digest="all",
            on_broken=lambda why: STATE_FALLBACKS.labels(LEDGER_STATE.name).inc(),
        )
        found = state.take_over()
        ledger = PartitionLedger(cluster_id, topic_id, number, BookStart(0, 0, 0))
        if found is None or not self._restored(ledger, found.pages):
            start = self._starts.start(number)
            ledger = PartitionLedger(cluster_id, topic_id, number, start)
            LOG.info(
                "%s[%d] (topic id %s): a new book begins at offset %d", REQUESTS.name, number, topic_id, start.requests
            )
        state.write_all(ledger.pages(), ledger.next_offset)
        LOG.info("%s[%d]: book at offset %d, epoch %d", REQUESTS.name, number, ledger.next_offset, state.epoch)
        return Book(ledger, state, ledger.next_offset)

    def _restored(self, ledger: PartitionLedger, pages: Mapping[str, bytes]) -> bool:
        """Whether the saved book can be gone on with."""
        try:
            ledger.restore(pages)
        except ValueError as error:
            LOG.error("%s[%d]: the book cannot be read: %s", REQUESTS.name, ledger.partition, error)
            return False
        self._starts.go_on(ledger)
        return True

    def _ask_source(self) -> tuple[str, str]:
        source = self._cluster.cluster_id, self._cluster.topic_id(REQUESTS.name)
        targets = self._cluster.partitions(WINDOWS.name)
        self._telling = Telling(*source, self._owner, targets, self._pace)
        return source

    # Reading.

    def _read(self, stop: threading.Event) -> None:
        if not self._books:
            stop.wait(POLL_SECONDS)
            return
        if self._tail is None:
            self._tail = KafkaTail(
                self._kafka,
                (),
                start=positions(self._books.values()),
                client_id=f"{self._client_id}-ledger-read",
                gather_seconds=GATHER_SECONDS,
            )
            self._ends, self._quiet = {}, 0
            for book in self._books.values():
                book.paused = False
        records = self._tail.poll(POLL_RECORDS, POLL_SECONDS)
        self._quiet = 0 if records else self._quiet + 1
        if records:
            try:
                self._fold(records)
            except RetryLater:
                self._close_tail()  # it is past these records: the next one begins where the books are
                raise
            self._pause()

    def _fold(self, records: Sequence[Record]) -> None:
        shares: dict[int, list[Record]] = {number: [] for number in self._books}
        for record in records:
            if record.topic == REQUEST_DEAD_LETTERS:
                for share in shares.values():
                    share.append(record)
            elif record.partition in shares:
                shares[record.partition].append(record)
        for number, share in shares.items():
            ledger = self._books[number].ledger
            first = next((one.offset for one in share if one.topic == REQUESTS.name), 0)
            if first > ledger.positions[REQUESTS.name, number]:
                # Whether they are deleted or never were must be known before they are counted.
                ledger.note_first_kept(self._cluster.ranges(REQUESTS.name)[number][0])
            ledger.fold(share)
        self.unsaved.took(records)

    def _pause(self) -> None:
        """Read no more requests of a partition that owes too many; what follows them is counted by its offsets."""
        assert self._tail is not None
        for number, book in self._books.items():
            if book.paused != book.ledger.is_full:
                book.paused = book.ledger.is_full
                change = self._tail.pause if book.paused else self._tail.resume
                change([(REQUESTS.name, number)])

    def _close_tail(self) -> None:
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    # Telling and saving.

    def _ask_facts(self) -> None:
        if not self._books:
            return
        if (source := (self._cluster.cluster_id, self._cluster.topic_id(REQUESTS.name))) != self._source:
            LOG.warning("%s was made anew (id %s, was %s): new books begin", REQUESTS.name, source[1], self._source[1])
            self._source = ("", "")
            self._drop(self._books.keys())
            return
        ranges = self._cluster.ranges(REQUESTS.name)
        for number, book in self._books.items():
            book.ledger.note_first_kept(ranges.get(number, (0, 0))[0])

    def _tell(self) -> None:
        """Say how books stand that have read all there was a moment ago."""
        if not self._books:
            show((), 0)
            return
        before, self._ends = self._ends, self._ask_ends()
        told = []
        for number, book in sorted(self._books.items()):
            book.end = self._ends.get((REQUESTS.name, number), book.end)
            if before and (self._quiet >= QUIET_POLLS or book.is_at(before)):
                book.ledger.expire()
                told.append(book.ledger.told(book.state.epoch, book.end))
        if told:
            show(told, self._clock.now_ms())
        for event in self._telling.events(told, self._clock.monotonic(), self._clock.now_ms()):
            self._publisher.publish(event.topic, event.value, partition=event.partition, headers=event.headers)

    def _ask_ends(self) -> dict[Place, int]:
        counts = {
            REQUESTS.name: max(self._books) + 1,
            PREDICTIONS.name: max(self._books) + 1,
            REQUEST_DEAD_LETTERS: 1,
        }
        found = self._cluster.ends(counts)
        return {(topic, number): offset for topic, ends in found.items() for number, offset in ends.items()}

    def _save(self) -> None:
        for number, book in list(self._books.items()):
            try:
                book.state.write(book.ledger.pages(), book.ledger.next_offset)
            except Superseded as error:
                LOG.warning("%s[%d]: the book is taken over again: %s", REQUESTS.name, number, error)
                self._drop([number])
                continue
            self._members.store(REQUESTS.name, number, book.ledger.next_offset)
        self.unsaved.saved()
