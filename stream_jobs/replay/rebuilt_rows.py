"""Rows of a rebuild on their way to their tables, in blocks, under the run's id."""

from __future__ import annotations

from collections import defaultdict

from infra.columns import Column, joined
from infra.ports import TableWriter
from schemas.tables import REBUILT_OF


class RebuiltRows:
    """Keeps rows until there is a block of them; `flush` stores the rest. For one thread."""

    def __init__(self, writer: TableWriter, run_id: str, now_ms: int, block_rows: int) -> None:
        self._writer, self._run_id, self._now_ms, self._block_rows = writer, run_id, now_ms, block_rows
        self._parts: dict[str, list[dict[str, Column]]] = defaultdict(list)
        self._rows: dict[str, int] = defaultdict(int)
        self._blocks = 0

    def keep(self, table: str, rows: dict[str, Column]) -> None:
        """Take rows of a live table. Raises RetryLater, InvalidRecord."""
        self._parts[table].append(rows)
        self._rows[table] += len(next(iter(rows.values())))
        if self._rows[table] >= self._block_rows:
            self._store(table)

    def flush(self) -> None:
        """Store what is left. Raises RetryLater, InvalidRecord."""
        for table in list(self._parts):
            self._store(table)

    def _store(self, table: str) -> None:
        parts, count = self._parts.pop(table), self._rows.pop(table)
        columns: dict[str, Column] = {"run_id": [self._run_id] * count, "rebuilt_at": [self._now_ms] * count}
        columns |= {name: joined([part[name] for part in parts]) for name in parts[0]}
        self._blocks += 1
        self._writer.insert(REBUILT_OF[table].name, columns, token=f"{self._run_id}/{self._blocks}")
