"""What the applications need of the outside world, as small protocols. Real adapters live beside; fakes in `tests/`."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from infra.columns import Column
from schemas.base import Headers


@dataclass(frozen=True, slots=True)
class Record:
    """One record of a log. `timestamp_ms` is the broker's append time."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class RetryLater(Exception):
    """The outside world is not there right now: keep the work and try again. Never means that data is bad."""


class Silence(RetryLater):
    """Records that a log should hold did not come in time."""


class TryAgain(Exception):
    """What a process needs is away or not finished, so it ends and asks to be started again (EXIT_TRY_AGAIN). No
    ConnectionError is taken for that: a reset or a broken pipe that nobody foresaw is a fault like any other."""


class InvalidRecord(Exception):
    """The outside world refused this data for good: it is a dead letter, trying again is of no use."""


class Fatal(Exception):
    """A client of the outside world is broken for good: neither trying again nor another record helps. Ends the
    process (exit code 70), so that a new one starts with a new client; nothing unfinished is acknowledged."""


class Clock(Protocol):
    """Time, injected. Neither method blocks."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970 UTC. May jump."""

    def monotonic(self) -> float:
        """Seconds since some start. Never goes back."""


DeliveryCallback = Callable[[int | None, Exception | None], None]
"""Called once per record with (offset, None) when it is durable, or (None, error). On the publisher's own thread:
it must be quick and must not raise."""


class Publisher(Protocol):
    """Puts records on a log. Thread-safe."""

    def publish(
        self,
        topic: str,
        value: bytes | None,
        *,
        key: bytes | None = None,
        partition: int | None = None,
        headers: Sequence[tuple[str, bytes | None]] = (),
        on_delivery: DeliveryCallback | None = None,
    ) -> None:
        """Hand a record over. Blocks while the bounded buffer is full; raises RetryLater when it stays full, and
        InvalidRecord when the record is refused at once (too large), Fatal when this publisher cannot publish any
        more. Then `on_delivery` is called exactly once."""

    def send_now(self) -> None:
        """What was handed over goes out without waiting for more to go with it. Blocks for some milliseconds at most;
        what is not delivered by then is delivered later."""

    def flush(self, timeout_seconds: float) -> int:
        """Wait until everything handed over is delivered or failed; returns how many are still pending."""

    def close(self, timeout_seconds: float = 10.0) -> int:
        """Flush and release. Returns how many records were still undelivered."""


class Log(Protocol):
    """A group member's view of topics. Used by one thread only."""

    def poll(self, count_max: int, timeout_seconds: float) -> list[Record]:
        """Up to `count_max` records, waiting at most `timeout_seconds` for the first. Must be called at least every
        few seconds, also while paused: rebalance callbacks run inside. Raises RetryLater on broker trouble, and
        Fatal when this client can read no more."""

    def pause(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Fetch nothing more from these partitions until resumed."""

    def resume(self, partitions: Sequence[tuple[str, int]]) -> None:
        """Fetch from these partitions again."""

    def store(self, topic: str, partition: int, next_offset: int) -> None:
        """Everything below `next_offset` is done: commit it with the next commit. Does nothing for a partition that
        was taken away."""

    def commit(self) -> None:
        """Commit what is stored, now. Raises RetryLater."""

    def assignment(self) -> set[tuple[str, int]]:
        """Partitions owned right now."""

    def close(self) -> None:
        """Commit what is stored and leave the group."""


Place = tuple[str, int]
"""A topic and the number of a partition."""
Ranges = Mapping[Place, tuple[int, int]]
"""By partition, the first offset and the one after the last, as `KafkaCluster.ranges` tells them."""


class RangeReader(Protocol):
    """Reads what a log holds between offsets. Thread-safe: each read is of its own."""

    def read(self, ranges: Ranges) -> Generator[list[Record], None, None]:
        """Every record of these ranges and no other, in batches of one or more: in order within a partition, of all
        partitions as they come. Returns at the last range's end and waits for nothing that follows it. Blocks while a
        batch is fetched, and not in between; to stop sooner, close it.

        Offsets that hold no record are passed over without a word, also at the end of a range and of the log: what
        compaction and retention took, transactions' markers, and what transactions took back. Who must know what
        retention took asks for the first offset that is kept.

        Raises Silence when records are left and do not come in time, which is what an end beyond the log's comes to,
        and RetryLater or Fatal on broker trouble; what was given before holds all the same, so a reader can go on
        behind it."""


class TableWriter(Protocol):
    """Stores rows, column by column. Thread-safe."""

    def insert(self, table: str, columns: Mapping[str, Column], *, token: str) -> int:
        """Insert equal-length columns as one block; the same `token` twice inserts once. Returns the rows.
        Blocks. Raises InvalidRecord when the values themselves are refused, RetryLater for everything else: a server
        that is away, but also a missing table or a wrong password, which people put right."""


class TableReader(Protocol):
    """Asks questions in SQL. Thread-safe."""

    def query(
        self, sql: str, parameters: Mapping[str, Any] | None = None
    ) -> tuple[tuple[str, ...], list[tuple[Any, ...]]]:
        """Column names and rows. `parameters` are server-side: `{name:Type}` in the SQL. Raises RetryLater when the
        server is not there, ValueError with the server's words when the query is wrong."""
