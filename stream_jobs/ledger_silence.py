"""Whose silence it is: what a scenario's partitions owe, and for how long those who should answer them have not. Pure.

The books say who answered last, not who owns a partition now. What of it is held against whom is decided here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from stream_jobs.ledger_triggers import LedgerPolicy, Owed, still_seconds

OWNER_WINDOWS = 6
"""Who answered nothing for so long before the oldest owed request was asked may have left since."""
PROMPT_SHARE = 0.5
"""A worker is prompt while nothing of what it answers waits for longer than this share of what makes a stall."""


@dataclass(slots=True)
class Book:
    """What was last said of a request partition. `still_ms`: since its last answer, as far as it was heard."""

    topic_id: str
    epoch: int
    heard_ms: int
    served_ms: int = -1
    still_ms: int = 0
    worker: str = ""
    next_offset: int = 0
    before: str = ""
    """Who answered before `worker`."""
    moved_ms: int = 0
    """Since `worker` answered here first, as far as it was heard."""
    owed: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    """By scenario: how many, when the oldest was appended, and its offset. Scenarios that owe nothing have 0."""

    @property
    def count(self) -> int:
        """How many are owed, of all scenarios."""
        return sum(count for count, _, _ in self.owed.values())

    def oldest_ms(self, now_ms: int) -> int:
        """How long the oldest of all scenarios waits; 0 where nothing is owed."""
        return max((max(0, now_ms - ms) for count, ms, _ in self.owed.values() if count), default=0)


Books = Mapping[int, Book]
"""By partition."""


@dataclass(frozen=True, slots=True)
class Look:
    """One scenario at one moment: what all owe, and what those owe who stand still the longest. `worker` is who, empty
    where it is not known, on the partitions of `books`."""

    all: Owed
    still: Owed
    worker: str
    books: Books


def look_at(scenario: str, fresh: Books, now_ms: int, policy: LedgerPolicy, window_ms: int) -> Look | None:
    """Of the books that were heard of lately; None where none of them knows the scenario."""
    if not any(scenario in book.owed for book in fresh.values()):
        return None
    owing = {number: book for number, book in fresh.items() if book.owed.get(scenario, (0,))[0]}
    if not owing:
        return Look(Owed(0, 0.0, 0.0), Owed(0, 0.0, 0.0), "", {})
    groups: list[tuple[float, str, Books, Owed]] = []
    for worker in sorted({book.worker for book in owing.values()}):
        books = {number: book for number, book in owing.items() if book.worker == worker}
        still_ms = min(book.still_ms for book in fresh.values() if book.worker == worker)
        owed = _owed(scenario, books, _forgiven(worker, still_ms, fresh, now_ms, policy), now_ms)
        before_ms = still_ms - round(1000 * owed.oldest_seconds)
        if not worker or before_ms > OWNER_WINDOWS * window_ms:
            # Who owns these partitions now is not known: then anybody's answer is a sign of life.
            owed = _owed(scenario, books, min(book.still_ms for book in fresh.values()), now_ms)
        groups.append((still_seconds(owed), worker, books, owed))
        if left := _left_alone(worker, books, fresh, now_ms, policy):
            owed = _owed(scenario, left, min(book.still_ms for book in left.values()), now_ms)
            groups.append((still_seconds(owed), "", left, owed))
    _, silent, where, still = max(groups, key=lambda one: one[0])
    everything = _owed(scenario, owing, round(1000 * (still.answer_seconds or 0.0)), now_ms)
    if all(book.served_ms < 0 for book in fresh.values()):
        everything = replace(everything, answer_seconds=None)
    return Look(everything, still, silent, where)


def _owed(scenario: str, books: Books, still_ms: int, now_ms: int) -> Owed:
    oldest_ms = min(book.owed[scenario][1] for book in books.values())
    count = sum(book.owed[scenario][0] for book in books.values())
    return Owed(count, max(0, now_ms - oldest_ms) / 1000, still_ms / 1000)


def _forgiven(worker: str, still_ms: int, fresh: Books, now_ms: int, policy: LedgerPolicy) -> int:
    """How much of a worker's silence is held against it.

    When another has begun to answer a partition of its since, the group has dealt them out anew, and what is left of
    them may be others' by now. Where these are late their turn comes late, too: the silence counts from there then, but
    no more than what makes a stall is forgiven. Who is not late would have answered them at once.
    """
    moved = [book.moved_ms for book in fresh.values() if book.before == worker and book.moved_ms < still_ms]
    others = [book for book in fresh.values() if book.worker != worker]
    limit_ms = round(1000 * policy.stall_seconds)
    answer = any(book.still_ms < limit_ms for book in others)
    late = max((book.oldest_ms(now_ms) for book in others), default=0) > 1000 * policy.lag_seconds
    return max(min(moved), still_ms - limit_ms) if moved and answer and late else still_ms


def _left_alone(worker: str, books: Books, fresh: Books, now_ms: int, policy: LedgerPolicy) -> Books:
    """Those of a worker's last partitions that it owns no more, as it seems: it answers its others promptly, and many
    requests have waited here for long. Who owns them now has never answered."""
    limit_ms = round(1000 * policy.stall_seconds)
    answered = [book for book in fresh.values() if book.worker == worker and book.still_ms < limit_ms]
    if not answered or max(book.oldest_ms(now_ms) for book in answered) > PROMPT_SHARE * limit_ms:
        return {}
    return {
        number: book
        for number, book in books.items()
        if book.still_ms >= limit_ms and book.oldest_ms(now_ms) >= limit_ms and book.count >= policy.lag_owed_min
    }
