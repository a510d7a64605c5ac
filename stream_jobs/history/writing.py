"""Scored rows as CSV or Parquet. A file is there when it is whole: it is written beside its place and moved there."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from stream_jobs.history.reading import CSV, PARQUET

QUOTED = '[",\r\n]'
"""A cell with one of these needs quotes."""


class ScoreSink:
    """Takes record batches of one schema. To be used in a `with`; what broke off leaves no file behind."""

    def __init__(self, target: Path | BinaryIO) -> None:
        """A path ending in .csv or .parquet, or a stream that gets CSV. Raises ValueError for another ending."""
        self._target = target
        self._part: Path | None = None
        self._is_parquet = False
        self._writer: Any = None
        if isinstance(target, Path):
            ending = target.suffix.lower()
            if ending not in PARQUET + CSV:
                raise ValueError(f"{target.name}: its ending must be one of {', '.join(PARQUET + CSV)}")
            self._is_parquet = ending in PARQUET
            self._part = target.with_name(f".{target.name}.{os.getpid()}.part")

    def write(self, rows: pa.RecordBatch) -> None:
        """Append rows."""
        self._opened(rows.schema).write_batch(rows)

    def finish(self, schema: pa.Schema) -> None:
        """All is written; `schema` is for a file without any rows."""
        self._opened(schema).close()
        self._writer = None
        if self._part is not None and isinstance(self._target, Path):
            self._part.replace(self._target)

    def __enter__(self) -> ScoreSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def _opened(self, schema: pa.Schema) -> Any:
        if self._writer is None:
            if self._is_parquet:
                self._writer = pa.parquet.ParquetWriter(self._part, schema)
            else:
                self._writer = _CsvWriter(self._part or self._target, schema)
        return self._writer


class _CsvWriter:
    """CSV with quotes only where a batch has a cell that needs them: Arrow's writer would quote all text."""

    def __init__(self, where: Any, schema: pa.Schema) -> None:
        self._is_ours = isinstance(where, Path)
        self._file: Any = where.open("wb") if isinstance(where, Path) else where
        self._file.write((",".join(schema.names) + "\n").encode())

    def write_batch(self, rows: pa.RecordBatch) -> None:
        columns = [one.dictionary_decode() if pa.types.is_dictionary(one.type) else one for one in rows.columns]
        style = "needed" if any(_needs_quotes(column) for column in columns) else "none"
        options = pa.csv.WriteOptions(include_header=False, quoting_style=style)
        pa.csv.write_csv(pa.RecordBatch.from_arrays(columns, names=rows.schema.names), self._file, options)

    def close(self) -> None:
        self._file.flush()
        if self._is_ours:
            self._file.close()


def _needs_quotes(column: pa.Array) -> bool:
    if not (pa.types.is_string(column.type) or pa.types.is_large_string(column.type)):
        return False
    found = pc.any(pc.match_substring_regex(column, QUOTED)).as_py()
    return bool(found)
