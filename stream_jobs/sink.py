"""Table rows on their way to storage: buffered per table, stored as blocks in threads, bounded, never dropped silently.

Owns retry, bisection of refused blocks, and the back-pressure that stops consumption when storage is away.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import orjson

from infra.columns import Column, hash_into, joined
from infra.metrics import BLOCKS_STORED, ROWS_STORED
from infra.ports import InvalidRecord, Record, RetryLater, TableWriter
from schemas.base import DecodeError, Reason
from schemas.refused_rows import RefusedRows

LOG = logging.getLogger(__name__)
BACKOFF_SECONDS_MAX = 5.0
BLOCK_ROWS = 100_000
"""About 25 MB. The server stores a row of such a block at two thirds of what it takes in blocks of 20,000, and merges
fewer parts later."""
ROWS_MAX = 300_000
"""A block on its way, one that waits, and one that fills: about 75 MB, and as much again once they are joined."""
REFUSALS_LISTED_MAX = 20
"""Rows named by their numbers in one dead letter; the count is always said. Rows of requests are all named."""


class RowOwner(Protocol):
    """Who handed rows over: a partition that may be lost, and that sends dead letters."""

    alive: bool

    def dead_letter(self, record: Record, error: DecodeError) -> None:
        """Hand a dead letter over, counted with the partition's events."""


@dataclass(frozen=True, slots=True)
class _Part:
    owner: RowOwner
    record: Record
    columns: dict[str, Column]
    rows: int


@dataclass(frozen=True, slots=True)
class _Block:
    """Parts joined in the order of their partitions, and the token of their rows."""

    parts: list[_Part]
    live: list[_Part]
    columns: dict[str, Column]
    token: str


@dataclass(frozen=True, slots=True)
class _Refusal:
    row: int
    why: str


class RowSink:
    """Rows of all partitions. For the event loop's thread."""

    def __init__(
        self,
        writer: TableWriter,
        *,
        block_rows: int = BLOCK_ROWS,
        rows_max: int = ROWS_MAX,
        threads: int = 3,
        sleep: Callable[[float], Any] = asyncio.sleep,
    ) -> None:
        """`block_rows`: a block is stored as soon as a table has so many; `rows_max`: above, `room` waits."""
        self._writer, self._block_rows, self._rows_max, self._sleep = writer, block_rows, rows_max, sleep
        self._parts: dict[str, list[_Part]] = defaultdict(list)
        self._counts: dict[str, int] = defaultdict(int)
        self._ahead: dict[str, asyncio.Future[_Block]] = {}
        """By table, the first block of what waits, made ready while the one before it is on its way."""
        self._held = 0
        self._storing = 0
        self._room = asyncio.Event()
        self._room.set()
        self._full = asyncio.Event()
        self._flushing = asyncio.Lock()
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rows")

    async def room(self) -> None:
        """Wait while too many rows are not stored yet."""
        await self._room.wait()

    @property
    def is_full(self) -> bool:
        """Whether `room` waits. From any thread."""
        return not self._room.is_set()

    @property
    def is_storing(self) -> bool:
        """Whether a block is with the server, or waits to be sent again. From any thread."""
        return self._storing > 0

    @property
    def held(self) -> tuple[int, int]:
        """Rows not stored yet, and how many make `room` wait. From any thread."""
        return self._held, self._rows_max

    def add(self, owner: RowOwner, record: Record, rows: Mapping[str, dict[str, Column]]) -> None:
        """Take rows that `record` gave, by table; columns of equal length. Raises ValueError when they are not."""
        for table, columns in rows.items():
            lengths = {len(column) for column in columns.values()}
            if len(lengths) > 1:
                raise ValueError(f"{table}: columns of different lengths {sorted(lengths)}")
            count = lengths.pop() if lengths else 0
            if count:
                self._parts[table].append(_Part(owner, record, columns, count))
                self._counts[table] += count
                self._held += count
                if self._counts[table] >= self._block_rows:
                    self._full.set()
                    if table not in self._ahead:
                        self._ahead[table] = self._making_ready(table, self._parts[table])
        if self._held >= self._rows_max:
            self._room.clear()
            self._full.set()

    async def run(self, interval_seconds: float) -> None:
        """Store what is there every so often, and at once when a block is full. Runs until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._full.wait(), interval_seconds)
            await self.flush()

    async def flush(self) -> None:
        """Store every row handed over before the call. Waits for as long as storage is away.

        Cancelled, it keeps what is not stored: the next flush stores it.
        """
        async with self._flushing:
            self._full.clear()
            parts, self._parts = self._parts, defaultdict(list)
            ahead, self._ahead = self._ahead, {}
            self._counts.clear()
            try:
                await asyncio.gather(
                    *(self._store_table(table, held, ahead.get(table)) for table, held in parts.items())
                )
            except asyncio.CancelledError:
                self._put_back(parts)
                raise

    def _put_back(self, parts: Mapping[str, list[_Part]]) -> None:
        self._ahead.clear()  # they are not the first any more
        for table, left in parts.items():
            self._parts[table] = left + self._parts[table]
            self._counts[table] += sum(part.rows for part in left)

    async def _store_table(self, table: str, parts: list[_Part], ahead: asyncio.Future[_Block] | None) -> None:
        """Store block after block, removing what is stored from `parts`. While one is on its way the next is made
        ready: joining and hashing take a fifth of the time that the server takes. `ahead`: the first one."""
        ready = ahead or self._making_ready(table, parts)
        try:
            while parts:
                block = await ready
                count = len(block.parts)
                if count < len(parts):
                    ready = self._making_ready(table, parts[count:])
                await self._store_block(table, block)
                del parts[:count]
        finally:
            ready.cancel()

    def _making_ready(self, table: str, parts: Sequence[_Part]) -> asyncio.Future[_Block]:
        """The first block of these parts, of which there are some."""
        count, rows = 1, parts[0].rows
        while count < len(parts) and rows + parts[count].rows <= self._block_rows:
            rows += parts[count].rows
            count += 1
        return asyncio.get_running_loop().run_in_executor(self._threads, _made_ready, table, list(parts[:count]))

    async def _store_block(self, table: str, block: _Block) -> None:
        if not all(part.owner.alive for part in block.live):  # lost meanwhile: its rows are another owner's
            block = await self._making_ready(table, block.parts)
        refused: list[_Refusal] = []
        if block.live:
            await self._store(table, block.columns, 0, sum(part.rows for part in block.live), refused, block.token)
        if refused:
            self._bury(table, block.live, refused)
        self._held -= sum(part.rows for part in block.parts)
        if self._held < self._rows_max:
            self._room.set()

    async def _store(
        self,
        table: str,
        columns: dict[str, Column],
        first: int,
        after: int,
        refused: list[_Refusal],
        token: str | None = None,
    ) -> None:
        """Store rows `first` to `after`; halves that are refused again and again end as single refused rows."""
        block = {name: column[first:after] for name, column in columns.items()}
        try:
            await self._insert(table, block, token)
        except InvalidRecord as error:
            if after - first == 1:
                refused.append(_Refusal(first, str(error)))
                return
            middle = (first + after) // 2
            await self._store(table, columns, first, middle, refused)
            await self._store(table, columns, middle, after, refused)

    async def _insert(self, table: str, block: dict[str, Column], token: str | None) -> None:
        self._storing += 1
        try:
            await self._insert_until_taken(table, block, token)
        finally:
            self._storing -= 1

    async def _insert_until_taken(self, table: str, block: dict[str, Column], token: str | None) -> None:
        wait_seconds = 0.1
        loop = asyncio.get_running_loop()
        if token is None:
            token = await loop.run_in_executor(self._threads, token_of, table, block)
        while True:
            try:
                stored = await loop.run_in_executor(self._threads, self._insert_blocking, table, block, token)
            except RetryLater as error:
                LOG.warning("%s: rows are kept and stored again: %s", table, error)
                await self._sleep(wait_seconds)
                wait_seconds = min(wait_seconds * 2, BACKOFF_SECONDS_MAX)
            else:
                ROWS_STORED.labels(table).inc(stored)
                BLOCKS_STORED.labels(table).inc()
                return

    def _insert_blocking(self, table: str, block: dict[str, Column], token: str) -> int:
        return self._writer.insert(table, block, token=token)

    def _bury(self, table: str, parts: Sequence[_Part], refused: Sequence[_Refusal]) -> None:
        """One dead letter per source record that gave refused rows."""
        first = 0
        for part in parts:
            inside = [one for one in refused if first <= one.row < first + part.rows]
            if inside:
                listed = _named(part.columns, [one.row - first for one in inside])
                detail = f"{table} refused {len(inside)} of {part.rows} rows {listed}: {inside[0].why}"
                part.owner.dead_letter(part.record, DecodeError(Reason.REFUSED_BY_TABLE, detail))
            first += part.rows

    def close(self) -> None:
        """Release the threads. Rows not stored are dropped: their offsets were not committed."""
        self._ahead.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)


def _made_ready(table: str, parts: list[_Part]) -> _Block:
    """In a thread."""
    # By partition, as the tables are sorted: the server then need not sort what was taken in turns.
    live = sorted((part for part in parts if part.owner.alive), key=_place)
    columns = _joined(live)
    return _Block(parts, live, columns, token_of(table, columns))


def _named(columns: Mapping[str, Column], rows: Sequence[int]) -> str:
    """In brackets; rows of requests so that they can be put back."""
    if not {"offset", "telemetry_offset", "served_at"} <= columns.keys():
        return f"({', '.join(map(str, rows[:REFUSALS_LISTED_MAX]))})"
    told_at, served_ms = int(columns["telemetry_offset"][0]), int(columns["served_at"][0])
    return RefusedRows.of_offsets((int(columns["offset"][row]) for row in rows), told_at, served_ms).detail()


def _place(part: _Part) -> tuple[int, int]:
    return part.record.partition, part.record.offset


def token_of(table: str, columns: Mapping[str, Column]) -> str:
    """The insert token: a hash of the block's table and whole content, ids included."""
    digest = hashlib.sha256(table.encode())
    for name, column in columns.items():
        digest.update(name.encode() + b"\0")
        if hash_into(digest, column):
            continue
        try:
            digest.update(orjson.dumps(list(column), option=orjson.OPT_SERIALIZE_NUMPY))
        except TypeError:  # what JSON cannot say, such as bytes, lone surrogates or whole numbers above 64 bits
            digest.update(repr(list(column)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _joined(parts: Sequence[_Part]) -> dict[str, Column]:
    for part in parts:
        if part.columns.keys() != parts[0].columns.keys():
            raise ValueError(f"columns differ between records: {sorted(parts[0].columns.keys() ^ part.columns.keys())}")
    return {name: joined([part.columns[name] for part in parts]) for name in (parts[0].columns if parts else ())}
