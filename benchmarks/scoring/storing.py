"""Rows that a process stores: watched as they become visible, timed from the warm part to the last, then read back."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import psutil

from benchmarks.worker_process import ForeignLoad, failed
from infra.clickhouse import ClickHouse

WARM_SHARE = 0.2
"""The first rows pay for imports, take-overs and compiled code that is read from disk."""
LOOK_SECONDS = 0.25
FIRST_ROW_SECONDS_MAX = 120.0
SILENCE_SECONDS_MAX = 60.0


@dataclass(frozen=True, slots=True)
class Look:
    """What a moment showed: rows visible, and the process's processor seconds so far."""

    at: float
    rows: int
    cpu_seconds: float


@dataclass(frozen=True, slots=True)
class Stored:
    """A finished run. `core_share`: how much of its one core the process used; below 1, something else was slower.
    `foreign_load`: share of the machine that others used meanwhile, which makes the figure noisy and low; None where it
    was over before it could be seen."""

    rows: int
    per_second: float
    cpu_us_per_row: float
    core_share: float
    foreign_load: float | None = None


class Watched:
    """A process that stores rows, and what it said last."""

    def __init__(self, pid: int, is_running: Callable[[], bool], last_words: Callable[[], str]) -> None:
        self._process, self._is_running, self._last_words = psutil.Process(pid), is_running, last_words

    def cpu_seconds(self) -> float:
        """Of all its threads. Raises ClickException when it has ended."""
        if not self._is_running():
            raise failed(f"the process ended by itself: {self._last_words()}")
        times = self._process.cpu_times()
        return float(times.user + times.system)

    def gives_up(self, why: str) -> Exception:
        """An error that quotes it."""
        return failed(f"{why}: {self._last_words()}")


def follow(tables: ClickHouse, table: str, before: int, rows: int, process: Watched) -> Stored:
    """Wait until `rows` more than `before` are in the table; how fast that went, the warm part left out."""
    looks, heard = [_look(tables, table, before, process)], time.monotonic()
    load: ForeignLoad | None = None
    while looks[-1].rows < rows:
        time.sleep(LOOK_SECONDS)
        looks.append(_look(tables, table, before, process))
        if load is None and looks[-1].rows >= WARM_SHARE * rows:
            load = ForeignLoad([os.getpid()])
        if looks[-1].rows > looks[-2].rows:
            heard = time.monotonic()
        elif time.monotonic() - heard > (SILENCE_SECONDS_MAX if looks[-1].rows else FIRST_ROW_SECONDS_MAX):
            raise process.gives_up(f"no row for {time.monotonic() - heard:.0f} s at {looks[-1].rows} of {rows}")
    return replace(stored(looks, rows), foreign_load=None if load is None else load.share())


def stored(looks: list[Look], rows: int) -> Stored:
    """The figures between the first look with the warm share of the rows and the last. Raises ClickException when
    there is no time between them. Pure."""
    warm = next(look for look in looks if look.rows >= WARM_SHARE * rows)
    last = looks[-1]
    seconds, counted, cpu = last.at - warm.at, last.rows - warm.rows, last.cpu_seconds - warm.cpu_seconds
    if counted <= 0 or seconds <= 0:
        raise failed(f"{rows} rows were stored within one look: ask for more")
    return Stored(rows, counted / seconds, 1e6 * cpu / counted, cpu / seconds)


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What a reader finds: rows of the view, different identities, rows that were scored after learning."""

    rows: int
    distinct: int
    scored: int
    scored_above_0: int


def read_back(tables: ClickHouse, view: str) -> ReadBack:
    """Read what was stored, without duplicates."""
    counted = (
        "count(), uniqExact(cluster_id, topic_id, partition, offset), countIf(not learning), "
        "countIf(not learning and score > 0 and score <= 1)"
    )
    _, ((rows, distinct, scored, above),) = tables.query(f"SELECT {counted} FROM {view}")
    return ReadBack(int(rows), int(distinct), int(scored), int(above))


def count_rows(tables: ClickHouse, table: str) -> int:
    """Rows in a stored table, duplicates that are not merged yet included."""
    _, ((rows,),) = tables.query(f"SELECT count() FROM {table}")
    return int(rows)


def _look(tables: ClickHouse, table: str, before: int, process: Watched) -> Look:
    cpu = process.cpu_seconds()
    return Look(time.monotonic(), count_rows(tables, table) - before, cpu)
