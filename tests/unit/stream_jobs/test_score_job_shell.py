"""The shell around a stage: nothing is committed before rows, events and state are safe; nothing is lost."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

import pytest

from infra.dead_letters import DeadLetters
from infra.metrics import NEWER_EVENTS
from infra.ports import InvalidRecord, Record, RetryLater
from schemas.base import DecodeError, Reason
from schemas.dead_letters import REASON_HEADER
from stream_jobs.barrier import Barrier, LostPartitions
from stream_jobs.outbox import Outbox
from stream_jobs.owned_partitions import OwnedPartitions
from stream_jobs.partition_runner import StageSpec
from stream_jobs.sink import RowSink, token_of
from stream_jobs.stage import PAGE_BYTES_MAX, Effects, Outgoing
from stream_jobs.state_log import PartitionState
from tests.fakes import FakeBroker, FakeClock, FakePublisher, FakeTable

GENERATION = 3
NEWER = b"newer"
"""What a newer release sends."""


class SummingStage:
    """Sums numbers. A row for each record, an event for each even one."""

    def __init__(self):
        self.restore({}, 0)

    def apply(self, record):
        if record.value == NEWER:
            self.next_offset = record.offset + 1
            return Effects(passed_over="inferwatch.moon.risen.v1")
        if not record.value.isdigit():
            raise DecodeError(Reason.NOT_JSON, "no number")
        self.total += int(record.value)
        self.next_offset = record.offset + 1
        rows = {"sums": {"id": [record.offset, record.offset], "value": [int(record.value), -1]}}
        events = [] if int(record.value) % 2 else [Outgoing("out", record.value, partition=0)]
        return Effects(rows, events)

    def skip(self, record):
        self.next_offset = record.offset + 1
        return Effects()

    def dirty_pages(self):
        return self.all_pages()

    def all_pages(self):
        return {"sum": b"x" * (PAGE_BYTES_MAX + 1) if self.total > 10**6 else str(self.total).encode()}

    def mark_clean(self):
        pass

    def restore(self, pages, next_offset):
        self.total, self.next_offset = int(pages.get("sum", b"0")), next_offset
        return ()


class BrokerStore:
    """A StateStore on a FakeBroker; `fail` scripts the next appends."""

    def __init__(self, broker):
        self.broker, self.fail = broker, []

    def append(self, partition, records):
        failure = self.fail.pop(0) if self.fail else None
        if failure is not None:
            raise failure
        return [self.broker.append("state", value, key=key, partition=partition).offset for key, value in records]

    def read(self, partition, start, through):
        yield from self.broker.records["state", partition][start : through + 1]


class Consumer:
    """The group's and the broker's side of the consumer."""

    def __init__(self, committed):
        self.committed, self.commits, self.placed = committed, [], []
        self.refuse, self.end, self.owned, self.rejoined = [], 0, True, 0

    async def start_offset(self, topic, partition, source):
        return self.committed, self.committed or 0

    async def place(self, topic, partition, next_offset):
        self.placed.append(next_offset)
        return len(self.placed)

    def displace(self, topic, partition):
        self.placed.append(None)

    def end_offset(self, topic, partition):
        return self.end

    def owns(self, topic, partition, generation):
        return self.owned and generation == GENERATION

    def rejoin(self):
        self.rejoined += 1

    async def commit_barrier(self, offsets, generation):
        failure = self.refuse.pop(0) if self.refuse else None
        if failure is not None:
            raise failure
        self.commits.append(offsets)


class Shell:
    """Everything but Faust, on fakes."""

    def __init__(self, *, bad=None, committed=None, broker=None, rows_max=100, hold=False):
        self.broker, self.clock = broker or FakeBroker(), FakeClock()
        self.publisher = FakePublisher(self.broker, hold=hold)
        self.table, self.store, self.consumer = FakeTable(bad), BrokerStore(self.broker), Consumer(committed)
        self.threads = ThreadPoolExecutor(1)
        self.fatal, self.waits, self.owners = [], [], 0
        self.sink = RowSink(self.table, rows_max=rows_max, threads=1, sleep=self.sleep)
        self.outbox = Outbox(self.publisher, DeadLetters(self.publisher, "jobs.score"))
        spec = StageSpec("in", "log", "digest", lambda partition: SummingStage(), self.new_state, ticks=True)
        self.owned = OwnedPartitions(
            {"in": spec}, self.consumer, self.sink, self.outbox, self.threads, self.clock, self.fatal.append
        )
        self.barrier = Barrier(self.owned, self.consumer, self.sink, self.threads, self.clock)

    async def sleep(self, seconds):
        self.waits.append(seconds)
        await asyncio.sleep(0)

    def new_state(self, partition):
        self.owners += 1
        return PartitionState(self.store, partition, owner=f"{id(self):x}-{self.owners}", source="log", digest="digest")

    async def __aenter__(self):
        self.outbox.start(self.fatal.append)
        self.owned.assigned({("in", 0)}, GENERATION)
        await self.until(lambda: self.owned.runners() or self.fatal)
        return self

    async def __aexit__(self, *error):
        self.owned.revoked()
        self.outbox.stop()
        self.sink.close()
        self.threads.shutdown()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    async def take(self, offset, value, serial=None):
        await self.owned.take(
            Record("in", 0, offset, 0, None, value), len(self.consumer.placed) if serial is None else serial
        )

    @property
    def stage(self):
        return self.owned.runners()[0].stage

    def letters(self):
        return [dict(record.headers)[REASON_HEADER].decode() for record in self.broker.of("in.dead-letters")]


def shell_test(**arguments):
    """Runs the test in an event loop with a shell, and sees that nothing was fatal."""

    def wrap(test):
        def run():
            async def inside():
                async with Shell(**arguments) as shell:
                    await test(shell)
                    assert shell.fatal == []

            asyncio.run(inside())

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return wrap


@shell_test()
async def test_barrier_stores_delivers_snapshots_then_commits(shell):
    for offset in range(4):
        await shell.take(offset, str(offset).encode())
    assert await shell.barrier.run()
    assert [row["value"] for row in shell.table.rows["sums"]] == [0, -1, 1, -1, 2, -1, 3, -1]
    assert [record.value for record in shell.broker.of("out")] == [b"0", b"2"]
    assert shell.consumer.commits == [{("in", 0): 4}]
    assert await shell.barrier.run()
    assert len(shell.consumer.commits) == 1  # nothing moved, nothing is committed


@shell_test()
async def test_storage_away_commits_nothing_until_it_is_back(shell):
    shell.table.fail = [RetryLater("away")] * 3
    await shell.take(0, b"1")
    assert await shell.barrier.run()
    assert shell.waits == [0.1, 0.2, 0.4]
    assert len(shell.table.tokens["sums"]) == 1  # the same token each time
    assert shell.consumer.commits == [{("in", 0): 1}]


@shell_test(hold=True)
async def test_commit_waits_for_delivery_and_failed_events_are_sent_again(shell):
    shell.publisher.fail = [RetryLater("timed out")]
    await shell.take(0, b"2")
    barrier = asyncio.create_task(shell.barrier.run())
    await shell.until(lambda: shell.publisher.flush(0) == 1)
    assert not shell.consumer.commits
    shell.publisher.release()  # fails
    await shell.until(lambda: shell.publisher.flush(0) == 1)
    assert not shell.consumer.commits
    shell.publisher.release()
    assert await barrier
    assert [record.value for record in shell.broker.of("out")] == [b"2"]
    assert shell.consumer.commits == [{("in", 0): 1}]


@shell_test()
async def test_snapshot_that_fails_keeps_the_offsets_and_the_pages(shell):
    await shell.take(0, b"1")
    shell.store.fail = [RetryLater("no leader")]
    assert not await shell.barrier.run()
    assert shell.consumer.commits == []
    assert await shell.barrier.run()
    assert shell.consumer.commits == [{("in", 0): 1}]


@shell_test()
async def test_commit_that_times_out_is_tried_again(shell):
    await shell.take(0, b"1")
    shell.consumer.refuse = [RetryLater("timed out")]
    assert not await shell.barrier.run()
    assert await shell.barrier.run()
    assert shell.consumer.commits == [{("in", 0): 1}]


@shell_test()
async def test_refused_commit_drops_everything_and_joins_again(shell):
    await shell.take(0, b"1")
    shell.consumer.refuse = [LostPartitions("illegal generation")]
    await shell.barrier.run()
    assert shell.owned.runners() == []
    assert shell.consumer.rejoined == 1
    await shell.take(1, b"1")
    assert await shell.barrier.run()
    assert shell.consumer.commits == []


@shell_test()
async def test_partition_that_is_not_ours_any_more_is_not_snapshotted(shell):
    await shell.take(0, b"1")
    records = len(shell.broker.of("state"))
    shell.consumer.owned = False
    assert not await shell.barrier.run()
    assert len(shell.broker.of("state")) == records
    assert shell.consumer.commits == []


@shell_test()
async def test_superseded_partition_is_taken_over_again(shell):
    await shell.take(0, b"5")
    await shell.barrier.run()
    await shell.take(1, b"5")
    shell.new_state(0).take_over()  # someone claims
    await shell.barrier.run()
    assert shell.consumer.commits == [{("in", 0): 1}]
    await shell.until(shell.owned.runners)
    assert shell.stage.total == 5
    assert shell.consumer.placed[-1] == 1
    await shell.take(1, b"5")
    assert await shell.barrier.run()
    assert shell.consumer.commits[-1] == {("in", 0): 2}


def test_restart_goes_on_where_the_state_is():
    async def run():
        broker = FakeBroker()
        async with Shell(broker=broker) as shell:
            for offset in range(3):
                await shell.take(offset, b"7")
            await shell.barrier.run()
            await shell.take(3, b"7")  # not committed: lost with the process
        async with Shell(broker=broker, committed=2) as shell:
            assert shell.stage.total == 21
            assert shell.consumer.placed == [3]
            await shell.take(2, b"7")
            assert shell.stage.total == 21  # inside the state already
            await shell.take(3, b"7")
            assert shell.stage.total == 28

    asyncio.run(run())


@shell_test()
async def test_record_that_cannot_be_used_is_a_dead_letter(shell):
    await shell.take(0, b"garbage")
    await shell.take(1, b"1")
    assert await shell.barrier.run()
    assert shell.letters() == ["not_json"]
    assert shell.consumer.commits == [{("in", 0): 2}]


@shell_test()
async def test_what_a_newer_release_sends_is_no_dead_letter_and_is_committed(shell):
    before = NEWER_EVENTS.labels("in").read()
    for offset, value in enumerate([b"1", NEWER, NEWER, b"2"]):
        await shell.take(offset, value)
    assert await shell.barrier.run()
    assert shell.letters() == []
    assert shell.consumer.commits == [{("in", 0): 4}]
    assert shell.stage.total == 3
    assert NEWER_EVENTS.labels("in").read() == before + 2


@shell_test(bad=lambda row: row["value"] == 3)
async def test_refused_row_is_a_dead_letter_and_the_rest_is_stored(shell):
    for offset in range(6):
        await shell.take(offset, str(offset).encode())
    assert await shell.barrier.run()
    assert [row["value"] for row in shell.table.rows["sums"] if row["value"] >= 0] == [0, 1, 2, 4, 5]
    assert len(shell.table.rows["sums"]) == 11
    assert shell.letters() == ["refused_by_table"]
    assert shell.broker.of("in.dead-letters")[0].value == b"3"
    assert shell.consumer.commits == [{("in", 0): 6}]


@shell_test()
async def test_event_that_is_refused_for_good_is_a_dead_letter(shell):
    shell.publisher.fail = [InvalidRecord("too large")]
    await shell.take(0, b"2")
    assert await shell.barrier.run()
    assert shell.letters() == ["too_large"]


@shell_test(rows_max=4)
async def test_consumption_waits_while_rows_are_not_stored(shell):
    await shell.take(0, b"1")
    await shell.take(1, b"1")
    waiting = asyncio.create_task(shell.take(2, b"1"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    await shell.sink.flush()
    await waiting
    assert shell.stage.next_offset == 3


@shell_test()
async def test_record_of_an_earlier_placing_is_ignored(shell):
    await shell.take(0, b"1")
    await shell.take(1, b"1", serial=0)
    assert shell.stage.next_offset == 1


@shell_test()
async def test_hole_in_the_log_is_asked_for_once_before_it_is_believed(shell):
    await shell.take(0, b"1")
    await shell.take(5, b"1")
    assert shell.stage.next_offset == 1
    assert shell.consumer.placed == [0, 1]
    await shell.take(1, b"1")
    await shell.take(4, b"1")
    await shell.take(4, b"1")
    assert shell.stage.next_offset == 5


@shell_test()
async def test_idle_partition_that_is_caught_up_wants_a_tick(shell):
    await shell.take(0, b"1")
    shell.clock.advance(2.0)
    shell.consumer.end = 2
    assert shell.owned.idle(1.0) == []  # there is a record to come
    shell.consumer.end = 1
    assert shell.owned.idle(1.0) == [("in", 0, 1)]
    assert shell.owned.idle(1.0) == []


@shell_test()
async def test_revoked_partition_is_dropped_without_a_commit(shell):
    await shell.take(0, b"2")
    shell.owned.revoked()
    assert await shell.barrier.run()
    await shell.sink.flush()
    assert shell.consumer.commits == []
    assert shell.table.rows["sums"] == []


@shell_test(hold=True)
async def test_events_of_a_lost_partition_that_were_not_sent_yet_are_left_to_the_next_owner(shell):
    for offset in range(3):
        await shell.take(offset, str(2 * offset).encode())
    await shell.until(lambda: shell.publisher.flush(0) == 1)
    shell.owned.revoked()
    shell.publisher.release()
    await shell.until(lambda: not shell.outbox._lanes)
    assert [record.value for record in shell.broker.of("out")] == [b"0"]


def test_state_page_that_is_too_large_ends_the_process():
    async def run():
        async with Shell() as shell:
            await shell.take(0, b"2000000")
            with pytest.raises(ValueError, match="state page sum"):
                await shell.barrier.run()

    asyncio.run(run())


def test_token_is_of_the_content():
    one = token_of("t", {"id": [1, 2], "value": [0.5, None]})
    assert one == token_of("t", {"id": [1, 2], "value": [0.5, None]})
    assert one != token_of("t", {"id": [1, 2], "value": [0.5, 0.0]})
    assert one != token_of("u", {"id": [1, 2], "value": [0.5, None]})
