"""The only door to chDB, the ClickHouse engine as a library: one engine per process and folder, cheap connections.

Does not know HTTP. Measured: the engine releases the interpreter lock while it works, a connection costs 0.1 ms, and
a connection whose query failed half-way puts the rows it had made in front of the next answer. So a connection
serves one statement, or one session, and an error ends it.
"""

from __future__ import annotations

import os
import re
import tempfile
import threading
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from infra.embedded import clickhouse_confinement
from infra.embedded.clickhouse_statement import quote_name, quote_string

UNKNOWN_ERROR = 1002
_CODE = re.compile(r"Code: (\d+)\. DB::Exception: ")
_WRAPPED = re.compile(r"^(?:Streaming [a-z ]+failed: )?(?:Code: \d+\. DB::Exception: (?=Code: \d+\. DB::Exception: ))*")
_NO_STREAM = "Streaming query is not supported"


class EngineError(Exception):
    """The engine refused or failed a statement. `code` is ClickHouse's error number; the text is as its server's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class EngineLimits:
    """Memory of the engine, bytes. A statement above its share fails with error 241 instead of ending the process."""

    server_memory_bytes: int = 3 << 30
    query_memory_bytes: int = 2 << 30
    mark_cache_bytes: int = 256 << 20


@dataclass
class QueryStats:
    """What a statement read and wrote, as far as the engine tells; rows and bytes, nanoseconds."""

    read_rows: int = 0
    read_bytes: int = 0
    written_rows: int = 0
    written_bytes: int = 0
    elapsed_ns: int = 0


@dataclass(frozen=True)
class Preamble:
    """What is set on a connection before its statement: the database, settings, and `param_x` values."""

    database: str = ""
    settings: Mapping[str, str] = field(default_factory=dict)

    def sql(self) -> str:
        """The statements that set it; empty when there is nothing to set. `readonly` comes last: it locks the rest."""
        parts = [f"USE {quote_name(self.database)}"] if self.database else []
        ordered = sorted(self.settings.items(), key=lambda item: item[0] == "readonly")
        if ordered:
            parts.append("SET " + ", ".join(f"{quote_name(k)} = {quote_string(v)}" for k, v in ordered))
        return ";".join(parts)


def _as_engine_error(error: Exception, version: str) -> EngineError:
    text = _WRAPPED.sub("", str(error))
    found = _CODE.search(text)
    if found is None:
        text = f"Code: {UNKNOWN_ERROR}. DB::Exception: {text} (UNKNOWN_EXCEPTION)"
    # A wrapped error carries its inner version and its name twice: keep one of each.
    text = re.sub(r"(\([A-Z_0-9]+\)) \(version [^)]*\)(?:\. \1)?$", r"\1", text)
    return EngineError(int(found.group(1)) if found else UNKNOWN_ERROR, f"{text} (version {version} (embedded build))")


class Connection:
    """One engine connection, used by one thread at a time. After an EngineError, only `recover` or `close`."""

    def __init__(self, raw: Any, version: str, scratch: Path) -> None:
        """`scratch` is a folder for the nameless files of inserts."""
        self._raw = raw
        self._version = version
        self._scratch = scratch
        self.stats = QueryStats()

    def prepare(self, preamble: Preamble) -> None:
        """Applies `preamble`. Raises EngineError: 115 for an unknown setting, 81 for an unknown database."""
        sql = preamble.sql()
        if sql:
            self.run(sql, "Null")

    def run(self, sql: str, answer_format: str) -> memoryview:
        """Runs any statement and returns its whole answer, held in the engine's memory while the view lives."""
        try:
            result = self._raw.query(sql, answer_format)
        except Exception as error:
            raise _as_engine_error(error, self._version) from None
        self._count(result)
        self.stats.written_rows += int(result.rows_written())
        self.stats.written_bytes += int(result.bytes_written())
        if result.size() == 0:
            return memoryview(b"")
        view: memoryview = result.get_memview().view()
        return view

    def stream(self, sql: str, answer_format: str) -> Generator[memoryview]:
        """Runs a SELECT and yields its answer block by block; `answer_format` must be one of STREAMED_FORMATS.

        Falls back to `run` for what the engine does not stream (SHOW, DESCRIBE, ...).
        """
        try:
            blocks = self._raw.send_query(sql, answer_format)
        except Exception as error:
            if _NO_STREAM not in str(error):
                raise _as_engine_error(error, self._version) from None
            yield self.run(sql, answer_format)
            return
        try:
            while (block := self._fetch(blocks)) is not None:
                self._count(block)
                yield block.get_memview().view()
        finally:
            blocks.close()

    def _fetch(self, blocks: Any) -> Any:
        try:
            block = blocks.fetch()
        except Exception as error:
            raise _as_engine_error(error, self._version) from None
        return block if block is not None and block.size() else None

    def _count(self, result: Any) -> None:
        self.stats.read_rows += int(result.rows_read())
        self.stats.read_bytes += int(result.bytes_read())
        self.stats.elapsed_ns += int(result.elapsed() * 1e9)

    def insert(self, sql: str, settings: str, data_format: str, pieces: Iterable[bytes]) -> None:
        """Stores `pieces`, bytes of `data_format`, through a file without a name.

        `sql` is an INSERT up to its SETTINGS clause, which is `settings` (may be empty). On an error nothing of the
        block in hand is stored. Raises EngineError. Through a file and not chDB's streaming insert, because that
        swallows what fails in the write stage (a violated constraint, a full disk): it reports rows that are not there.
        """
        with tempfile.TemporaryFile(dir=self._scratch) as file:
            size = sum(map(file.write, pieces))
            file.seek(0)
            source = f"FROM INFILE '/dev/fd/{file.fileno()}'"
            try:
                done = self._raw.query(f"{sql} {source} {settings} FORMAT {data_format}", "Null")
            except Exception as error:
                raise _as_engine_error(error, self._version) from None
        self.stats.written_rows += int(done.rows_read())
        self.stats.written_bytes += size
        self.stats.elapsed_ns += int(done.elapsed() * 1e9)

    def recover(self, touched: Sequence[str] = ()) -> None:
        """Makes a kept connection clean after a statement: drops left-over rows, sets `touched` to their defaults."""
        reset = ", ".join(f"{quote_name(name)} = DEFAULT" for name in touched)
        self._raw.query("SELECT 1 FORMAT Null", "Null")
        if reset:
            self._raw.query(f"SET {reset}", "Null")

    def close(self) -> None:
        self._raw.close()


class Engine:
    """The engine on one folder. A second engine in the same process, or another process on the folder, is refused."""

    def __init__(self, path: Path, limits: EngineLimits) -> None:
        """Opens the folder, creating it; imports chDB (about 1 s). Raises EngineError if it cannot be opened."""
        # The engine takes its time zone from here; a server runs in UTC, and so must the laptop.
        os.environ["TZ"] = "UTC"
        path.mkdir(parents=True, exist_ok=True)
        # Importing chDB runs an engine for a moment, with its files in the temporary folder.
        os.environ["TMPDIR"] = str(path.resolve())
        import chdb

        self._connect = cast("Callable[[str], Any]", chdb.connect)
        self._path = path.resolve()
        self._suffix = f"?max_memory_usage={limits.query_memory_bytes}"
        options = f"max_server_memory_usage={limits.server_memory_bytes}&mark_cache_size={limits.mark_cache_bytes}"
        self.version = "unknown"
        try:
            options += "&" + clickhouse_confinement.prepare(self._path)
            # Held for as long as the engine lives: the last connection that closes shuts it down.
            self._anchor = self._connect(f"{self._path}?{options}")
            self.version = self._ask("SELECT version()").strip()
            clickhouse_confinement.prove(self._ask)
        except Exception as error:
            raise _as_engine_error(error, self.version) from None
        self.timezone = "UTC"
        self._control = threading.Lock()

    def _ask(self, sql: str) -> str:
        return bytes(self._anchor.query(sql, "TabSeparatedRaw").bytes()).decode()

    def connect(self) -> Connection:
        """A fresh connection with no settings of anybody else."""
        try:
            return Connection(self._connect(f"{self._path}{self._suffix}"), self.version, self._path)
        except Exception as error:
            raise _as_engine_error(error, self.version) from None

    def kill(self, marker: str) -> None:
        """Stops the running statements whose text contains `marker`; returns without waiting for them."""
        with self._control:
            self._anchor.query(
                f"KILL QUERY WHERE position(query, {quote_string(marker)}) > 0 AND query NOT LIKE 'KILL%' ASYNC", "Null"
            )

    def allow_merges(self, allowed: bool) -> None:
        """Stops the merges of all tables, those that run too, or lets them start again. Raises what the engine does."""
        with self._control:
            self._anchor.query(f"SYSTEM {'START' if allowed else 'STOP'} MERGES", "Null")

    def close(self) -> None:
        """Closes the engine; statements still running must have ended."""
        self._anchor.close()
