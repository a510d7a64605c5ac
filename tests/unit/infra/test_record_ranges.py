"""Which ranges of a log are read to their ends."""

import pytest

from infra.ports import Record
from infra.record_ranges import Unread, first_record, records_between
from tests.fakes import FakeBroker, FakeRangeReader

A, B = ("t", 0), ("t", 1)


def record(partition, offset):
    return Record("t", partition, offset, 0, None, b"")


def test_a_range_is_over_at_its_last_record_or_at_one_behind_a_gap():
    unread = Unread({A: (2, 5), B: (0, 9), ("t", 2): (4, 4)})
    assert unread.places == {A, B}
    assert [one.offset for one in unread.take([record(0, 2), record(0, 4)])] == [2, 4]
    assert unread.places == {B}
    assert unread.take([record(0, 5)]) == []
    assert [one.offset for one in unread.take([record(1, 3), record(1, 12)])] == [3]
    assert not unread


def test_a_range_is_over_when_it_is_said_to_be_read_so_far():
    unread = Unread({A: (0, 5)})
    unread.reached(A, 4)
    assert unread.places == {A}
    unread.reached(B, 9)
    unread.reached(A, 5)
    assert not unread


def test_what_is_left_is_said_in_words():
    unread = Unread({A: (0, 5), B: (3, 7)})
    unread.take([record(0, 2)])
    unread.reached(A, 1)  # what is told late takes nothing back
    assert str(unread) == "t[0]: read up to offset 3 of 5, and 1 more"


def test_a_first_record_that_is_found_ends_the_reading():
    broker = FakeBroker()
    for _ in range(6):
        broker.append("t", b"x", partition=0)
    reader = FakeRangeReader(broker, batch_records=1)
    assert first_record(reader, "t", 0, 2, 6).offset == 2
    assert (reader.opened, reader.closed) == (1, 1)
    assert [one.offset for one in records_between(reader, "t", 0, 4, 6)] == [4, 5]
    reader.fail = [None, RuntimeError("away")]
    with pytest.raises(RuntimeError):
        list(records_between(reader, "t", 0, 0, 6))
    assert reader.opened == reader.closed
