"""The pool that reads images: bounded, and a read that hangs takes nobody's place."""

import threading
import time

import pytest

from inference_workers.images.pool import HANGING_MAX, ImagePool
from inference_workers.ports import Item
from inference_workers.tasks.inputs import Refused
from schemas.requests import ImageReference
from tests.fakes import FakeClock

WAIT_SECONDS = 10.0


def reference(name="a.png"):
    return ImageReference(name=name, media_type="image/png")


class Reads:
    """`hang` waits until let go; all others are read at once. Says how many were under way together."""

    def __init__(self):
        self.go = threading.Event()
        self.started = threading.Semaphore(0)
        self._lock = threading.Lock()
        self.now = self.most = 0

    def __call__(self, asked):
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        self.started.release()
        try:
            if asked.name == "hang":
                assert self.go.wait(WAIT_SECONDS)
            if asked.name == "bad":
                raise Refused("image_undecodable", "no picture")
            if asked.name == "bug":
                raise KeyError("nobody foresaw this")
            return Item((), asked.name.encode(), cost=1)
        finally:
            with self._lock:
                self.now -= 1


def collected(pool, count):
    """What comes until there are `count`, by ticket."""
    found, until = {}, time.monotonic() + WAIT_SECONDS
    while len(found) < count and time.monotonic() < until:
        for ticket, one, start, end in pool.collect():
            assert start <= end
            assert ticket not in found, "each ticket comes once"
            found[ticket] = one
        time.sleep(0.001)
    return found


@pytest.fixture
def reads():
    made = Reads()
    yield made
    made.go.set()


def test_what_is_read_refused_or_breaks_comes_by_ticket(reads):
    pool = ImagePool(FakeClock(), threads=2, timeout_seconds=1.0)
    assert (pool.room(), pool.collect()) == (4, [])
    for ticket, name in enumerate(["a", "bad", "bug", "b"]):
        pool.submit(ticket, reads, reference(name))
    found = collected(pool, 4)
    assert (found[0].content, found[3].content) == (b"a", b"b")
    assert (found[1].code, found[2].code) == ("image_undecodable", "image_error")
    assert "KeyError" in str(found[2])
    assert (pool.room(), reads.most <= 2) == (4, True)


def test_a_read_tells_when_a_thread_was_at_it_and_not_how_long_it_waited_for_one(reads):
    clock = FakeClock()
    pool = ImagePool(clock, threads=1, timeout_seconds=100.0)
    begin = clock.monotonic()
    pool.submit(0, reads, reference("hang"))
    pool.submit(1, reads, reference("a"))
    assert reads.started.acquire(timeout=WAIT_SECONDS)
    clock.advance(7.0)
    reads.go.set()
    done, until = [], time.monotonic() + WAIT_SECONDS
    while len(done) < 2 and time.monotonic() < until:
        done += pool.collect()
        time.sleep(0.001)
    assert [(one.ticket, one.start - begin, one.end - begin) for one in done] == [(0, 0.0, 7.0), (1, 7.0, 7.0)]


def test_no_more_are_read_at_once_than_there_are_threads(reads):
    pool = ImagePool(FakeClock(), threads=3, timeout_seconds=1.0)
    for ticket in range(6):
        pool.submit(ticket, reads, reference("hang"))
    assert pool.room() == 0
    for _ in range(3):
        assert reads.started.acquire(timeout=WAIT_SECONDS)
    assert not reads.started.acquire(timeout=0.05)
    reads.go.set()
    assert len(collected(pool, 6)) == 6
    assert reads.most == 3


def test_a_read_that_hangs_is_given_up_and_another_thread_takes_its_place(reads):
    clock = FakeClock()
    pool = ImagePool(clock, threads=1, timeout_seconds=2.0)
    pool.submit(0, reads, reference("hang"))
    pool.submit(1, reads, reference("a"))
    assert reads.started.acquire(timeout=WAIT_SECONDS)
    clock.advance(2.0)
    assert pool.collect() == [], "not yet"
    clock.advance(0.1)
    found = collected(pool, 2)
    assert (found[0].code, found[1].content) == ("image_timeout", b"a")
    assert "2 s" in str(found[0])
    reads.go.set()
    pool.submit(2, reads, reference("b"))
    assert list(collected(pool, 1)) == [2], "the one that came back late is thrown away"


def test_when_every_thread_hangs_reads_are_refused_until_one_comes_back(reads):
    clock = FakeClock()
    pool = ImagePool(clock, threads=2, timeout_seconds=1.0)
    for ticket in range(HANGING_MAX + 2):
        pool.submit(ticket, reads, reference("hang"))
        assert reads.started.acquire(timeout=WAIT_SECONDS)
        clock.advance(1.1)
        assert collected(pool, 1)[ticket].code == "image_timeout"
    assert reads.now == HANGING_MAX + 2, "bounded: so many threads, and no more"
    pool.submit(100, reads, reference("a"))
    refusal = collected(pool, 1)[100]
    assert (refusal.code, "hang" in str(refusal)) == ("image_timeout", True)
    reads.go.set()
    until = time.monotonic() + WAIT_SECONDS
    found = refusal
    while isinstance(found, Refused) and time.monotonic() < until:
        pool.submit(101, reads, reference("a"))
        found = collected(pool, 1)[101]
    assert found.content == b"a"


def test_threads_end_when_there_is_nothing_to_read(reads):
    pool = ImagePool(FakeClock(), threads=2, timeout_seconds=1.0)
    before = {thread for thread in threading.enumerate() if thread.name == "images"}
    pool.submit(0, reads, reference("a"))
    assert len(collected(pool, 1)) == 1
    until = time.monotonic() + WAIT_SECONDS
    while {one for one in threading.enumerate() if one.name == "images"} - before and time.monotonic() < until:
        time.sleep(0.001)
    assert {one for one in threading.enumerate() if one.name == "images"} <= before
