"""In which life of the server a block is stored: insert tokens are remembered rightly only within one.

See docs/decisions/0023-tokens-of-one-life.md.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, Protocol

from infra.ports import RetryLater

JITTER_SECONDS = 1
"""Two answers of one life differ by so much: both clocks are cut to seconds."""
BEGAN_SQL = "SELECT toUnixTimestamp(now()) - uptime()"
ENGINE_SQL = "SELECT engine FROM system.tables WHERE database = currentDatabase() AND name = {table:String}"
SHARED = ("Replicated", "Shared")
"""Engines that keep tokens together with parts, in Keeper: their tokens hold across servers and lives."""


class Query(Protocol):
    """Asks the server; see `TableReader.query`, but for the names of columns."""

    def __call__(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        """The rows."""


class ServerLife:
    """Knows since when the server runs. Thread-safe; asks with the `query` of the thread that asks."""

    def __init__(self) -> None:
        self._began: int | None = None
        self._engines: dict[str, str] = {}
        self._lock = threading.Lock()

    def token(self, query: Query, table: str, token: str) -> tuple[str, int | None]:
        """The token to send for a block, and the life of the server that it holds for; None: for all. Raises as
        `query`."""
        if self._engine(query, table).startswith(SHARED):
            return token, None
        began = self._look(query) if self._began is None else self._began  # one of before is found out by `check`
        return f"{token}@{began}", began

    def check(self, query: Query, table: str, life: int | None) -> None:
        """After an insert that was answered well. Raises RetryLater when the server is in another life: the block may
        then have been taken for one that was stored. Raises as `query`."""
        if life is not None and self._look(query) != life:
            raise RetryLater(
                f"{table}: ClickHouse was started again since the last block: this one is stored once more"
            )

    def _look(self, query: Query) -> int:
        (row,) = query(BEGAN_SQL)
        began = int(row[0])
        with self._lock:
            if self._began is None or abs(began - self._began) > JITTER_SECONDS:
                self._began = began
            return self._began

    def _engine(self, query: Query, table: str) -> str:
        if table not in self._engines:
            found = query(ENGINE_SQL, {"table": table})
            if not found:
                return ""  # the insert says that there is no such table
            self._engines[table] = str(found[0][0])
        return self._engines[table]
