"""Stopping the score job: what is committed is stored, whatever the stop interrupts."""

import asyncio
import contextlib
import threading
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from infra.connect import NothingRunning
from infra.ports import Fatal, InvalidRecord, Record, RetryLater
from infra.settings import ClickHouseSettings, KafkaSettings, SettingsError
from stream_jobs import jobs_cli
from stream_jobs.partition_runner import StageSpec
from stream_jobs.score_job import ScoreJob
from stream_jobs.sink import RowSink
from stream_jobs.stage import Effects
from stream_jobs.state_log import PartitionState
from stream_jobs.state_store import KafkaStateStore
from tests.fakes import FakeBroker, FakeClock, FakePublisher, FakeTable


class Away(FakeTable):
    """A table that is away until told otherwise."""

    def __init__(self):
        super().__init__()
        self.back, self.asked = threading.Event(), 0

    def insert(self, table, columns, *, token):
        self.asked += 1
        if not self.back.is_set():
            raise RetryLater("away")
        return super().insert(table, columns, token=token)


class CountingStage:
    """A row for each record."""

    def __init__(self):
        self.restore({}, 0)

    def apply(self, record):
        self.next_offset = record.offset + 1
        return Effects({"rows": {"offset": [record.offset]}})

    def skip(self, record):
        raise AssertionError(record)

    def dirty_pages(self):
        return {"page": b"x"}

    def all_pages(self):
        return {"page": b"x"}

    def mark_clean(self):
        pass

    def restore(self, pages, next_offset):
        self.next_offset = next_offset
        return ()


class Store:
    """A StateStore in which two writers at once are noticed; it waits while `slow` is set."""

    def __init__(self, broker):
        self.broker, self.fail, self.slow, self.writers, self.most = broker, [], threading.Event(), 0, 0
        self.writing = threading.Event()

    def append(self, partition, records):
        self.writers += 1
        self.most = max(self.most, self.writers)
        self.writing.set()
        while self.slow.is_set():
            threading.Event().wait(0.001)
        self.writers -= 1
        if self.fail:
            raise self.fail.pop(0)
        return [self.broker.append("state", value, key=key, partition=partition).offset for key, value in records]

    def read(self, partition, start, through):
        yield from self.broker.records["state", partition][start : through + 1]


class Consumer:
    """Owns the one partition for ever."""

    def __init__(self):
        self.commits = []

    async def start_offset(self, topic, partition, source):
        return None, 0

    async def place(self, topic, partition, next_offset):
        return 1

    def displace(self, topic, partition):
        pass

    def end_offset(self, topic, partition):
        return None

    def owns(self, topic, partition, generation):
        return True

    async def commit_barrier(self, offsets, generation):
        self.commits.append(offsets["in", 0])


class Job:
    """A score job on fakes, with one record taken."""

    def __init__(self, **arguments):
        self.broker, self.table, self.consumer, self.fatal = FakeBroker(), Away(), Consumer(), []
        self.store = Store(self.broker)
        new_state = lambda partition: PartitionState(self.store, partition, owner="a1", source="log", digest="d")  # noqa: E731
        self.job = ScoreJob(
            {"in": StageSpec("in", "log", "d", lambda partition: CountingStage(), new_state)},
            self.table,
            FakePublisher(self.broker),
            FakeClock(),
            self.fatal.append,
            barrier_interval_seconds=0.01,
            row_flush_seconds=60,
            tick_seconds=60,
            **arguments,
        )

    async def __aenter__(self):
        await self.job.start(self.consumer)
        self.job.assigned({("in", 0)}, 1)
        await self.until(self.job.owned.runners)
        for offset in range(3):
            await self.job.take(Record("in", 0, offset, 0, None, b""), 1)
        return self

    async def __aexit__(self, *error):
        self.table.back.set()
        self.store.slow.clear()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    @property
    def stored(self):
        return [row["offset"] for row in self.table.rows["rows"]]


def test_a_stop_while_a_barrier_stores_rows_loses_none():
    async def run():
        async with Job() as job:
            await job.until(lambda: job.table.asked)
            stop = asyncio.create_task(job.job.finish())
            await asyncio.sleep(0.02)
            job.table.back.set()
            await stop
            assert job.consumer.commits == [3]
            assert job.stored == [0, 1, 2]
            assert job.job.committed_all
            assert job.fatal == []

    asyncio.run(run())


def test_a_stop_while_storage_stays_away_commits_nothing():
    async def run():
        async with Job(last_barrier_seconds=0.1) as job:
            await job.until(lambda: job.table.asked)
            await job.job.finish()
            job.table.back.set()
            await asyncio.sleep(0.05)
            assert job.consumer.commits == []
            assert not job.job.committed_all

    asyncio.run(run())


def test_a_stop_while_a_barrier_writes_its_snapshot_waits_for_it():
    async def run():
        async with Job() as job:
            job.store.writing.clear()
            job.store.slow.set()
            job.table.back.set()
            await job.until(job.store.writing.is_set)
            stop = asyncio.create_task(job.job.finish())
            await asyncio.sleep(0.02)
            job.store.slow.clear()
            await stop
            assert job.store.most == 1
            assert job.consumer.commits == [3]

    asyncio.run(run())


def test_partitions_that_come_after_the_stop_are_left_to_the_next_owner():
    async def run():
        async with Job() as job:
            job.table.back.set()
            await job.job.finish()
            job.job.assigned({("in", 0)}, 2)
            await asyncio.sleep(0.02)
            assert job.job.owned.runners() == []
            assert job.fatal == []
            assert job.job.committed_all

    asyncio.run(run())


@pytest.mark.parametrize("stopping", [False, True])
@pytest.mark.parametrize("error", [InvalidRecord("the manifest is too large"), Fatal("fenced")])
def test_state_that_cannot_be_written_ends_the_process(error, stopping):
    async def run():
        async with Job() as job:
            job.store.fail = [error]
            job.job.owned.closing = stopping
            job.table.back.set()
            if stopping:
                await job.job.finish()
            await job.until(lambda: job.fatal)
            assert job.fatal[0] is error
            assert job.consumer.commits == []

    asyncio.run(run())


def test_rows_of_a_flush_that_is_cancelled_are_stored_by_the_next_and_only_those():
    async def run():
        table, owner = Away(), SimpleNamespace(alive=True)
        sink = RowSink(table, block_rows=2, rows_max=100, threads=1)
        table.back.set()

        def insert(name, columns, *, token):
            if columns["id"] == [2, 3]:
                table.back.clear()
            return Away.insert(table, name, columns, token=token)

        sink._writer = SimpleNamespace(insert=insert)
        for number in range(6):
            sink.add(owner, Record("in", 0, number, 0, None, b""), {"t": {"id": [number]}})
        flush = asyncio.create_task(sink.flush())
        async with asyncio.timeout(10):
            while table.back.is_set():
                await asyncio.sleep(0.001)
        sink.add(owner, Record("in", 0, 6, 0, None, b""), {"t": {"id": [6]}})
        flush.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await flush
        assert [row["id"] for row in table.rows["t"]] == [0, 1]
        sink._writer = table
        table.back.set()
        await sink.flush()
        assert [row["id"] for row in table.rows["t"]] == list(range(7))
        assert sink._held == 0
        sink.close()

    asyncio.run(run())


@pytest.mark.parametrize("at_once", [True, False])
def test_a_state_record_that_is_refused_is_named(at_once):
    broker = FakeBroker()
    publisher = FakePublisher(broker)
    publisher.fail = [None] if at_once else [None, InvalidRecord("message size too large")]
    store = KafkaStateStore(KafkaSettings(bootstrap_servers="127.0.0.1:9"), publisher, "state", FakeClock())
    body = b"x" * (3 * broker.record_bytes_max if at_once else 5)
    with pytest.raises(InvalidRecord, match=rf"state\[2\] refused state record 1\|a\|manifest of {len(body)} bytes"):
        store.append(2, [(b"1|a|page|p|0", b"x"), (b"1|a|manifest", body)])


def test_jobs_reach_what_runs_here_when_the_environment_names_nothing(monkeypatch, tmp_path):
    """The same way as every other command; the errors are its errors, too."""
    found = (KafkaSettings(bootstrap_servers="127.0.0.1:9"), ClickHouseSettings(url="http://127.0.0.1:8"))
    seen = []
    monkeypatch.setattr("infra.connect.connection", lambda: found)
    monkeypatch.setattr(jobs_cli, "run_score", lambda *args: seen.append(args) or 0)
    assert CliRunner().invoke(jobs_cli.jobs, ["score"]).exit_code == 0
    assert seen[0][1:] == (*found, 0, False)
    monkeypatch.undo()
    monkeypatch.setenv("INFERWATCH_DATA_DIR", str(tmp_path))
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "CLICKHOUSE_URL"):
        monkeypatch.delenv(f"INFERWATCH_{name}", raising=False)
    assert isinstance(CliRunner().invoke(jobs_cli.jobs, ["score"]).exception, NothingRunning)  # 75, in infra.cli
    monkeypatch.setenv("INFERWATCH_JOBS_WINDOW_SECONDS", "0")
    assert isinstance(CliRunner().invoke(jobs_cli.jobs, ["score"]).exception, SettingsError)  # 78
