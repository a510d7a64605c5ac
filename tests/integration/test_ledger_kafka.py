"""The ledger on a real broker: exact through kills and rebalances, and its alerts by the stage that judges them."""

import itertools
import signal
import time
from collections import Counter
from random import Random

import pytest

from infra.clock import SystemClock
from infra.provision import apply_topics
from infra.settings import StackSettings
from schemas.topics import REQUESTS
from tests.ledger_world import PARTITIONS, Processes, World
from tests.parts import takes_long

PATIENCE_MS = 500
"""Reports may come so much later than each 0.2 s before the machine has held the ledger up."""
OUTCOMES = ("answered", "answered", "answered", "failed", "shed", "dead_lettered", "owed")


@pytest.fixture
def world(tmp_path, request):
    world = World(tmp_path, **getattr(request, "param", {"window_seconds": 2}))
    yield world
    world.close()


def test_the_account_is_exact_through_kills_and_rebalances(world, tmp_path, until):
    takes_long("kills and rebalances of ledgers; their laws cut and restart anywhere")
    random, processes, expected = Random(5), Processes(world, tmp_path), Counter()

    def traffic(count):
        for _ in range(count):
            scenario, outcome = random.choice(["search", "ads"]), random.choice(OUTCOMES)
            record = world.ask(random.randrange(PARTITIONS), scenario)
            expected[scenario, "asked"] += 1
            expected[scenario, outcome] += 1
            for _ in range(random.choice([1, 1, 1, 2])):  # a worker that died answers again
                world.settle(record, outcome, scenario)
        assert world.publisher.flush(20) == 0

    def settled():
        try:
            until(lambda: world.account() == expected, "the ledger's account is the plain count", 40.0)
        except pytest.fail.Exception:
            pytest.fail(f"{world.account()} is not {expected}\n{processes.logs()}")

    try:
        traffic(600)
        first = processes.start()
        settled()
        traffic(600)
        second = processes.start()
        until(lambda: processes.owns(second), "the second shares the partitions", 40.0)
        settled()
        traffic(600)
        first.kill()
        traffic(300)
        settled()
        third = processes.start()
        until(lambda: processes.owns(third), "the third shares the partitions", 40.0)
        traffic(300)
        settled()
        third.send_signal(signal.SIGTERM)
        assert third.wait(30) == 0
        traffic(100)
        settled()
    finally:
        processes.close()
    books = {partition: book for (partition, _), (book, _) in world.books.items()}
    assert {number: book.next_offset for number, book in books.items()} == dict(world.ends)
    assert sum(book.repeated for book in books.values()) > 100


def serve(world, until, seconds, rate=40.0, answers=lambda number: True, waiting=None):
    """A worker's life: requests come at a rate, and those that `answers` says are answered, the oldest first."""
    waiting = [] if waiting is None else waiting
    began, number = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        waiting.append(world.ask(number % PARTITIONS))
        if answers(number) and waiting:
            world.settle(waiting.pop(0), "answered")
        number += 1
        world.watch()
        time.sleep(1 / rate)
    return waiting


def longest_gap(reported_ms, since_ms):
    """By how much two reports that should come each 0.2 s came apart more than that, at most."""
    times = sorted(one for one in reported_ms if one >= since_ms)
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return max(0, max(gaps, default=0) - 200 - PATIENCE_MS)


@pytest.mark.parametrize("world", [{"window_seconds": 4, "stall_windows": 1.25}], indirect=True)
def test_a_worker_that_answers_nothing_is_called_out_within_two_windows_and_idle_is_no_fault(world, until):
    world.start()
    waiting = serve(world, until, 3.0)
    for record in waiting:
        world.settle(record, "answered")
    time.sleep(0.3)
    until(lambda: world.account()["search", "asked"] > 0 and not world.account()["search", "owed"], "all is told", 20)
    began = time.monotonic()
    until(lambda: world.watch() and time.monotonic() - began > 9.0, "more than two idle windows", 20)
    assert world.alerts == []
    hung_ms = SystemClock().now_ms()
    waiting = serve(world, until, 5.0, answers=lambda number: False)
    until(
        lambda: serve(world, until, 0.2, answers=lambda number: False, waiting=waiting) and world.alerts,
        "it is told",
        40,
    )
    (alert,) = world.alerts
    assert (alert.kind.value, alert.status.value, alert.series.scenario) == ("stall", "open", "search")
    assert "worker w1 answers none of" in alert.summary
    held_up_ms = longest_gap(world.reported_ms, hung_ms)  # the ledger itself, by the machine
    assert hung_ms + 4_000 <= alert.opened_ms <= hung_ms + 8_000 + held_up_ms
    for record in waiting:
        world.settle(record, "answered")
    until(lambda: ("stall", "resolved") in world.kinds(), "it is over", 40)
    assert {kind for kind, _ in world.kinds()} == {"stall"}


@pytest.mark.parametrize("world", [{"window_seconds": 2, "lag_windows": 1.0}], indirect=True)
def test_a_backlog_that_was_there_before_the_ledger_is_lag_while_it_is_answered(world, until):
    takes_long("a backlog; a worker that answers nothing is called out in any case")
    waiting = [world.ask(number % PARTITIONS) for number in range(600)]
    assert world.publisher.flush(20) == 0
    time.sleep(2.5)  # the oldest must be older than a window
    world.start()
    until(lambda: serve(world, until, 0.5, waiting=waiting) and ("lag", "open") in world.kinds(), "it is told", 40)
    assert {kind for kind, _ in world.kinds()} == {"lag"}
    for record in waiting:
        world.settle(record, "answered")
    until(lambda: ("lag", "resolved") in world.kinds(), "it is caught up", 30)


def test_a_topic_that_is_made_anew_begins_a_new_book(world, until, caplog):
    takes_long("a topic made anew")
    world.start()
    for number in range(30):
        world.settle(world.ask(number % PARTITIONS), "answered" if number % 2 else "owed")
    until(lambda: world.account()["search", "owed"] == 15, "the first book", 20)
    before = world.identity["topic_id"]
    for future in world.cluster.admin.delete_topics([REQUESTS.name]).values():
        future.result(20)
    until(lambda: world.cluster.partitions(REQUESTS.name) == 0, "it is gone", 20)
    apply_topics(world.kafka, StackSettings(topic_partitions=PARTITIONS), say=lambda text: None)
    until(lambda: world.cluster.topic_id(REQUESTS.name) != before, "it is made anew", 20)
    world.identity["topic_id"] = world.cluster.topic_id(REQUESTS.name)
    world.ends.clear()
    for number in range(9):
        world.settle(world.ask(number % PARTITIONS), "answered")
    expected = {("search", "asked"): 9, ("search", "answered"): 9}
    until(lambda: world.account() == expected, "a new book", 40)
    assert "was made anew" in caplog.text
