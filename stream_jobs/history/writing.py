"""Scored rows as CSV or Parquet. A file is there when it is whole: it is written beside its place and moved there."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from stream_jobs.history.reading import CSV, PARQUET


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
        if self._part is not None:
            self._part.unlink(missing_ok=True)

    def _opened(self, schema: pa.Schema) -> Any:
        if self._writer is None:
            where = self._part if self._part is not None else self._target
            if self._is_parquet:
                self._writer = pa.parquet.ParquetWriter(where, schema)
            else:
                plain = pa.csv.WriteOptions(quoting_style="needed")
                self._writer = pa.csv.CSVWriter(where, schema, write_options=plain)
        return self._writer
