"""Minutes without ClickHouse at full traffic: what is lost, how memory grows, how fast the job catches up."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.embedded_kafka import own_kafka
from benchmarks.scoring.storing import count_rows
from benchmarks.sink.live_feed import LiveFeed
from benchmarks.sink.running_job import GROUP, RunningJob, running_job
from benchmarks.sink.stopped_clickhouse import StoppedClickHouse, stopped_clickhouse
from benchmarks.worker_process import failed
from infra.audit.counts import Audited, CountsAudit, Range
from infra.clickhouse import ClickHouse
from infra.clock import SystemClock
from infra.kafka import KafkaCluster, KafkaPublisher
from infra.ports import RetryLater
from schemas.tables import REQUESTS

SERIES = 24
LOOK_SECONDS = 0.25
START_SECONDS_MAX = 120.0
COMMIT_SECONDS_MAX = 120.0
CAUGHT_UP_SECONDS = 2.0
"""Live traffic is visible about so long after it was told: rows wait up to a second for their block."""
MIB = 1_048_576

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Outage:
    """What an outage did."""

    outage_seconds: float
    live_rate: float
    """Requests told a second, measured."""
    told: int
    lost: int
    visible_duplicates: int
    altered: int
    behind_rows: int
    """Rows that were told and not visible when ClickHouse came back."""
    memory_before_bytes: int
    memory_outage_bytes: int
    """Most while ClickHouse was away."""
    memory_late_growth_bytes: int
    """Most in the second half of the outage, less most in the first: about 0 where memory is bounded."""
    memory_peak_bytes: int
    """Most of all, while it caught up included."""
    memory_growth_bytes: int
    catch_up_seconds: float
    catch_up_rate: float
    """Rows a second that became visible meanwhile, those of the live traffic included."""
    catch_up_to_live: float
    raw_duplicates: int
    """Rows stored twice before anything was merged; readers do not see them."""
    agrees: bool
    windows_compared: int
    audit_rows_per_second: float
    """How fast the proof was: rows compared, windows counted again included."""

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return asdict(self)


def outage(seconds: float, rate: float, warm_seconds: float, say: Say) -> Outage:
    """Live traffic all the time; `warm_seconds` before ClickHouse is killed."""
    with own_kafka(say) as kafka, stopped_clickhouse() as (server, clickhouse):
        cluster, publisher = KafkaCluster(kafka), KafkaPublisher(kafka, client_id="inferwatch-bench")
        tables = ClickHouse(clickhouse)
        try:
            with (
                running_job(kafka, clickhouse) as job,
                LiveFeed(cluster, publisher, rate=rate, series=SERIES) as feed,
            ):
                measured = _outage(seconds, warm_seconds, server, tables, job, feed, say)
                say("the end: everything is committed, then Kafka is compared with ClickHouse row by row")
                feed.stop()
                audit = CountsAudit(kafka, tables, GROUP, SystemClock())
                found = audit.run(Range(), lambda done, total: None, wait_seconds=COMMIT_SECONDS_MAX)
                began = time.monotonic()  # once more, without the waiting
                CountsAudit(kafka, tables, GROUP, SystemClock()).run(Range(), lambda done, total: None)
                seconds = time.monotonic() - began
            return _figures(measured, found, feed.told, count_rows(tables, REQUESTS.name), seconds)
        finally:
            publisher.close()
            tables.close()


@dataclass(slots=True)
class _Measured:
    outage_seconds: float = 0.0
    live_rate: float = 0.0
    behind: int = 0
    before_bytes: int = 0
    first_half_bytes: int = 0
    second_half_bytes: int = 0
    peak_bytes: int = 0
    catch_up_seconds: float = 0.0
    catch_up_rate: float = 0.0


def _outage(
    seconds: float,
    warm_seconds: float,
    server: StoppedClickHouse,
    tables: ClickHouse,
    job: RunningJob,
    feed: LiveFeed,
    say: Say,
) -> _Measured:
    found = _Measured()
    _wait(lambda: _rows(tables) > 0, START_SECONDS_MAX, "the first row")
    began, told = time.monotonic(), feed.told
    _watch(warm_seconds, job, found)
    found.before_bytes, found.peak_bytes = job.rss_bytes(), 0
    say(f"ClickHouse is killed for {seconds:.0f} s; the job has {found.before_bytes / MIB:,.0f} MiB")
    away = time.monotonic()
    stored = _rows(tables)
    server.kill()
    _watch(seconds / 2, job, found)
    found.first_half_bytes, found.peak_bytes = found.peak_bytes, 0
    _watch(seconds / 2, job, found)
    found.second_half_bytes, found.peak_bytes = found.peak_bytes, max(found.peak_bytes, found.first_half_bytes)
    server.start()
    back = time.monotonic()
    found.outage_seconds = back - away
    found.behind, found.live_rate = feed.told - stored, (feed.told - told) / (back - began)
    say(f"ClickHouse is back, {found.behind:,} rows behind; at most {found.peak_bytes / MIB:,.0f} MiB")
    rows = stored
    while rows < feed.told - CAUGHT_UP_SECONDS * found.live_rate:
        if time.monotonic() - back > 10 * seconds + START_SECONDS_MAX:
            raise failed(f"not caught up after {time.monotonic() - back:.0f} s: {feed.told - rows:,} rows behind")
        _watch(LOOK_SECONDS, job, found)
        rows = _rows(tables)
    found.catch_up_seconds = time.monotonic() - back
    found.catch_up_rate = (rows - stored) / found.catch_up_seconds
    say(f"caught up in {found.catch_up_seconds:.1f} s, {found.catch_up_rate / found.live_rate:.1f} times the live rate")
    return found


def _watch(seconds: float, job: RunningJob, found: _Measured) -> None:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(LOOK_SECONDS, left))
        job.cpu_seconds()  # says so when it has ended
        found.peak_bytes = max(found.peak_bytes, job.rss_bytes())


def _rows(tables: ClickHouse) -> int:
    """Different requests that readers see; -1 while nobody answers."""
    try:
        _, ((rows,),) = tables.query(f"SELECT count() FROM {REQUESTS.view}")
    except RetryLater:
        return -1
    return int(rows)


def _wait(condition: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise failed(f"not within {seconds:.0f} s: {what}")
        time.sleep(LOOK_SECONDS)


def _figures(measured: _Measured, found: Audited, told: int, raw_rows: int, audit_seconds: float) -> Outage:
    compared = found.rows.compared
    return Outage(
        outage_seconds=measured.outage_seconds,
        live_rate=measured.live_rate,
        told=told,
        lost=told - compared.matched - found.counts["altered"],
        visible_duplicates=found.counts["doubled"] + found.counts["extra"],
        altered=found.counts["altered"],
        behind_rows=measured.behind,
        memory_before_bytes=measured.before_bytes,
        memory_outage_bytes=max(measured.first_half_bytes, measured.second_half_bytes),
        memory_late_growth_bytes=measured.second_half_bytes - measured.first_half_bytes,
        memory_peak_bytes=measured.peak_bytes,
        memory_growth_bytes=measured.peak_bytes - measured.before_bytes,
        catch_up_seconds=measured.catch_up_seconds,
        catch_up_rate=measured.catch_up_rate,
        catch_up_to_live=measured.catch_up_rate / measured.live_rate,
        raw_duplicates=raw_rows - compared.matched,
        agrees=found.agree,
        windows_compared=found.windows.windows,
        audit_rows_per_second=compared.matched / audit_seconds,
    )
