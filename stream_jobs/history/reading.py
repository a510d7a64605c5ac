"""A file of history, Parquet or CSV, in batches of bounded size, in the file's order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from numpy.typing import NDArray

from stream_jobs.history.cells import Floats, TimeReader, is_number, mostly_numbers, numbers, readable
from stream_jobs.history.columns import VALUE, Columns, choose
from stream_jobs.history.counters import Counters

BATCH_ROWS = 500_000
CSV_BLOCK_BYTES = 16_000_000
EXAMPLES_MAX = 20
PARQUET, CSV = (".parquet", ".pq"), (".csv", ".txt")


class UnreadableFile(ValueError):
    """Not Parquet and not CSV, or damaged as a whole."""


@dataclass
class Broken:
    """Rows with something that cannot be read: how many by reason, and the first of them."""

    reasons: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """All of them."""
        return sum(self.reasons.values())

    def add(self, where: str, reason: str, detail: str) -> None:
        """Count a row."""
        self.reasons[reason] += 1
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append(f"{where}: {detail[:200]}")


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows in the file's order."""

    series: pa.Array
    """As it is in the file; text for CSV."""
    time: pa.Array
    """As it is in the file; text for CSV."""
    time_ms: Floats
    """(n,) NaN: no usable time."""
    values: Floats
    """(n, metrics) NaN: no usable value. Of counters increases a second."""


class HistoryFile:
    """A file to score. Iterating reads it once, from its start; `broken` is about the last time."""

    def __init__(self, path: Path, metrics: Sequence[str] = (), counters: Sequence[str] = ()) -> None:
        """Looks at the columns. `counters` are metrics that are read as what they grow by in a second, see `Counters`.

        Raises UnreadableFile, MissingColumns.
        """
        self.path, self.counters = path, tuple(dict.fromkeys(counters))
        self.broken = Broken()
        self.done_share = 0.0
        """How much of the file was read, 0 to 1; with a batch in hand, that batch included."""
        ending = path.suffix.lower()
        if ending not in PARQUET + CSV:
            raise UnreadableFile(f"{path.name}: its ending must be one of {', '.join(PARQUET + CSV)}")
        self._is_parquet = ending in PARQUET
        try:
            schema = self._schema()
        except (pa.ArrowException, OSError) as error:
            kind = "Parquet" if self._is_parquet else "CSV"
            raise UnreadableFile(f"{path.name} cannot be read as {kind}: {_first_line(error)}") from None
        # Text is read as numbers only where it was asked for.
        wanted = (*metrics, *self.counters)
        numeric = [one.name for one in schema if is_number(one.type) or one.name in (VALUE, *wanted)]
        self.columns: Columns = choose(schema.names, numeric, wanted)
        self._growth = self._new_growth()
        self.types = (pa.string(), pa.string())
        if self._is_parquet:
            self.types = (schema.field(self.columns.series).type, schema.field(self.columns.time).type)

    def __iter__(self) -> Iterator[Batch]:
        self.broken, self.done_share, self._growth = Broken(), 0.0, self._new_growth()
        times = TimeReader()
        try:
            for table, where in self._parquet() if self._is_parquet else self._csv():
                yield self._batch(table, where, times)
        except (pa.ArrowException, OSError) as error:
            raise UnreadableFile(f"{self.path.name} is damaged: {_first_line(error)}") from None
        self.done_share = 1.0

    def _batch(self, table: pa.RecordBatch, where: NDArray[np.int64], times: TimeReader) -> Batch:
        word = "row" if self._is_parquet else "line"
        series, time = (readable(table.column(name)) for name in (self.columns.series, self.columns.time))
        time_ms, without_time = times.read(time)
        broken: dict[int, tuple[str, str]] = {}
        for row in without_time:
            broken[row] = ("no time", f"{self.columns.time} {_shown(time[row])} is not a time")
        values = np.empty((len(table), len(self.columns.metrics)))
        for number, name in enumerate(self.columns.metrics):
            column = readable(table.column(name))
            values[:, number], bad = numbers(column)
            for row in bad:
                broken.setdefault(row, ("no number", f"{name} {_shown(column[row])} is not a number"))
        for row in np.flatnonzero(series.is_null().to_numpy(zero_copy_only=False)).tolist():
            broken[row] = ("no series", "the series is missing")
            time_ms[row] = np.nan
        for row, (reason, detail) in sorted(broken.items()):
            self.broken.add(f"{word} {where[row]}", reason, detail)
        return Batch(series, time, time_ms, self._growth.increases(series, time_ms, values))

    def restarts(self) -> dict[str, int]:
        """How often each counter fell, over all series read so far."""
        found = self._growth.restarts()
        return {name: found[self.columns.metrics.index(name)] for name in self.counters}

    def _new_growth(self) -> Counters:
        return Counters([self.columns.metrics.index(name) for name in self.counters])

    def _schema(self) -> Any:
        if self._is_parquet:
            return pa.parquet.read_schema(self.path)
        with pa.csv.open_csv(self.path, parse_options=_skipping(lambda row: None)) as reader:
            names = reader.schema.names
        text = pa.csv.ConvertOptions(check_utf8=False, column_types=dict.fromkeys(names, pa.string()))
        with pa.csv.open_csv(self.path, parse_options=_skipping(lambda row: None), convert_options=text) as reader:
            first = next(iter(reader), None)
        kinds = [pa.float64() if first and mostly_numbers(column) else pa.string() for column in first or ()]
        return pa.schema(list(zip(names, kinds or [pa.string()] * len(names), strict=True)))

    def _parquet(self) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
        with pa.parquet.ParquetFile(self.path) as file:
            rows, at = max(1, file.metadata.num_rows), 0
            for batch in file.iter_batches(BATCH_ROWS, columns=self.columns.all):
                at += len(batch)
                self.done_share = at / rows
                yield batch, np.arange(at + 1 - len(batch), at + 1)

    def _csv(self) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64]]]:
        """Batches of text, and the line of each row. Lines with too few or too many fields are counted and left out."""
        skipped: list[int] = []

        def skip(row: Any) -> None:
            fields = f"{row.actual_columns} fields and not {row.expected_columns}"
            self.broken.add(f"line {row.number}", "fields", f"{fields}: {row.text[:80]}")
            skipped.append(row.number)

        size = max(1, self.path.stat().st_size)
        with self.path.open("rb") as raw, pa.csv.open_csv(
            raw,
            read_options=pa.csv.ReadOptions(use_threads=False, block_size=CSV_BLOCK_BYTES),
            parse_options=_skipping(skip),
            convert_options=pa.csv.ConvertOptions(
                check_utf8=False,  # one bad letter is no reason to give a file up
                column_types=dict.fromkeys(self.columns.all, pa.string()),
                include_columns=self.columns.all,
            ),
        ) as reader:  # fmt: skip
            line = 2
            for batch in reader:
                lines = np.setdiff1d(np.arange(line, line + len(batch) + len(skipped)), skipped)[: len(batch)]
                line = int(lines[-1]) + 1 if len(lines) else line
                there = np.zeros(len(batch), dtype=np.bool_)
                for column in batch.columns:  # a row of nothing is an empty line
                    there |= pa.compute.not_equal(column, "").to_numpy(zero_copy_only=False)
                self.done_share = min(1.0, raw.tell() / size)
                yield batch.filter(pa.array(there)), lines[there]


def _skipping(skip: Any) -> Any:
    def handle(row: Any) -> str:
        skip(row)
        return "skip"

    return pa.csv.ParseOptions(ignore_empty_lines=False, invalid_row_handler=handle)


def _shown(cell: Any) -> str:
    value = cell.as_py()
    return "is missing and" if value is None else repr(value)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
