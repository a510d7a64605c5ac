"""The history that stage 2 stored: scored metrics of windows, read from ClickHouse in the order of time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from stream_jobs.history.reading import Batch

SLICE_MS = 20 * 60_000
"""Time that one query asks for: 10,000 series of three metrics have 3.6 million rows in it, and a day 260 million."""
WINDOWS = """
SELECT concat(metric, ' of ', scenario, '/', model, '/', model_version) AS series,
    toUnixTimestamp64Milli(window_end) AS at_ms, actual
FROM window_scores
WHERE window_end >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
    AND window_end < fromUnixTimestamp64Milli({to:Int64}, 'UTC')
    AND metric IN {metrics:Array(String)}
ORDER BY at_ms, series
"""
FIRST = """
SELECT toUnixTimestamp64Milli(min(window_end)) AS first_ms, count() AS n
FROM window_scores WHERE window_end >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')
"""


class Tables(Protocol):
    """What is asked: see `infra.ports.TableReader.query`."""

    def query(self, sql: str, parameters: dict[str, Any] | None = None) -> tuple[Any, list[tuple[Any, ...]]]:
        """Column names and rows. Raises RetryLater, ValueError."""
        ...


class StoredWindows:
    """Batches of the values that were scored from `begin_ms` to `end_ms`, a series for each metric of a series."""

    def __init__(self, tables: Tables, metrics: Sequence[str], begin_ms: int, end_ms: int) -> None:
        self._tables, self._metrics = tables, list(metrics)
        self._begin_ms, self._end_ms = begin_ms, end_ms
        self.done_share = 0.0
        """How much of the time was read, 0 to 1."""

    def __iter__(self) -> Iterator[Batch]:
        """Raises RetryLater and ValueError as a query does."""
        (found,) = self._tables.query(FIRST, {"from": self._begin_ms})[1]
        begin_ms = max(self._begin_ms, int(found[0])) if found[1] else self._end_ms
        for start_ms in range(begin_ms, self._end_ms, SLICE_MS):
            to_ms = min(start_ms + SLICE_MS, self._end_ms)
            rows = self._tables.query(WINDOWS, {"from": start_ms, "to": to_ms, "metrics": self._metrics})[1]
            if rows:
                yield _batch(rows)
            self.done_share = (to_ms - begin_ms) / (self._end_ms - begin_ms)
        self.done_share = 1.0


def _batch(rows: Sequence[tuple[Any, ...]]) -> Batch:
    series, times, values = zip(*rows, strict=True)
    return Batch(
        series=pa.array(series, type=pa.string()),
        time=pa.array(times, type=pa.int64()),
        time_ms=np.array(times, dtype=np.float64),
        values=np.array(values, dtype=np.float64)[:, None],
    )
