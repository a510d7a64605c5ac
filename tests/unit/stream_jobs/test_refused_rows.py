"""Rows that the table refused, put back: buried by the sink, named by the letter, made by stage 1 as they were."""

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.dead_letters import DeadLetters
from infra.ports import Record
from infra.repair.letters import Filter, letters_in
from infra.repair.requeue import Fate, Requeue
from schemas.base import DecodeError, decode
from schemas.refused_rows import RANGES_CHARACTERS_MAX, ROWS_HEADER, RefusedRows
from schemas.tables import REQUESTS
from schemas.topics import REQUEUES, TELEMETRY
from schemas.windows import WINDOW_KINDS
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.settings import JobSettings
from stream_jobs.sink import RowSink
from tests.fakes import FakeBroker, FakeClock, FakePublisher, FakeTable
from tests.telemetry_events import T0, record, served, stored, ticked

NAME = REQUESTS.name
LETTERS = "inference.telemetry.dead-letters"


class Logs:
    """`requeue.Logs` on a broker."""

    def __init__(self, broker):
        self.broker = broker

    def markers(self, first):
        return iter([one for one in self.broker.of(REQUEUES.name) if one.offset >= first])

    def end(self, topic, partition):
        return len(self.broker.records[topic, partition])

    def since(self, topic, partition, first):
        return iter(self.broker.records[topic, partition][first:])


class World:
    """Stage 1 and the sink over a telemetry log, and a table that refuses rows while `bad` says so."""

    alive = True

    def __init__(self):
        self.broker = FakeBroker(FakeClock(T0))
        self.publisher = FakePublisher(self.broker)
        self.bad = set()
        self.table = FakeTable(lambda row: row["offset"] in self.bad)
        self.stage = RequestStage(
            JobSettings(window_seconds=10), topic_id="t", partition=0, window_partitions=1, requests=AnyRequests()
        )
        self.windows = []

    def dead_letter(self, source, error):
        DeadLetters(self.publisher, "jobs.score").send(source, error)

    def tell(self, message, seconds=1.0):
        self.broker.clock.advance(seconds)
        made = record(message, 0, 0)
        self.broker.append(TELEMETRY.name, made.value, partition=0, headers=made.headers)

    def run(self):
        """Take in what is new, as the job does."""

        async def taken():
            sink = RowSink(self.table, threads=1)
            for one in self.broker.records[TELEMETRY.name, 0][self.stage.next_offset :]:
                effects = self.stage.apply(one)
                sink.add(self, one, effects.rows)
                self.windows += [decode(event.headers, event.value, WINDOW_KINDS).data for event in effects.events]
            await sink.flush()
            sink.close()

        asyncio.run(taken())

    def requeue(self):
        run = Requeue(self.publisher, Logs(self.broker), self.broker.clock, f"run-{random.random()}")
        run.read()
        return [one.fate for one in run.run(list(letters_in(iter(self.broker.of(LETTERS)), Filter())))]

    def visible(self):
        """What readers see: of each request the row with the highest version, of equal ones the last."""
        found = {}
        for row in self.table.rows[NAME]:
            known = found.get(row["offset"])
            if known is None or row["version"] >= known["version"]:
                found[row["offset"]] = row
        return found


def test_refused_rows_come_back_as_they_would_have_been_and_nothing_is_counted_twice():
    clean, world = World(), World()
    world.bad = {101, 102, 107}
    for one in (clean, world):
        one.tell(ticked())
        one.tell(served(range(100, 110)))
        one.tell(served(range(108, 114)))  # two are told again
        one.run()
    assert sorted(world.visible()) == [100, 103, 104, 105, 106, *range(108, 114)]
    world.bad = set()
    assert world.requeue() == [Fate.REQUEUED]
    assert world.requeue() == [Fate.BEFORE]
    for one in (clean, world):
        one.tell(ticked(), seconds=30.0)
        one.run()
    assert world.visible().keys() == clean.visible().keys()
    for offset, row in world.visible().items():
        left_out = {"score", "learning"} if offset in (101, 102, 107) else set()
        differs = {name for name, value in clean.visible()[offset].items() if repr(value) != repr(row[name])}
        assert differs <= left_out
    sums = [[(s.key, s.answered, s.repeated) for w in one.windows for s in w.series] for one in (clean, world)]
    assert sums[0] == sums[1]
    assert len(world.table.rows[NAME]) == 14, "what was not refused is not stored again"


def test_what_is_refused_again_can_be_put_back_again():
    world = World()
    world.bad = {5}
    world.tell(served(range(10)))
    world.run()
    world.requeue()
    world.run()
    assert len(world.broker.of(LETTERS)) == 2
    world.bad = set()
    assert world.requeue() == [Fate.BEFORE, Fate.REQUEUED]
    world.run()
    row = world.visible()[5]
    assert (row["telemetry_offset"], row["served_at"]) == (0, world.visible()[4]["served_at"])
    assert world.requeue() == [Fate.BEFORE, Fate.BEFORE]


def test_a_request_that_the_job_does_not_know_is_told_as_any_other():
    """The job's state began anew since: then its windows have not counted it."""
    world = World()
    one = record(served(range(4)), 0, T0)
    rows = (ROWS_HEADER, RefusedRows.of_offsets([2], 7, T0 - 5_000).text().encode())
    effects = world.stage.apply(with_header(one, rows))
    assert stored(effects)["offset"] == [0, 1, 2, 3]
    assert set(stored(effects)["telemetry_offset"]) == {0}


def with_header(one, header):
    return Record(one.topic, one.partition, one.offset, one.timestamp_ms, one.key, one.value, (*one.headers, header))


@pytest.mark.parametrize(
    "text", [b"", b"1 2", b"1 2 5-4", b"1 2 4,3", b"1 2 3,", b"-1 2 3", b"9999999999999999999 2 3", b"\xff", None]
)
def test_a_header_that_is_broken_is_a_dead_letter_or_none(text):
    stage = World().stage
    one = with_header(record(served(range(4)), 0, T0), (ROWS_HEADER, text))
    if text is None:
        assert stored(stage.apply(one))["offset"] == [0, 1, 2, 3]
        return
    with pytest.raises(DecodeError, match="wrong_headers"):
        stage.apply(one)
    assert stage.next_offset == 0, "nothing was taken in"


@given(st.sets(st.integers(0, 400), min_size=1), st.integers(0, 2**63 - 1), st.integers(0, 10**13))
def test_what_a_letter_names_is_what_was_refused(offsets, told_at, served_ms):
    rows = RefusedRows.of_offsets(offsets, told_at, served_ms)
    assert RefusedRows.of_text(rows.text()) == rows
    assert rows.has(range(402)) == [offset in offsets for offset in range(402)]
    named = RefusedRows.of_detail(f"{NAME} refused 3 of 9 rows {rows.detail()}: (requests 1 told at 2, served at 3)")
    assert named == rows or (len(rows.text()) > RANGES_CHARACTERS_MAX and named is None)
