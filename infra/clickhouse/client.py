"""The one door to clickhouse-connect: column inserts that deduplicate, queries with server-side parameters."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.compression import get_compressor
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError, DataError
from clickhouse_connect.driver.httputil import default_pool_manager, get_pool_manager

from infra.addresses import clickhouse_address, is_loopback
from infra.clickhouse.native_block import encoded
from infra.clickhouse.server_life import ServerLife
from infra.columns import Column, plain
from infra.ports import InvalidRecord, RetryLater, TryAgain
from infra.settings import ClickHouseSettings
from schemas import tables

INSERT_SETTINGS = {"async_insert": 0, "insert_deduplicate": 1, "max_partitions_per_insert_block": 0}
"""A block is bounded by its rows, not by the days they span: rows of a late replay may span more than 100."""
BAD_VALUE_CODES = {
    6: "CANNOT_PARSE_TEXT",
    26: "CANNOT_PARSE_QUOTED_STRING",
    27: "CANNOT_PARSE_INPUT_ASSERTION_FAILED",
    38: "CANNOT_PARSE_DATE",
    41: "CANNOT_PARSE_DATETIME",
    53: "TYPE_MISMATCH",
    69: "ARGUMENT_OUT_OF_BOUND",
    70: "CANNOT_CONVERT_TYPE",
    72: "CANNOT_PARSE_NUMBER",
    117: "INCORRECT_DATA",
    128: "TOO_LARGE_ARRAY_SIZE",
    131: "TOO_LARGE_STRING_SIZE",
    190: "SIZES_OF_ARRAYS_DONT_MATCH",
    321: "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE",
    349: "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN",
    407: "DECIMAL_OVERFLOW",
    469: "VIOLATED_CONSTRAINT",
}
"""What a server says of an insert whose values it will never take. Everything else it says, people can put right: a
password, a missing table or column, a full disk. Good rows must survive that."""
PASSING_CODES = frozenset({159, 160, 201, 202, 209, 210, 241, 242, 243, 252, 285, 319, 425, 999})
"""What a server says of a statement it may take later: timeouts, quotas, too many queries or parts, memory, disk,
replicas, network, keeper."""
TYPES = {table.name: dict(zip(table.column_names, table.column_types, strict=True)) for table in tables.DECLARED}


class ClickHouse:
    """A `TableWriter` and `TableReader` over HTTP. Thread-safe: one client per thread, made when first needed."""

    def __init__(self, settings: ClickHouseSettings) -> None:
        if settings.url is None:
            raise TryAgain("no ClickHouse: set INFERWATCH_CLICKHOUSE_URL, or run `make up` first")
        self._settings = settings
        self._local = threading.local()
        self._clients: list[Client] = []
        self._lock = threading.Lock()
        self._life = ServerLife()
        self._is_near = is_loopback(clickhouse_address(settings.url)[1])

    def _client(self) -> Client:
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            client = self._connect()
            self._local.client = client
            with self._lock:
                self._clients.append(client)
        return client

    def _connect(self) -> Client:
        scheme, host, port = clickhouse_address(self._settings.url or "")
        ca_cert = None if self._settings.ca_location is None else str(self._settings.ca_location)
        return clickhouse_connect.get_client(
            host=host,
            port=port,
            secure=scheme == "https",
            username=self._settings.user,
            password=self._settings.password.get_secret_value(),
            database=self._settings.database,
            ca_cert=ca_cert,
            pool_mgr=_direct_pool(ca_cert) if is_loopback(host) else None,
            connect_timeout=5,
            send_receive_timeout=int(max(1, self._settings.timeout_seconds)),
            autogenerate_session_id=False,
            query_retries=0,
            client_name="inferwatch",
            tz_mode="aware",
        )

    def insert(self, table: str, columns: Mapping[str, Column], *, token: str) -> int:
        """See `TableWriter.insert`."""
        data = list(columns.values())
        rows = len(data[0]) if data else 0
        if any(len(column) != rows for column in data):
            raise InvalidRecord(f"{table}: columns of different lengths {sorted({len(column) for column in data})}")
        if not rows:
            return 0
        with _sorted_errors(_never, InvalidRecord):
            client = self._client()
            told, life = self._life.token(self._ask, table, token)
        settings = INSERT_SETTINGS | {"insert_deduplication_token": told}
        with _sorted_errors(_is_bad_value, InvalidRecord):
            self._insert_columns(client, table, columns, settings)
        with _sorted_errors(_never, InvalidRecord):
            self._life.check(self._ask, table, life)
        return rows

    def _insert_columns(
        self, client: Client, table: str, columns: Mapping[str, Column], settings: dict[str, Any]
    ) -> None:
        names, types = list(columns), TYPES.get(table)
        block = encoded(columns, types or {})
        if block is not None:
            self._insert_block(client, table, names, block, settings)
            return
        client.insert(
            table,
            [plain(column) for column in columns.values()],
            column_names=names,
            column_type_names=None if types is None else [types[name] for name in names],
            column_oriented=True,
            settings=settings,
        )

    def _ask(self, sql: str, parameters: Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return [tuple(row) for row in self._client().query(sql, parameters=dict(parameters or {})).result_rows]

    def _insert_block(
        self, client: Client, table: str, names: list[str], block: bytes, settings: dict[str, Any]
    ) -> None:
        """Send a block as it is, and to another machine compressed: over loopback that costs more than it saves."""
        compression = None if self._is_near else client.write_compression
        if compression is not None:
            compressor: Any = get_compressor(compression)
            block = bytes(compressor.compress_block(block)) + (compressor.flush() or b"")
        client.raw_insert(table, names, block, settings, fmt="Native", compression=compression)

    def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """See `TableReader.query`."""
        with _sorted_errors(_is_refusal, ValueError):
            result = self._client().query(sql, parameters=dict(parameters or {}))
        return tuple(result.column_names), [tuple(row) for row in result.result_rows]

    def query_text(self, sql: str, output_format: str, parameters: Mapping[str, Any] | None = None) -> str:
        """The answer as text in a ClickHouse format (`CSVWithNames`, `JSON`, ...). Raises as `query`."""
        with _sorted_errors(_is_refusal, ValueError):
            raw = self._client().raw_query(sql, parameters=dict(parameters or {}), fmt=output_format)
        return raw.decode("utf-8", "replace")

    def command(self, sql: str) -> None:
        """Run a statement without an answer. Raises as `query`."""
        with _sorted_errors(_is_refusal, ValueError):
            self._client().command(sql)

    def ping(self) -> bool:
        """Whether the server answers now. Raises ValueError when it answers and refuses us, such as our password."""
        try:
            with _sorted_errors(_is_refusal, ValueError):
                return bool(self._client().ping())
        except RetryLater:
            return False

    def wait_ready(self, deadline_seconds: float) -> None:
        """Wait until the server answers. Raises TryAgain when it does not in time, or refuses us."""
        deadline = time.monotonic() + deadline_seconds
        try:
            while not self.ping():
                if time.monotonic() > deadline:
                    raise TryAgain(f"ClickHouse at {self._settings.url} does not answer")
                time.sleep(0.05)
        except ValueError as error:
            raise TryAgain(f"ClickHouse at {self._settings.url} refuses us: {error}") from None

    def close(self) -> None:
        """Close every thread's connection."""
        with self._lock:
            clients, self._clients = self._clients, []
        for client in clients:
            client.close()
        self._local = threading.local()


@cache
def _direct_pool(ca_cert: str | None) -> Any:
    """Connections of this process that take no proxy of the environment, as the client's own pool does even to
    loopback, where no proxy leads."""
    return default_pool_manager() if ca_cert is None else get_pool_manager(ca_cert=ca_cert)


@contextmanager
def _sorted_errors(is_refusal: Callable[[Exception], bool], refused: type[Exception]) -> Iterator[None]:
    """Sort failures into two fates: `refused` where `is_refusal` says so, RetryLater for the rest."""
    try:
        yield
    except (ClickHouseError, OSError, TypeError, ValueError, OverflowError, AttributeError) as error:
        fate = refused if is_refusal(error) else RetryLater
        raise fate(f"ClickHouse: {_first_line(error)}") from None


def _never(error: Exception) -> bool:
    return False


def _is_bad_value(error: Exception) -> bool:
    """Whether an insert failed for its values: the client could not write them down, or the server refused them."""
    return _is_ours(error) or getattr(error, "code", None) in BAD_VALUE_CODES


def _is_refusal(error: Exception) -> bool:
    """Whether a statement was refused, by the client or by a server that will not take it later either."""
    if _is_ours(error):
        return True
    code = getattr(error, "code", None)
    if code is None:
        return isinstance(error, DatabaseError) and "DB::Exception" in str(error)
    return code not in PASSING_CODES


def _is_ours(error: Exception) -> bool:
    return isinstance(error, DataError) or not isinstance(error, (ClickHouseError, OSError))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:1_000]
