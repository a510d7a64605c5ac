"""What retention and compaction take while the ledger is down, on a real broker: expired, not lost, and it adds up."""

import time

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, ResourceType

from infra.kafka import KafkaTail
from infra.up.traffic import REQUEST_DEAD_LETTERS
from schemas.owed import UNREAD
from schemas.topics import LEDGER_STATE, PREDICTIONS, REQUESTS
from stream_jobs.ledger import partition_ledger
from tests.ledger_world import PARTITIONS, World
from tests.parts import takes_long


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path, window_seconds=2)
    yield world
    world.close()


def ask_all(world, count, outcome=lambda number: "owed"):
    """So many requests, over all partitions; what became of each by its number. Delivered when it returns."""
    asked = []
    for number in range(count):
        asked.append(world.ask(number % PARTITIONS))
        world.settle(asked[-1], outcome(number))
    assert world.publisher.flush(20) == 0
    return asked


def told(world, until, **expected):
    """Wait for the account of the one scenario, and see that it adds up."""
    wanted = {("search", name): count for name, count in expected.items()}
    until(lambda: world.account() == wanted, f"the account is {wanted}, not {dict(world.account())}", 40)
    adds_up(world)


def adds_up(world):
    account = world.account()
    for scenario in {scenario for scenario, _ in account}:
        parts = ("answered", "failed", "shed", "dead_lettered", "owed", "expired")
        assert account[scenario, "asked"] == sum(account[scenario, name] for name in parts), account


def ends(world, topic):
    return {number: after for number, (_, after) in world.cluster.ranges(topic).items()}


def test_requests_that_are_deleted_while_the_ledger_is_down_are_expired_and_not_lost(world, until):
    world.start()
    ask_all(world, 30, lambda number: "answered" if number % 2 else "owed")
    told(world, until, asked=30, answered=15, owed=15)
    world.stop()
    unread = ask_all(world, 9)
    for record in unread[:3]:
        world.settle(record, "answered")
    assert world.publisher.flush(20) == 0
    world.delete(REQUESTS.name, ends(world, REQUESTS.name))
    ask_all(world, 6, lambda number: "answered" if number < 3 else "owed")
    world.start()
    expected = {
        ("search", "asked"): 36,
        ("search", "answered"): 21,  # the three whose requests are gone say their scenario themselves
        ("search", "expired"): 15,
        ("search", "owed"): 3,
        (UNREAD, "asked"): 9,
        (UNREAD, "expired"): 6,
    }
    until(lambda: world.account() == expected, f"the account is {expected}", 40)
    account = world.account()
    assert sum(account[name, "asked"] for name in ("search", UNREAD)) == 45
    ended = ("answered", "expired", "owed")
    assert sum(account[name, how] for name in ("search", UNREAD) for how in ended) == 45


def test_where_answers_are_deleted_while_the_ledger_is_down_the_book_goes_on_and_says_expired(world, until, caplog):
    world.start()
    asked = ask_all(world, 30, lambda number: "answered" if number < 12 else "owed")
    told(world, until, asked=30, answered=12, owed=18)
    before = {number: book.epoch for (number, _), (book, _) in world.books.items()}
    world.stop()
    for record in asked[12:18]:
        world.settle(record, "answered")
    assert world.publisher.flush(20) == 0
    world.delete(PREDICTIONS.name, ends(world, PREDICTIONS.name))
    for record in asked[18:21]:  # these are kept
        world.settle(record, "failed")
    assert world.publisher.flush(20) == 0
    world.start()
    told(world, until, asked=30, answered=12, failed=3, expired=15)
    assert "retention took answers on inference.predictions" in caplog.text
    ask_all(world, 6, lambda number: "answered" if number < 3 else "owed")
    told(world, until, asked=36, answered=15, failed=3, expired=15, owed=3)
    assert {book.first_offset for book, _ in world.books.values()} == {0}, "it is the same book"
    assert all(book.epoch > before[number] for (number, _), (book, _) in world.books.items())
    world.stop()
    world.start()
    ask_all(world, 3)
    told(world, until, asked=39, answered=15, failed=3, expired=15, owed=6)


def test_where_dead_letters_are_deleted_while_the_ledger_is_down_it_is_so_too(world, until):
    world.start()
    asked = ask_all(world, 9)
    told(world, until, asked=9, owed=9)
    world.stop()
    for record in asked[:3]:
        world.settle(record, "dead_lettered")
    world.settle(asked[3], "answered")
    assert world.publisher.flush(20) == 0
    world.delete(REQUEST_DEAD_LETTERS, ends(world, REQUEST_DEAD_LETTERS))
    world.start()
    told(world, until, asked=9, answered=1, expired=8)


def test_a_first_book_begins_where_no_answer_can_have_been_deleted(world, until, monkeypatch):
    monkeypatch.setattr("stream_jobs.ledger.book_start.SKEW_MS", 100)
    ask_all(world, 15, lambda number: "answered")
    deleted = ends(world, PREDICTIONS.name)
    time.sleep(0.5)
    between = dict(world.ends)
    ask_all(world, 3, lambda number: "answered")  # the oldest answers that are kept
    time.sleep(0.5)
    first = dict(world.ends)
    ask_all(world, 12, lambda number: "answered" if number < 6 else "owed")
    world.delete(PREDICTIONS.name, deleted)
    world.delete(REQUESTS.name, {0: 2})
    world.start()
    told(world, until, asked=12, answered=6, owed=6)
    books = {number: book for (number, _), (book, _) in world.books.items()}
    assert {number: book.first_offset for number, book in books.items()} == first
    assert all(first[number] > between[number] for number in first)


def test_a_book_that_cannot_be_read_is_begun_anew(world, until, monkeypatch, caplog):
    with monkeypatch.context() as other:
        other.setattr(partition_ledger, "FORMAT", 99)
        world.start()
        ask_all(world, 9, lambda number: "answered" if number % 2 else "owed")
        told(world, until, asked=9, answered=4, owed=5)
        world.stop()
    world.books.clear()
    world.start()
    ask_all(world, 3)
    told(world, until, asked=12, answered=4, owed=8)
    assert "the book cannot be read" in caplog.text


def records(world, topic):
    """How many records a topic holds: fewer than its offsets once it was compacted."""
    tail, count, quiet = KafkaTail(world.kafka, [topic], start="beginning"), 0, 0
    try:
        while quiet < 5:
            found = tail.poll(1_000, 0.2)
            count, quiet = count + len(found), 0 if found else quiet + 1
    finally:
        tail.close()
    return count


def set_config(world, values):
    """Have the ledger's state topic with these settings."""
    entries = [ConfigEntry(name, value, incremental_operation=AlterConfigOpType.SET) for name, value in values.items()]
    resource = ConfigResource(ResourceType.TOPIC, LEDGER_STATE.name, incremental_configs=entries)
    for future in world.cluster.admin.incremental_alter_configs([resource]).values():
        future.result(20)


def test_a_book_whose_state_was_compacted_while_the_ledger_was_down_is_gone_on_with(world, until):
    takes_long("Kafka's cleaner looks every 15 s")
    hour = "3600000"
    lazy = {"min.compaction.lag.ms": hour, "max.compaction.lag.ms": hour}
    set_config(world, {"segment.ms": "100", "min.cleanable.dirty.ratio": "0.0", "delete.retention.ms": "0"} | lazy)
    world.start()
    for round_ in range(8):  # each is saved apart
        ask_all(world, 30, lambda number: "answered" if number % 3 else "owed")
        told(world, until, asked=30 * (round_ + 1), answered=20 * (round_ + 1), owed=10 * (round_ + 1))
        time.sleep(0.6)
    world.stop()
    written, kept = sum(ends(world, LEDGER_STATE.name).values()), records(world, LEDGER_STATE.name)
    # Only now may Kafka's cleaner touch it.
    set_config(world, {"min.compaction.lag.ms": "0", "max.compaction.lag.ms": "1"})
    until(lambda: records(world, LEDGER_STATE.name) < min(kept, written // 2), "the state is compacted", 90)
    ask_all(world, 3)
    world.books.clear()
    world.start()
    told(world, until, asked=243, answered=160, owed=83)
    assert {book.first_offset for book, _ in world.books.values()} == {0}
