"""Rows for the tables, collected column by column in the tables' own order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.columns import Column
from schemas.tables import Table


class RowBuilder:
    """Rows of one table. Times are epoch milliseconds, as DateTime64(3) columns take them."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._columns: dict[str, list[Any]] = {name: [] for name in table.column_names}
        self._count = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """One row; exactly the table's columns."""
        if len(row) != len(self._columns):
            raise KeyError(f"{self.table.name}: {set(row) ^ set(self._columns)}")
        for name, values in self._columns.items():
            values.append(row[name])
        self._count += 1

    def into(self, rows: dict[str, dict[str, Column]]) -> None:
        """Put the columns into an effect's rows, when there are any."""
        if self._count:
            rows[self.table.name] = dict(self._columns)
