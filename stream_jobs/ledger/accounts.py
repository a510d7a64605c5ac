"""What was counted of the requests of one partition, by scenario; of what was deleted unread, under `UNREAD`. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import asdict, dataclass, fields
from typing import Self

from schemas.owed import OTHER, SCENARIOS_MAX, UNREAD


@dataclass(slots=True)
class Account:
    """What was counted of one scenario, in requests."""

    asked: int = 0
    answered: int = 0
    failed: int = 0
    shed: int = 0
    dead_lettered: int = 0
    expired: int = 0
    late: int = 0
    """Of the answered: after the request's deadline."""

    def add(self, outcome: str, count: int = 1) -> None:
        """So many more with this outcome."""
        setattr(self, outcome, getattr(self, outcome) + count)


class Accounts:
    """An account for each of at most `SCENARIOS_MAX` scenarios."""

    def __init__(self, accounts: dict[str, Account] | None = None) -> None:
        self._accounts = {} if accounts is None else accounts

    def known(self, scenario: str) -> str:
        """The name under which this scenario is counted."""
        full = len(self._accounts) >= SCENARIOS_MAX - 2
        return OTHER if full and scenario not in self._accounts else scenario

    def names(self) -> Set[str]:
        """Those that have an account."""
        return self._accounts.keys()

    def of(self, name: str) -> Account:
        """The account, made when it is the first time."""
        return self._accounts.setdefault(name, Account())

    def peek(self, name: str) -> Account:
        """The account; an empty one that is not kept where there is none."""
        return self._accounts.get(name, Account())

    def unexpire(self, name: str) -> None:
        """A request that counted as expired has an end after all: it was this scenario's, or one that was never read,
        or the answer names another scenario than its request did."""
        own, unread = self.peek(name), self.peek(UNREAD)
        counted = next((one for one in (own, unread, *self._accounts.values()) if one.expired), None)
        if counted is not None:
            counted.expired -= 1

    def rows(self) -> dict[str, list[int]]:
        """The numbers of each, for the state."""
        return {name: list(asdict(one).values()) for name, one in self._accounts.items()}

    @classmethod
    def from_rows(cls, rows: Mapping[str, Sequence[int]]) -> Self:
        """What `rows` gave; one of before has no `late`. Raises ValueError for one without all of its numbers."""
        counts = len(fields(Account))
        if any(len(row) not in (counts - 1, counts) for row in rows.values()):
            raise ValueError("an account without all of its numbers")
        return cls({name: Account(*row) for name, row in rows.items()})
