"""A partition's book with its owner's hold on its state; and what the ledger's thread has done, for who watches it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from infra.ports import Place
from schemas.topics import REQUESTS
from stream_jobs.ledger.partition_ledger import PartitionLedger
from stream_jobs.stall_watch import Progress
from stream_jobs.state_log import PartitionState


@dataclass(slots=True)
class Book:
    """One partition's. `end`: the request log's, as far as known; `paused`: it owes too many to read more requests."""

    ledger: PartitionLedger
    state: PartitionState
    end: int = 0
    paused: bool = False

    def is_at(self, ends: Mapping[Place, int]) -> bool:
        """Whether it has read all below these ends, but for requests while it is paused."""
        return all(
            offset >= ends.get(place, 0) or (self.paused and place[0] == REQUESTS.name)
            for place, offset in self.ledger.positions.items()
        )


def positions(books: Iterable[Book]) -> dict[Place, int]:
    """Where to read on; of the dead letters, which are of all partitions, where the first book needs it."""
    found: dict[Place, int] = {}
    for book in books:
        for place, offset in book.ledger.positions.items():
            found[place] = min(offset, found.get(place, offset))
    return found


@dataclass(slots=True)
class Doings:
    """Written by the ledger's thread, read by any other."""

    rounds: int = 0
    """Times that all was done which was due. One that failed, because Kafka was away, is none."""
    taken_over: int = 0
    is_member: bool = False
    """Whether the group has told it its partitions."""

    def progress(self, books: int) -> Progress:
        """For a `StallWatch`. Rounds are made while nothing comes, too: there is something to do while there is a book
        to keep or to take over."""
        return Progress(self.rounds + self.taken_over, books, self.is_member, is_waiting=False, what="books")
