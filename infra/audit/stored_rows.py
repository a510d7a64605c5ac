"""Rows as readers see them, read in blocks of request offsets: identity, source and fingerprint, not the content."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from infra.audit import fingerprint
from infra.audit.expected_rows import COMPARED
from infra.audit.rows import Seen
from infra.ports import TableReader
from schemas import tables

BLOCK_OFFSETS = 65_536
"""Offsets asked for at once: about 20 MB while the answer is read."""
OUTSIDE_MAX = 1_000
_OF_REQUESTS = "cluster_id = {cluster:String} AND topic_id = {topic:String}"


@dataclass(frozen=True, slots=True)
class RowReader:
    """Reads the rows of one request topic. `view` is what readers use; each method raises as `TableReader.query`."""

    reader: TableReader
    cluster_id: str
    topic_id: str
    view: str = tables.REQUESTS.view

    def span(self, partition: int, first: int, after: int) -> Seen:
        """The rows of these offsets, in order."""
        blocks = [
            self._block(partition, start, min(start + BLOCK_OFFSETS, after))
            for start in range(first, after, BLOCK_OFFSETS)
        ]
        offsets, told_at, served_ms = (
            np.concatenate([np.array(block[column], dtype=np.int64) for block in blocks]) for column in (0, 1, 3)
        )
        prints = np.concatenate([np.array(block[2], dtype=np.uint64) for block in blocks])
        return Seen(offsets, told_at, prints, served_ms)

    def _block(self, partition: int, first: int, after: int) -> list[Sequence[Any]]:
        _, rows = self._ask(
            f"SELECT offset, telemetry_offset, {fingerprint.sql(COMPARED)}, toUnixTimestamp64Milli(served_at)"
            f" FROM {self.view} WHERE {_OF_REQUESTS} AND partition = {{partition:UInt32}}"
            " AND offset >= {first:UInt64} AND offset < {after:UInt64} ORDER BY offset",
            partition=partition,
            first=first,
            after=after,
        )
        return list(zip(*rows, strict=True)) if rows else [(), (), (), ()]

    def outside(self, partition: int, offsets: tuple[int, int], telemetry: tuple[int, int]) -> list[int]:
        """Offsets of rows that are not in [first, after) of `offsets`, though their telemetry is in that of
        `telemetry`; at most `OUTSIDE_MAX`, rising."""
        _, rows = self._ask(
            f"SELECT DISTINCT offset FROM {self.view} WHERE {_OF_REQUESTS} AND partition = {{partition:UInt32}}"
            " AND (offset < {first:UInt64} OR offset >= {after:UInt64})"
            " AND telemetry_offset >= {told_from:UInt64} AND telemetry_offset < {told_to:UInt64}"
            f" ORDER BY offset LIMIT {OUTSIDE_MAX}",
            partition=partition,
            first=offsets[0],
            after=offsets[1],
            told_from=telemetry[0],
            told_to=telemetry[1],
        )
        return [int(row[0]) for row in rows]

    def highest(self) -> dict[int, int]:
        """The highest offset that has a row, by partition."""
        _, rows = self._ask(f"SELECT partition, max(offset) FROM {self.view} WHERE {_OF_REQUESTS} GROUP BY partition")
        return {int(partition): int(offset) for partition, offset in rows}

    def columns(self, partition: int, offset: int) -> list[dict[str, Any]]:
        """Everything that is compared of the rows of one offset."""
        names, rows = self._ask(
            f"SELECT {', '.join(f'`{column.name}`' for column in COMPARED)}, telemetry_offset FROM {self.view}"
            f" WHERE {_OF_REQUESTS} AND partition = {{partition:UInt32}} AND offset = {{offset:UInt64}} LIMIT 10",
            partition=partition,
            offset=offset,
        )
        return [dict(zip(names, row, strict=True)) for row in rows]

    def _ask(self, sql: str, **parameters: Any) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        return self.reader.query(sql, {"cluster": self.cluster_id, "topic": self.topic_id, **parameters})
