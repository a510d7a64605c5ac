"""The sink beside a bare columnar insert of the same rows into the same engine, round by round."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.embedded_clickhouse import own_clickhouse
from benchmarks.scoring.made_telemetry import TelemetryMaker
from benchmarks.scoring.storing import count_rows
from benchmarks.worker_process import failed
from infra.clickhouse import ClickHouse
from infra.clock import SystemClock
from infra.columns import Column, joined
from infra.ports import Record, TableWriter
from schemas.base import DecodeError
from schemas.tables import REQUESTS
from schemas.topics import PARTITIONS, TELEMETRY
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.settings import JobSettings
from stream_jobs.sink import BLOCK_ROWS, RowSink

REQUESTS_PER_EVENT = 500
SEED = 11
BEGAN_BEFORE_MS = 3_600_000
Handed = tuple[Record, dict[str, dict[str, Column]]]
Say = Callable[[str], None]


class Holder:
    """A `RowOwner` that keeps its partition and takes no dead letter: none is expected."""

    alive = True

    def dead_letter(self, record: Record, error: DecodeError) -> None:
        """A row was refused: the figures mean nothing then."""
        raise failed(f"a row was refused: {error}")


@dataclass
class CountingWriter:
    """A TableWriter that notes how many rows each block had."""

    writer: TableWriter
    blocks: list[int] = field(default_factory=list)

    def insert(self, table: str, columns: Mapping[str, Column], *, token: str) -> int:
        """See `TableWriter.insert`."""
        rows = self.writer.insert(table, columns, token=token)
        self.blocks.append(rows)
        return rows


@dataclass(frozen=True, slots=True)
class Rounds:
    """Rows a second of each side by round, and the sizes of the sink's blocks.

    `bare`: the same rows, as they are handed over, joined into blocks of the same size and inserted one after the
    other, without a token of their content, retry, bound or bisection. `ready`: blocks joined before the clock ran.
    """

    rows: int
    sink: list[float]
    bare: list[float]
    ready: list[float]
    blocks: list[int]


def made_rows(rows: int, say: Say) -> list[Handed]:
    """Rows as the job's first stage hands them over, partition by turns, as they come from Kafka."""
    say(f"making {rows:,} rows")
    began_ms = SystemClock().now_ms() - BEGAN_BEFORE_MS
    makers = [TelemetryMaker("bench", "requests", number, began_ms=began_ms, seed=SEED) for number in range(PARTITIONS)]
    stages = [
        RequestStage(JobSettings(), topic_id="telemetry", partition=number, window_partitions=1, requests=AnyRequests())
        for number in range(PARTITIONS)
    ]
    found: list[Handed] = []
    offset = made = 0
    while made < rows:
        for number, (maker, stage) in enumerate(zip(makers, stages, strict=True)):
            (event,) = maker.events(REQUESTS_PER_EVENT, REQUESTS_PER_EVENT)
            at_ms = began_ms + offset
            record = Record(TELEMETRY.name, number, offset, at_ms, None, event.value, tuple(event.headers))
            found.append((record, stage.apply(record).rows))
            made += REQUESTS_PER_EVENT
        offset += 1
    return found


def measure(rows: int, repeat: int, say: Say) -> Rounds:
    """Interleaved rounds on an engine of their own, each into a table that is made anew."""
    handed = made_rows(rows, say)
    blocks = list(bare_blocks(handed))
    count = sum(len(next(iter(block.values()))) for block in blocks)
    found = Rounds(count, [], [], [], [])
    with own_clickhouse() as settings:
        tables = ClickHouse(settings)
        try:
            tables.command(f"CREATE TABLE template AS {REQUESTS.name}")
            _insert(tables, blocks)  # the first inserts pay for the engine's start
            for number in range(1, repeat + 1):
                writer = CountingWriter(tables)
                sides: list[tuple[list[float], Callable[[], None]]] = [
                    (found.sink, lambda writer=writer: asyncio.run(_sink(writer, handed))),  # type: ignore[misc]
                    (found.bare, lambda: _insert(tables, bare_blocks(handed))),
                    (found.ready, lambda: _insert(tables, blocks)),
                ]
                for rates, run in sides[number % 3 :] + sides[: number % 3]:
                    _new_table(tables)
                    started = time.perf_counter()
                    run()
                    rates.append(count / (time.perf_counter() - started))
                    if (seen := count_rows(tables, REQUESTS.name)) != count:
                        raise failed(f"{count} rows were stored, and {seen} are there")
                found.blocks.extend(writer.blocks)
                say(
                    f"round {number} of {repeat}: sink {found.sink[-1]:,.0f} rows/s, bare {found.bare[-1]:,.0f}, "
                    f"ready blocks {found.ready[-1]:,.0f}"
                )
        finally:
            tables.close()
    return found


def bare_blocks(handed: Sequence[Handed]) -> Iterator[dict[str, Column]]:
    """The same rows as whole blocks of the sink's size, joined one by one."""
    parts: list[dict[str, Column]] = []
    count = 0
    ordered = [rows[REQUESTS.name] for _, rows in handed if REQUESTS.name in rows]
    for number, columns in enumerate(ordered):
        parts.append(columns)
        count += len(next(iter(columns.values())))
        if count + REQUESTS_PER_EVENT > BLOCK_ROWS or number == len(ordered) - 1:
            yield {name: joined([part[name] for part in parts]) for name in parts[0]}
            parts, count = [], 0


def _insert(tables: ClickHouse, blocks: Iterable[dict[str, Column]]) -> None:
    for number, block in enumerate(blocks):
        tables.insert(REQUESTS.name, block, token=f"bare-{number}")


async def _sink(writer: TableWriter, handed: Sequence[Handed]) -> None:
    sink, owner = RowSink(writer), Holder()
    storing = asyncio.create_task(sink.run(JobSettings().row_flush_seconds))
    try:
        for record, rows in handed:
            await sink.room()
            sink.add(owner, record, rows)
            await asyncio.sleep(0)  # as between two records of the job
        await sink.flush()
    finally:
        storing.cancel()
        sink.close()


def _new_table(tables: ClickHouse) -> None:
    """An empty table that remembers no insert: the same rows are stored again and again."""
    tables.command(f"DROP TABLE IF EXISTS {REQUESTS.name} SYNC")
    tables.command(f"CREATE TABLE {REQUESTS.name} AS template")


def block_figures(blocks: Sequence[int]) -> dict[str, float]:
    """Rows of the blocks that the sink sent: how many blocks, the median, and the share of rows in blocks of at least
    10,000."""
    rows = sum(blocks)
    return {
        "blocks": len(blocks),
        "rows_per_block_median": statistics.median(blocks) if blocks else 0,
        "rows_in_blocks_of_10000": sum(one for one in blocks if one >= 10_000) / rows if rows else 0.0,
    }
