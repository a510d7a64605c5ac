"""Ends of partitions where nothing but transactions' markers follows what is committed."""

from infra.up.held_ends import HeldEnds
from tests.fakes import FakeBroker, FakeRangeReader

PLACE = ("t", 0)


class World:
    """A partition of ten records, of which `gaps` at the end hold nothing."""

    def __init__(self, gaps=0):
        self.broker = FakeBroker()
        self.reader = FakeRangeReader(self.broker)
        self.ends, self.after = HeldEnds(self.reader), 0
        self.append(10 - gaps)
        self.append_gaps(gaps)

    def append(self, count):
        for _ in range(count):
            self.broker.append("t", b"x", partition=0)
        self.after += count

    def append_gaps(self, count):
        for _ in range(count):
            self.broker.append_gap("t", 0)
        self.after += count

    def make_anew(self):
        self.broker.records.clear()
        self.broker.gaps.clear()
        self.after = 0

    def look(self, committed, first=0):
        return self.ends.of({PLACE: committed}, {PLACE: (first, self.after)})[PLACE]


def test_a_marker_at_the_end_is_cut_off_once_the_group_stands_still_before_it():
    world = World(gaps=1)
    assert world.look(9) == (0, 10)
    assert world.look(9) == (0, 9)


def test_a_record_that_waits_is_asked_for_once():
    world = World()
    assert [world.look(4) for _ in range(5)] == [(0, 10)] * 5
    assert world.reader.opened == 1


def test_a_group_that_moves_is_not_asked_about():
    world = World()
    for committed in range(10):
        assert world.look(committed) == (0, 10)
    assert world.reader.opened == 0


def test_of_an_end_that_moves_only_what_is_new_is_read():
    world = World(gaps=2)
    assert [world.look(8), world.look(8)] == [(0, 10), (0, 8)]
    world.append_gaps(1)
    assert world.look(8) == (0, 8)
    world.append(1)
    assert world.look(8) == (0, 12)
    assert world.look(12) == (0, 12)


def test_what_retention_removed_counts_from_where_the_log_begins():
    world = World(gaps=3)
    assert [world.look(2, first=7) for _ in range(2)] == [(7, 10), (7, 7)]


def test_a_topic_made_anew_is_asked_about_again():
    world = World(gaps=1)
    assert [world.look(9), world.look(9)] == [(0, 10), (0, 9)]
    world.make_anew()
    world.append(4)
    assert [world.look(0), world.look(0)] == [(0, 4), (0, 4)]


def test_a_topic_made_anew_that_comes_as_far_is_asked_about_again():
    world = World(gaps=1)
    assert [world.look(9), world.look(9)] == [(0, 10), (0, 9)]
    world.make_anew()
    world.append(4)
    assert world.look(0) == (0, 4)
    world.append(6)
    assert [world.look(9), world.look(9)] == [(0, 10), (0, 10)]


def test_partitions_that_are_gone_are_forgotten():
    world = World(gaps=1)
    world.look(9)
    assert world.ends.of({}, {}) == {}
    assert world.look(9) == (0, 10)  # nothing is known of it any more


def test_a_log_that_does_not_tell_leaves_the_ends_as_they_are_and_is_asked_once_a_look():
    world = World()
    places = [("t", 0), ("u", 0), ("v", 0)]
    for topic in ("u", "v"):
        for _ in range(10):
            world.broker.append(topic, b"x", partition=0)
    committed, ranges = dict.fromkeys(places, 4), dict.fromkeys(places, (0, 10))
    world.ends.of(committed, ranges)
    world.reader.silent = set(places)
    for look in (1, 2):
        assert world.ends.of(committed, ranges) == ranges
        assert world.reader.opened == look
    world.reader.silent.clear()
    assert world.ends.of(committed, ranges) == ranges
    assert world.reader.opened == 5
