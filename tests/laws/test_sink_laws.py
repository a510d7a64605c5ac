"""The sink, whatever storage does: good rows are stored once, bad ones become dead letters, memory stays bounded."""

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.ports import InvalidRecord, Record, RetryLater
from schemas.base import Reason
from stream_jobs.sink import RowSink

TABLE = "rows"


@dataclass
class Owner:
    """A partition; its dead letters are kept."""

    alive: bool = True
    letters: list = field(default_factory=list)

    def dead_letter(self, record, error):
        self.letters.append((record.offset, error))


@dataclass
class Server:
    """A table that refuses blocks with bad rows, drops connections as scripted, and remembers tokens.

    `script` for the next inserts: "away" nothing arrives, "lost" it is stored and the answer is lost, "" all is well.
    """

    script: list[str] = field(default_factory=list)
    bad: frozenset[int] = frozenset()
    stored: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    tried: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)
    known: set[str] = field(default_factory=set)

    def insert(self, table, columns, *, token):
        rows = tuple(columns["n"])
        self.tried.append((token, rows))
        what = self.script.pop(0) if self.script else ""
        if what == "away":
            raise RetryLater("connection refused")
        if self.bad & set(rows):
            raise InvalidRecord("a bad value")
        if token not in self.known:
            self.known.add(token)
            self.stored.extend(rows)
            self.blocks.append(len(rows))
        if what == "lost":
            raise RetryLater("connection reset")
        return len(rows)


async def no_wait(seconds):
    await asyncio.sleep(0)


def run(server, parts, **limits):
    """Hand rows over record by record, as the job does, and flush. Returns the owner and the most rows held."""

    async def main():
        sink, owner, most = RowSink(server, threads=1, sleep=no_wait, **limits), Owner(), 0
        storing = asyncio.create_task(sink.run(60.0))
        for offset, rows in enumerate(parts):
            await sink.room()
            sink.add(owner, Record("t", 0, offset, 0, None, b"x"), {TABLE: {"n": list(rows)}})
            most = max(most, sink._held)
        await sink.flush()
        storing.cancel()
        assert sink._held == 0
        sink.close()
        return owner, most

    return asyncio.run(main())


def in_parts(count, size):
    return [range(first, min(first + size, count)) for first in range(0, count, size)]


outages = st.lists(st.sampled_from(["", "away", "lost"]), max_size=25)


@given(st.integers(1, 90), st.integers(1, 13), st.frozensets(st.integers(0, 89), max_size=12), outages)
def test_good_rows_are_stored_once_and_bad_ones_are_named(count, size, bad, script):
    server = Server(script=list(script), bad=bad)
    owner, _ = run(server, in_parts(count, size), block_rows=32, rows_max=60)
    assert sorted(server.stored) == [n for n in range(count) if n not in bad]
    named = {
        offset * size + int(row)
        for offset, error in owner.letters
        for row in str(error).partition("(")[2].partition(")")[0].split(",")
    }
    assert named == {n for n in bad if n < count}
    assert all(error.reason is Reason.REFUSED_BY_TABLE for _, error in owner.letters)
    assert len({offset for offset, _ in owner.letters}) == len(owner.letters), "one dead letter a record and block"


@given(st.integers(1, 60), outages)
def test_a_block_is_sent_again_with_its_own_token(count, script):
    server = Server(script=list(script))
    run(server, in_parts(count, 5), block_rows=16, rows_max=40)
    by_rows, by_token = {}, {}
    for token, rows in server.tried:
        assert by_rows.setdefault(rows, token) == token
        assert by_token.setdefault(token, rows) == rows


def test_halves_have_tokens_of_their_own():
    server = Server(bad=frozenset({3}))
    run(server, [range(8)])
    tokens = [token for token, _ in server.tried]
    assert len(set(tokens)) == len(tokens)
    assert len(server.tried) <= 2 * 4  # a bad row among n is found in two inserts a halving


@pytest.mark.parametrize("size", [1, 7, 500])
def test_rows_held_are_bounded_by_the_bound_and_one_record(size):
    server = Server(script=["away"] * 30)
    _, most = run(server, in_parts(4_000, size), block_rows=1_000, rows_max=3_000)
    assert most < 3_000 + size
    assert sorted(server.stored) == list(range(4_000))


def test_blocks_are_large_under_load():
    """What came while a block was on its way goes together in the next."""
    server = Server(script=["away"] * 5)
    run(server, in_parts(400_000, 500))
    assert min(server.blocks) >= 10_000


def test_rows_of_a_lost_partition_are_not_stored():
    async def main():
        server, owner = Server(), Owner()
        sink = RowSink(server, threads=1)
        sink.add(owner, Record("t", 0, 0, 0, None, b"x"), {TABLE: {"n": [1, 2]}})
        owner.alive = False
        await sink.flush()
        sink.close()
        return server.stored

    assert asyncio.run(main()) == []
