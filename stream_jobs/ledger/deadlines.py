"""Which answers of one request partition came after the deadline of their request. Pure.

Times are append times: a request with a timeout is due so long after it was appended, and an answer is given when it is
appended. Which of the two topics is read first changes nothing, up to a bound.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Self

import orjson

EARLY_MAX = 5_000
"""Answers that were read before their requests, the last: beyond, one may be late and is not counted so."""


class Deadlines:
    """Remembers when owed requests are due, and when answers were given to requests that are not read yet.

    Memory: 100 bytes each; no more requests than the book holds, and `EARLY_MAX` answers.
    """

    def __init__(self) -> None:
        self._due: dict[int, int] = {}
        self._early: dict[int, int] = {}

    def expect(self, offset: int, due_ms: int | None) -> None:
        """A request without an answer was read, which is due then; None: whenever."""
        if due_ms is not None:
            self._due[offset] = due_ms

    def is_late(self, offset: int, at_ms: int) -> bool:
        """Whether the first answer to a request that was read came after its deadline."""
        return at_ms > self._due.pop(offset, at_ms)

    def note_early(self, offset: int, at_ms: int) -> None:
        """The first answer to a request came that is not read yet."""
        self._early[offset] = at_ms
        if len(self._early) > EARLY_MAX:
            del self._early[next(iter(self._early))]

    def was_late(self, offset: int, due_ms: int | None) -> bool:
        """A request was read whose answer was read before: whether that came after the deadline."""
        at_ms = self._early.pop(offset, None)
        return at_ms is not None and due_ms is not None and at_ms > due_ms

    def forget(self, offset: int) -> None:
        """No answer to this request counts any more."""
        self._due.pop(offset, None)

    def forget_below(self, offset: int) -> None:
        """Nor to any before this one."""
        self._due = {at: ms for at, ms in self._due.items() if at >= offset}
        self._early = {at: ms for at, ms in self._early.items() if at >= offset}

    def to_bytes(self, held: Collection[int]) -> bytes:
        """The state; of the requests only those in `held`, the others are read again."""
        due = [[offset, ms] for offset, ms in sorted(self._due.items()) if offset in held]
        return orjson.dumps({"due": due, "early": list(self._early.items())})

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self:
        """Read one back. Raises ValueError when the bytes are not those of `to_bytes`."""
        self = cls()
        try:
            found: dict[str, Any] = orjson.loads(raw)
            self._due = {int(offset): int(ms) for offset, ms in found["due"]}
            self._early = {int(offset): int(ms) for offset, ms in found["early"]}
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"no deadlines: {error!r}") from error
        return self
