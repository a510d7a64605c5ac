"""The table as the books see it while they are made. One that was away once is not asked again. Blocks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from infra.ports import RetryLater, TableReader, TryAgain
from infra.up.books import Books, Rows
from infra.up.differences import Difference, row_differences
from infra.up.outcomes import FirstWords
from infra.up.table_rows import count_rows


class NoTable:
    """A table that is known to be away. `query` raises TryAgain with the reason."""

    def __init__(self, why: str) -> None:
        self._why = why

    def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """See `TableReader.query`."""
        raise TryAgain(self._why)


class TableSight:
    """Asks the table about the requests of these books."""

    def __init__(self, reader: TableReader, books: Books, ends: Mapping[int, int]) -> None:
        """`ends`: offsets after the last, by partition."""
        self._reader, self._books, self._ends = reader, books, ends
        self.notes: list[str] = []
        """Why the table's rows are not known, where they are not."""

    def rows(self) -> Rows | None:
        """Rows by partition and outcome; None while the table cannot be asked."""
        if self.notes:
            return None
        try:
            books = self._books
            return count_rows(self._reader, books.cluster_id, books.topic_id, books.starts, self._ends)
        except (RetryLater, TryAgain, ValueError) as error:
            self._away(error)
            return None

    def differences(self, words: FirstWords, limit: int) -> list[Difference]:
        """See `row_differences`; none where the table cannot be asked."""
        if self.notes:
            return []
        try:
            return row_differences(self._reader, self._books, words, self._ends, limit)
        except (RetryLater, TryAgain, ValueError) as error:
            self._away(error)
            return []

    def _away(self, error: Exception) -> None:
        self.notes.append(f"the table could not be asked, this is the account of Kafka alone: {error}")
