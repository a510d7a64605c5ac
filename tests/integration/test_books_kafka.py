"""`inferwatch books` on a real broker: part of the time, every difference by its offsets, and without the table."""

import json
import socket
import time
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from infra.clock import SystemClock
from infra.up.audit import Span, audit
from infra.up.books_cli import books as books_command
from infra.up.table_sight import NoTable
from tests.ledger_world import PARTITIONS, World


class Table:
    """The rows of requests as readers see them: outcomes by partition and offset."""

    def __init__(self):
        self.rows = {}

    def query(self, sql, parameters=None):
        if "starts" in parameters:
            starts, ends = parameters["starts"], parameters["ends"]
            counts = {}
            for (number, offset), outcome in self.rows.items():
                if starts[number] <= offset < ends[number]:
                    counts[number, outcome] = counts.get((number, outcome), 0) + 1
            return (), [(*place, count) for place, count in counts.items()]
        wanted, first, after = parameters["partition"], parameters["first"], parameters["after"]
        return (), [(o, 1, how) for (n, o), how in self.rows.items() if n == wanted and first <= o < after]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("books"))
    yield world
    world.close()


@pytest.fixture(scope="module")
def told(world):
    """Three groups of requests, one after the other, all told everywhere: the table, and the moments between them."""
    table, moments = Table(), []
    outcomes = ("answered", "failed", "shed", "dead_lettered", "answered")
    for size in (5, 10, 15):
        by_partition = {}
        for number in range(size):
            record = world.ask(number % PARTITIONS)
            outcome = outcomes[number % len(outcomes)]
            world.settle(record, outcome)
            by_partition.setdefault(record.partition, {})[record.offset] = outcome
            table.rows[record.partition, record.offset] = outcome
        for partition, group in by_partition.items():
            world.tell(partition, group)
        assert world.publisher.flush(20) == 0
        time.sleep(0.2)
        moments.append(SystemClock().now_ms())
        time.sleep(0.2)
    return table, moments


def audited(world, table, since=None, until=None):
    return audit(world.kafka, table, SystemClock(), lambda done, total: None, 0.0, Span(since, until))


def test_only_requests_of_the_span_are_accounted_for(world, told):
    table, (first, second, third) = told
    found = {
        "all": audited(world, table),
        "since the first": audited(world, table, since=first),
        "until the second": audited(world, table, until=second),
        "between": audited(world, table, since=first, until=second),
        "later": audited(world, table, since=third),
        "earlier": audited(world, table, until=first - 600_000),
    }
    assert {name: one.account.sent for name, one in found.items()} == {
        "all": 30,
        "since the first": 25,
        "until the second": 15,
        "between": 10,
        "later": 0,
        "earlier": 0,
    }
    for name, one in found.items():
        assert one.balanced, (name, one.differences)
        assert one.account.answered == one.account.table_rows == one.account.sent * 2 // 5, name
        assert sum(after - start for start, after in one.ranges.values()) == one.account.sent, name


def test_what_differs_in_the_span_is_named_and_what_differs_outside_is_not(world, told):
    table, (first, second, _) = told
    start, after = audited(world, table, since=first, until=second).ranges[0]
    swapped = {}
    for offset in (start, after):  # the second one is of the next group
        swapped[0, offset] = table.rows[0, offset]
        table.rows[0, offset] = "shed" if swapped[0, offset] != "shed" else "failed"
    removed = {(1, n): table.rows.pop((1, n)) for n in range(*audited(world, table, until=first).ranges[1])}
    try:
        inside = audited(world, table, since=first, until=second)
        assert [(one.kind, one.partition, one.ranges) for one in inside.differences] == [
            ("row_other_outcome", 0, [(start, start + 1)])
        ]
        assert not inside.balanced
        whole = audited(world, table)
        named = {(one.kind, one.partition): one.count for one in whole.differences}
        assert named == {("no_row", 1): len(removed), ("row_other_outcome", 0): 2}
        assert audited(world, table, since=second).differences[0].ranges == [(after, after + 1)]
    finally:
        table.rows |= swapped | removed
    assert audited(world, table).balanced


def closed_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def command(world, *arguments):
    environment = {
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
        "INFERWATCH_CLICKHOUSE_URL": f"http://127.0.0.1:{closed_port()}",
    }
    return CliRunner().invoke(books_command, arguments, env=environment)


def test_without_clickhouse_the_account_of_kafka_is_shown_and_said_to_be_that(world, told):
    done = command(world, "--json")
    found = json.loads(done.stdout)
    assert done.exit_code == 75
    assert (found["sent"], found["owed"], found["telemetry_rows"]) == (30, 0, 12)
    assert (found["table_rows"], found["balanced"], found["differences"]) == (None, None, [])
    assert "the table could not be asked" in found["notes"][0]
    text = command(world).stdout
    assert "answers in the table     not known" in text
    assert "balanced in Kafka; the table is not known" in text
    nowhere = audited(world, NoTable("there is none"))
    assert (nowhere.account.sent, nowhere.account.table_rows, nowhere.balanced) == (30, None, False)


def test_the_command_accounts_for_the_span_it_is_given(world, told):
    _, (first, second, _) = told
    since, until = (datetime.fromtimestamp(one / 1000, UTC).isoformat() for one in (first, second))
    sent = {}
    for given in ((), ("--since", since), ("--until", until), ("--since", since, "--until", until)):
        sent[given[::2]] = json.loads(command(world, "--json", *given).stdout)["sent"]
    assert sent == {(): 30, ("--since",): 25, ("--until",): 15, ("--since", "--until"): 10}
    nothing = command(world, "--since", until, "--until", since)
    assert nothing.exit_code == 2
    assert "--since is not before --until" in nothing.stderr


def test_two_requests_with_each_others_outcome_are_named_without_the_table_too(world, told):
    """Last in this file: what is told here stays told."""
    first, second = world.ask(0), world.ask(0)
    world.settle(first, "answered")
    world.settle(second, "shed")
    world.tell(0, {first.offset: "shed", second.offset: "answered"})
    assert world.publisher.flush(20) == 0
    done = command(world, "--json", "--wait", "1s")
    found = json.loads(done.stdout)
    assert done.exit_code == 70
    assert (found["answered"], found["telemetry_rows"], found["balanced"]) == (13, 13, False)
    assert [(one["kind"], one["offsets"], one["first_answer"]) for one in found["explained"]] == [
        ("other_outcome", [[first.offset, first.offset + 1]], "answered"),
        ("other_outcome", [[second.offset, second.offset + 1]], "shed"),
    ]
    owed = world.ask(1)
    assert world.publisher.flush(20) == 0
    done = command(world, "--json", "--wait", "1s")
    assert done.exit_code == 75, "an answer may still come"
    assert "owed" in {one["kind"] for one in json.loads(done.stdout)["explained"]}
    world.settle(owed, "answered")
