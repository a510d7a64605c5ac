"""One request partition's book: asked = answered + failed + shed + dead-lettered + expired + owed, by scenario.

Pure: a fold over the records of three topics. In which order those of different topics come changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import orjson

from infra.offset_set import OffsetSet
from infra.ports import Record
from infra.up.request_heads import scenario_of
from infra.up.traffic import REQUEST_DEAD_LETTERS
from schemas.owed import OTHER, SCENARIOS_MAX, UNREAD, PartitionOwed, ScenarioOwed
from schemas.topics import PREDICTIONS, REQUESTS
from stream_jobs.ledger.fates import DEAD_LETTERED, EXPIRED, Fate, fate_of_dead_letter, fate_of_prediction

HELD_MAX = 20_000
"""Owed requests of a partition known one by one; about 150 bytes each. No more are read while so many wait."""
HELD_SAVED = 2_000
"""Of them in the state; the others are read again after a restart."""
LETTERS_MAX = 1_000
"""Dead-lettered offsets remembered, the last: an answer that one of them has too counts instead."""
SETTLED_BYTES_MAX = 200_000
"""The settled offsets must fit a state page. 1 KB for 8,192 of them with holes between, 9 bytes without."""
FORMAT = 1
_BOOK, _SETTLED = "book", "settled"


@dataclass(slots=True)
class Account:
    """What was counted of one scenario, in requests."""

    asked: int = 0
    answered: int = 0
    failed: int = 0
    shed: int = 0
    dead_lettered: int = 0
    expired: int = 0

    def add(self, outcome: str, count: int = 1) -> None:
        """So many more with this outcome."""
        setattr(self, outcome, getattr(self, outcome) + count)


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
        self.accounts: dict[str, Account] = {}
        self.absent = self.repeated = self.given_up = 0
        """Offsets without a request; answers to what had one; owed offsets that count as settled, for want of room."""
        self.served_ms: int | None = None
        self.worker = ""
        self._first_kept = start.requests
        self._read = self._counted = start.requests
        self._predictions, self._dead_letters = start.predictions, start.dead_letters
        self._settled = OffsetSet(start.requests)
        self._held: dict[str, dict[int, int]] = {}
        self._held_count = 0
        self._letters: dict[int, str] = {}

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
                fate = fate_of_prediction(record, self.cluster_id, self.topic_id)
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

    def expire(self) -> None:
        """What the log no longer holds and has no end is expired. To be called when all answers are read."""
        first = self._first_kept
        if first <= self._settled.watermark and first <= self._counted:
            return
        self._miss(first)
        for scenario in list(self._held):
            gone = [offset for offset in self._held[scenario] if offset < first]
            for offset in gone:
                self._drop(scenario, offset)
            if gone:
                self._settled.add(gone)
                self._account(scenario).add(EXPIRED, len(gone))
        # What is left was never read, or not again since a restart.
        unread = self._settled.forget_below(first)
        if unread:
            self._account(UNREAD).add(EXPIRED, unread)
        self._read = max(self._read, first)

    def told(self, epoch: int, end: int) -> PartitionOwed:
        """The account for others. `end`: the request topic's next offset."""
        names = self.accounts.keys() | self._held.keys()
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
            # Owed requests that are not read again since the last restart lie from `_read` on.
            "read": min(self._read, left[0][0]) if left else self._read,
            "counts": [self.absent, self.repeated, self.given_up],
            "served": [self.served_ms, self.worker],
            "accounts": {name: list(asdict(one).values()) for name, one in self.accounts.items()},
            "held": saved,
            "letters": list(self._letters.items()),
        }
        return {_BOOK: orjson.dumps(book), _SETTLED: self._settled.to_bytes()}

    def restore(self, pages: Mapping[str, bytes]) -> None:
        """Take over what `pages` gave. Raises ValueError when it is broken."""
        try:
            self._restore(orjson.loads(pages[_BOOK]), OffsetSet.from_bytes(pages[_SETTLED]))
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(f"ledger of partition {self.partition}: {error!r}") from error

    def _restore(self, book: dict[str, Any], settled: OffsetSet) -> None:
        numbers = [*book["numbers"], book["read"], *book["counts"]]
        if book["format"] != FORMAT or any(type(one) is not int or one < 0 for one in numbers):
            raise ValueError(f"ledger of partition {self.partition}: not a book of format {FORMAT}")
        self.start, self._first_kept, self._counted, self._predictions, self._dead_letters = book["numbers"]
        self._read, (self.absent, self.repeated, self.given_up) = book["read"], book["counts"]
        self.served_ms, self.worker = book["served"]
        counts = len(fields(Account))
        if any(len(row) != counts for row in book["accounts"].values()):
            raise ValueError(f"ledger of partition {self.partition}: an account without all of its numbers")
        self.accounts = {name: Account(*row) for name, row in book["accounts"].items()}
        self._settled, self._held, self._held_count = settled, {}, 0
        for offset, ms, name in book["held"]:
            self._hold(name, offset, ms)
        self._letters = dict(book["letters"])

    def _ask(self, record: Record) -> None:
        if record.offset < self._read:
            return
        self._read = record.offset + 1
        scenario = self._known(scenario_of(record.value))
        if record.offset >= self._counted:
            self._miss(record.offset)
            self._counted = record.offset + 1
            self._account(scenario).asked += 1
        if record.offset not in self._settled:
            self._hold(scenario, record.offset, record.timestamp_ms)

    def _miss(self, offset: int) -> None:
        """No record came of what lies between the last request and this offset."""
        deleted = min(offset, self._first_kept) - self._counted
        if deleted > 0:
            self._account(UNREAD).asked += deleted
            self._counted += deleted
        if self._counted < offset:
            self.absent += offset - self._counted
            self._settled.add(range(self._counted, offset))
            self._counted = offset

    def _settle(self, fates: Sequence[Fate]) -> None:
        new = self._settled.add([fate.offset for fate in fates])
        for fate, is_new in zip(fates, new.tolist(), strict=True):
            if fate.is_served and (self.served_ms is None or fate.at_ms >= self.served_ms):
                self.served_ms, self.worker = fate.at_ms, fate.worker
            scenario = self._known(fate.scenario)
            if is_new:
                self._account(scenario).add(fate.outcome)
                self._drop(scenario, fate.offset)
                if fate.outcome == DEAD_LETTERED:
                    self._remember(fate.offset, scenario)
            elif fate.outcome != DEAD_LETTERED and fate.offset in self._letters:
                # An answer is what its caller sees; which of the two topics is read first must not matter.
                self._account(self._letters.pop(fate.offset)).add(DEAD_LETTERED, -1)
                self._account(scenario).add(fate.outcome)
                self.repeated += 1
            elif fate.offset >= max(self.start, self._first_kept):
                self.repeated += 1
        if self._settled.size > SETTLED_BYTES_MAX:
            self._give_up()

    def _give_up(self) -> None:
        while self._settled.size > SETTLED_BYTES_MAX:
            self.given_up += self._settled.bound(self._settled.pages - 1)
        for scenario in list(self._held):
            for offset in [one for one in self._held[scenario] if one < self._settled.watermark]:
                self._drop(scenario, offset)

    def _remember(self, offset: int, scenario: str) -> None:
        self._letters[offset] = scenario
        if len(self._letters) > LETTERS_MAX:
            del self._letters[next(iter(self._letters))]

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

    def _known(self, scenario: str) -> str:
        full = len(self.accounts) >= SCENARIOS_MAX - 2
        return OTHER if full and scenario not in self.accounts else scenario

    def _account(self, scenario: str) -> Account:
        return self.accounts.setdefault(scenario, Account())

    def _told(self, name: str) -> ScenarioOwed:
        held, account = self._held.get(name), self.accounts.get(name, Account())
        offset, ms = next(iter(held.items())) if held else (None, None)
        return ScenarioOwed(scenario=name, **asdict(account), owed=len(held or ()), oldest_ms=ms, oldest_offset=offset)
