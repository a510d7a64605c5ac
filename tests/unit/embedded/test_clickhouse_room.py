import contextlib
import errno
import io
import os

import pytest

from infra.embedded.clickhouse_engine import EngineError, QueryStats
from infra.embedded.clickhouse_options import Options
from infra.embedded.clickhouse_room import RESERVE_BYTES, NoRoom, RoomWatch
from infra.embedded.clickhouse_service import Admission, Service
from infra.embedded.clickhouse_statement import split_statement


class Disk:
    """A disk of which a test says how much is free, and what the watch asked of the engine."""

    def __init__(self, tmp_path, fails=()):
        self.free, self.asked, self.fails = RESERVE_BYTES, [], list(fails)
        self.watch = RoomWatch(tmp_path, self.allow, lambda folder: self.free)

    def allow(self, allowed):
        if self.fails:
            raise self.fails.pop()
        self.asked.append(allowed)


class FakeConnection:
    def __init__(self, error=None):
        self.stats, self.ran, self.error = QueryStats(), [], error

    def prepare(self, preamble):
        pass

    def run(self, sql, answer):
        self.ran.append(sql)
        return memoryview(b"")

    def insert(self, sql, settings, answer, data):
        if self.error is not None:
            raise self.error
        self.ran.append(sql)

    def close(self):
        pass


class FakeEngine:
    version = "26.9"

    def __init__(self, error=None):
        self.connection = FakeConnection(error)

    def connect(self):
        return self.connection


class FakeReply:
    def __init__(self):
        self.failed, self.done = None, False

    def feed(self, piece):
        pass

    def finish(self, stats):
        self.done = True

    def fail(self, error):
        self.failed = error

    def close(self):
        pass


def answer_to(sql, disk, engine):
    reply = FakeReply()
    service = Service(engine, Admission(), disk.watch)
    service.execute(Options(query=sql), io.BytesIO(), lambda answer: reply, lambda stop: contextlib.nullcontext())
    return reply


def test_merges_stop_once_below_the_reserve_and_start_once_above(tmp_path):
    disk = Disk(tmp_path)
    for free in (RESERVE_BYTES, RESERVE_BYTES - 1, 0, RESERVE_BYTES - 1, RESERVE_BYTES, RESERVE_BYTES + 1):
        disk.free = free
        disk.watch.look()
    assert disk.asked == [False, True]


def test_merges_that_could_not_be_stopped_are_stopped_at_the_next_look(tmp_path):
    disk = Disk(tmp_path, fails=[EngineError(1, "")])
    disk.free = 0
    with pytest.raises(EngineError):
        disk.watch.look()
    disk.watch.look()
    assert disk.asked == [False]


def test_the_check_is_of_now_and_says_how_much_is_left(tmp_path):
    disk = Disk(tmp_path)
    disk.watch.check()
    disk.free = RESERVE_BYTES - 1
    with pytest.raises(NoRoom, match=r"256\.0 MiB left, and nothing is written below 256 MiB: make room"):
        disk.watch.check()


@pytest.mark.parametrize(
    ("sql", "needs"),
    [
        ("INSERT INTO t VALUES (1)", True),
        ("INSERT INTO t SELECT 1", True),
        ("WITH 1 AS x INSERT INTO t SELECT x", True),
        ("CREATE TABLE t (a Int8) ENGINE = MergeTree ORDER BY a", True),
        ("ALTER TABLE t ADD COLUMN b Int8", True),
        ("OPTIMIZE TABLE t FINAL", True),
        ("SELECT 1", False),
        ("EXPLAIN SELECT 1", False),
        ("DROP TABLE t", False),
        ("KILL QUERY WHERE 1", False),
    ],
)
def test_what_writes_needs_room_and_what_makes_room_does_not(sql, needs):
    assert split_statement(sql.encode()).needs_room is needs


def test_no_write_reaches_the_engine_below_the_reserve_and_reads_do(tmp_path):
    disk, engine = Disk(tmp_path), FakeEngine()
    disk.free = 0
    refused = answer_to("INSERT INTO t VALUES (1)", disk, engine)
    assert refused.failed.code == 243
    assert str(refused.failed).startswith("Code: 243. DB::Exception: The disk of ")
    assert "(NOT_ENOUGH_SPACE)" in str(refused.failed)
    assert engine.connection.ran == []
    assert answer_to("SHOW TABLES", disk, engine).done
    assert answer_to("DROP TABLE t", disk, engine).done


def test_an_insert_that_finds_no_room_for_its_rows_is_answered(tmp_path):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    reply = answer_to("INSERT INTO t VALUES (1)", Disk(tmp_path), FakeEngine(full))
    assert reply.failed.code == 243
    assert "No space left on the disk" in str(reply.failed)


def test_a_client_that_has_gone_is_not_a_full_disk(tmp_path):
    gone = BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))
    with pytest.raises(BrokenPipeError):
        answer_to("INSERT INTO t VALUES (1)", Disk(tmp_path), FakeEngine(gone))
