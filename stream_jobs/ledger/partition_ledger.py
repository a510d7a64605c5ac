"""One request partition's book: asked = answered + failed + shed + dead-lettered + expired + owed, by scenario.

Pure: a fold over the records of three topics. In which order those of different topics come changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from infra.log_clock import LogClock
from infra.offset_set import OffsetSet
from infra.ports import Record
from infra.up.request_heads import head_of
from infra.up.traffic import REQUEST_DEAD_LETTERS
from schemas.owed import UNREAD, PartitionOwed, ScenarioOwed
from schemas.topics import PREDICTIONS, REQUESTS
from stream_jobs.ledger.accounts import Accounts
from stream_jobs.ledger.deadlines import Deadlines
from stream_jobs.ledger.fates import ANSWERED, DEAD_LETTERED, EXPIRED, Fate, fate_of_dead_letter, fate_of_prediction

HELD_MAX = 20_000
"""Owed requests of a partition known one by one; about 150 bytes each. No more are read while so many wait."""
HELD_SAVED = 2_000
"""Of them in the state; the others are read again after a restart."""
LETTERS_MAX = 1_000
"""Dead-lettered offsets remembered, the last: an answer that one of them has too counts instead."""
SETTLED_BYTES_MAX = 200_000
"""The settled offsets must fit a state page. 1 KB for 8,192 of them with holes between, 9 bytes without."""
EXPIRED_PAGES_MAX = 64
"""Which requests expired is known while the settled offsets since then take no more pages: half a million requests."""
FORMAT = 1
_BOOK, _SETTLED, _DEADLINES = "book", "settled", "deadlines"


@dataclass(frozen=True, slots=True)
class BookStart:
    """Where a new book begins: the next offset of each topic. What was asked before is not accounted for."""

    requests: int
    predictions: int
    dead_letters: int


class PartitionLedger:
    """The book of one partition of the request topic `topic_id`. Records below its positions are ignored.

    Memory: `HELD_MAX` owed requests, two offset sets' pages, an account a scenario.
    """

    def __init__(self, cluster_id: str, topic_id: str, partition: int, start: BookStart) -> None:
        self.cluster_id, self.topic_id, self.partition = cluster_id, topic_id, partition
        self.start = start.requests
        self.accounts = Accounts()
        self.absent = self.repeated = self.given_up = 0
        """Offsets without a request; answers to what had one; owed offsets that count as settled, for want of room."""
        self.served_ms: int | None = None
        self.worker = ""
        self._first_kept = self._expired_below = start.requests
        """What lies below `_expired_below` and is not settled has expired."""
        self._read = self._counted = start.requests
        self._predictions, self._dead_letters = start.predictions, start.dead_letters
        self._clock = LogClock()
        """Of the answers: when the last one came. One with an odd time would hide for how long nobody answers."""
        self._settled = OffsetSet(start.requests)
        self._held: dict[str, dict[int, int]] = {}
        self._held_count = 0
        self._letters: dict[int, str] = {}
        self._deadlines = Deadlines()

    @property
    def positions(self) -> dict[tuple[str, int], int]:
        """The next offset to read of each topic. That of dead letters is of its partition 0, the only one."""
        return {
            (REQUESTS.name, self.partition): self._read,
            (PREDICTIONS.name, self.partition): self._predictions,
            (REQUEST_DEAD_LETTERS, 0): self._dead_letters,
        }

    @property
    def next_offset(self) -> int:
        """Requests below it are accounted for."""
        return self._counted

    @property
    def is_full(self) -> bool:
        """Whether so much is owed that no more requests should be read yet."""
        return self._held_count >= HELD_MAX

    def fold(self, records: Sequence[Record]) -> None:
        """Take records of the three topics in, each topic's in order."""
        fates = []
        for record in records:
            if record.topic == REQUESTS.name:
                self._ask(record)
            elif record.topic == PREDICTIONS.name and record.offset >= self._predictions:
                self._predictions = record.offset + 1
                self._clock.read(record.timestamp_ms)
                fate = fate_of_prediction(record, self.cluster_id, self.topic_id, self._clock.now_ms)
                if fate is not None:
                    fates.append(fate)
            elif record.topic == REQUEST_DEAD_LETTERS and record.offset >= self._dead_letters:
                self._dead_letters = record.offset + 1
                found = fate_of_dead_letter(record, REQUESTS.name, self.topic_id)
                if found is not None and found[0] == self.partition:
                    fates.append(found[1])
        if fates:
            self._settle(fates)

    def note_first_kept(self, offset: int) -> None:
        """The request log begins here now: a hole below it is retention's, one above was never a request."""
        self._first_kept = max(self._first_kept, offset)

    def lose_answers(self, first_request: int, kept: Mapping[tuple[str, int], int]) -> None:
        """Retention took answers that were not read: read on at the oldest that are `kept`, by topic and partition.

        Of requests before `first_request` an answer may be among them: those that have no end once all is read are
        expired, though the log still holds them.
        """
        self._predictions = max(self._predictions, kept.get((PREDICTIONS.name, self.partition), 0))
        self._dead_letters = max(self._dead_letters, kept.get((REQUEST_DEAD_LETTERS, 0), 0))
        self.note_first_kept(first_request)

    def expire(self) -> None:
        """What the log no longer holds, or whose answers it may not, and has no end is expired: unless an answer comes
        after all, of a worker that had read it before, or since a broker that died holds it again. To be called when
        all answers are read."""
        first = self._first_kept
        if first <= self._expired_below and first <= self._counted:
            return
        self._miss(first)
        left = self._settled.count_missing(self._expired_below, first)
        for scenario in list(self._held):
            gone = [offset for offset in self._held[scenario] if offset < first]
            for offset in gone:
                self._drop(scenario, offset)
            if gone:
                left -= len(gone)
                self.accounts.of(scenario).add(EXPIRED, len(gone))
        # What is left was never read, or not again since a restart.
        if left:
            self.accounts.of(UNREAD).add(EXPIRED, left)
        self._expired_below = first
        self._read = max(self._read, first)
        self._deadlines.forget_below(first)

    def told(self, epoch: int, end: int) -> PartitionOwed:
        """The account for others. `end`: the request topic's next offset."""
        names = self.accounts.names() | self._held.keys()
        return PartitionOwed(
            partition=self.partition,
            epoch=epoch,
            first_offset=self.start,
            next_offset=self._counted,
            unread=max(0, end - self._counted),
            absent=self.absent,
            repeated=self.repeated,
            given_up=self.given_up,
            served_ms=self.served_ms,
            worker=self.worker,
            scenarios=[self._told(name) for name in sorted(names)],
        )

    def pages(self) -> dict[str, bytes]:
        """The whole state."""
        held = sorted((offset, ms, name) for name, one in self._held.items() for offset, ms in one.items())
        saved, left = held[:HELD_SAVED], held[HELD_SAVED:]
        book = {
            "format": FORMAT,
            "numbers": [self.start, self._first_kept, self._counted, self._predictions, self._dead_letters],
            "expired_below": self._expired_below,
            # Owed requests that are not read again since the last restart lie from `_read` on.
            "read": min(self._read, left[0][0]) if left else self._read,
            "counts": [self.absent, self.repeated, self.given_up],
            "served": [self.served_ms, self.worker],
            "clock": self._clock.entries(),
            "accounts": self.accounts.rows(),
            "held": saved,
            "letters": list(self._letters.items()),
        }
        deadlines = self._deadlines.to_bytes({offset for offset, _, _ in saved} | self._letters.keys())
        return {_BOOK: orjson.dumps(book), _SETTLED: self._settled.to_bytes(), _DEADLINES: deadlines}

    def restore(self, pages: Mapping[str, bytes]) -> None:
        """Take over what `pages` gave. Raises ValueError when it is broken."""
        try:
            self._restore(orjson.loads(pages[_BOOK]), OffsetSet.from_bytes(pages[_SETTLED]))
            # A book of before has none.
            self._deadlines = Deadlines.from_bytes(pages[_DEADLINES]) if _DEADLINES in pages else Deadlines()
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"ledger of partition {self.partition}: {error!r}") from error

    def _restore(self, book: dict[str, Any], settled: OffsetSet) -> None:
        numbers = [*book["numbers"], book["read"], *book["counts"]]
        if book["format"] != FORMAT or any(type(one) is not int or one < 0 for one in numbers):
            raise ValueError(f"ledger of partition {self.partition}: not a book of format {FORMAT}")
        self.start, self._first_kept, self._counted, self._predictions, self._dead_letters = book["numbers"]
        self._read, (self.absent, self.repeated, self.given_up) = book["read"], book["counts"]
        self.served_ms, self.worker = book["served"]
        self._clock.restore(book.get("clock", (self.served_ms or 0, 0, 0)))
        self.accounts = Accounts.from_rows(book["accounts"])
        self._settled, self._held, self._held_count = settled, {}, 0
        self._expired_below = book.get("expired_below", settled.watermark)
        for offset, ms, name in book["held"]:
            self._hold(name, offset, ms)
        self._letters = dict(book["letters"])

    def _ask(self, record: Record) -> None:
        if record.offset < self._read:
            return
        self._read = record.offset + 1
        head = head_of(record.value)
        scenario = self.accounts.known(head.scenario)
        due_ms = None if head.timeout_ms is None else record.timestamp_ms + head.timeout_ms
        if record.offset >= self._counted:
            self._miss(record.offset)
            self._counted = record.offset + 1
            self.accounts.of(scenario).asked += 1
        if record.offset not in self._settled:
            self._hold(scenario, record.offset, record.timestamp_ms)
            self._deadlines.expect(record.offset, due_ms)
        elif record.offset in self._letters:
            self._deadlines.expect(record.offset, due_ms)
        elif self._deadlines.was_late(record.offset, due_ms):
            self.accounts.of(scenario).late += 1

    def _miss(self, offset: int) -> None:
        """No record came of what lies between the last request and this offset."""
        deleted = min(offset, self._first_kept) - self._counted
        if deleted > 0:
            self.accounts.of(UNREAD).asked += deleted
            self._counted += deleted
        if self._counted < offset:
            self.absent += offset - self._counted
            self._settled.add(range(self._counted, offset))
            self._counted = offset

    def _settle(self, fates: Sequence[Fate]) -> None:
        new = self._settled.add([fate.offset for fate in fates])
        for fate, is_new in zip(fates, new.tolist(), strict=True):
            if fate.is_served:
                self.served_ms, self.worker = fate.heard_ms, fate.worker
            scenario = self.accounts.known(fate.scenario)
            if is_new:
                self._end(fate, scenario)
                self._drop(scenario, fate.offset)
                if fate.offset < self._expired_below:
                    self.accounts.unexpire(scenario)
            elif fate.outcome != DEAD_LETTERED and fate.offset in self._letters:
                # An answer is what its caller sees; which of the two topics is read first must not matter.
                self.accounts.of(self._letters.pop(fate.offset)).add(DEAD_LETTERED, -1)
                self._end(fate, scenario)
                self.repeated += 1
            elif fate.offset >= max(self.start, self._first_kept):
                self.repeated += 1
        if self._settled.pages > EXPIRED_PAGES_MAX:
            self._settled.forget_below(self._expired_below)
        if self._settled.size > SETTLED_BYTES_MAX:
            self._give_up()

    def _end(self, fate: Fate, scenario: str) -> None:
        account = self.accounts.of(scenario)
        account.add(fate.outcome)
        if fate.outcome == DEAD_LETTERED:
            self._remember(fate.offset, scenario)
        elif fate.outcome != ANSWERED:
            self._deadlines.forget(fate.offset)
        elif fate.offset >= self._read:
            self._deadlines.note_early(fate.offset, fate.at_ms)
        elif self._deadlines.is_late(fate.offset, fate.at_ms):
            account.late += 1

    def _give_up(self) -> None:
        while self._settled.size > SETTLED_BYTES_MAX:
            self.given_up += self._settled.bound(self._settled.pages - 1)
        for scenario in list(self._held):
            for offset in [one for one in self._held[scenario] if one < self._settled.watermark]:
                self._drop(scenario, offset)
                self._deadlines.forget(offset)

    def _remember(self, offset: int, scenario: str) -> None:
        self._letters[offset] = scenario
        if len(self._letters) > LETTERS_MAX:
            oldest = next(iter(self._letters))
            del self._letters[oldest]
            self._deadlines.forget(oldest)

    def _hold(self, scenario: str, offset: int, ms: int) -> None:
        self._held.setdefault(scenario, {})[offset] = ms
        self._held_count += 1

    def _drop(self, scenario: str, offset: int) -> None:
        if offset in self._held.get(scenario, ()):
            name = scenario
        else:  # not read yet; or an answer that names another scenario than its request
            found = next((name for name, held in self._held.items() if offset in held), None)
            if found is None:
                return
            name = found
        del self._held[name][offset]
        self._held_count -= 1
        if not self._held[name]:
            del self._held[name]

    def _told(self, name: str) -> ScenarioOwed:
        held, account = self._held.get(name), self.accounts.peek(name)
        offset, ms = next(iter(held.items())) if held else (None, None)
        return ScenarioOwed(scenario=name, **asdict(account), owed=len(held or ()), oldest_ms=ms, oldest_offset=offset)
