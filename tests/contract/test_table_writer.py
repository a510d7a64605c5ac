"""What a TableWriter promises, held against the in-memory one and a real ClickHouse engine."""

from datetime import date, timedelta

import pytest

from infra.clickhouse import ClickHouse
from infra.ports import InvalidRecord, RetryLater
from infra.settings import ClickHouseSettings
from tests.fakes import FakeTable


class Fake:
    def __init__(self, table):
        self.writer = FakeTable(bad=lambda row: not isinstance(row["n"], int))
        self.table = table

    def rows(self):
        return sorted((row["n"], row["text"]) for row in self.writer.rows[self.table])


class Real:
    def __init__(self, table, settings):
        self.writer = ClickHouse(settings)
        self.table = table
        self.writer.command(
            f"CREATE TABLE {table} (n UInt32, text String) ENGINE = MergeTree ORDER BY n "
            "SETTINGS non_replicated_deduplication_window = 100"
        )

    def rows(self):
        return sorted(self.writer.query(f"SELECT n, text FROM {self.table}")[1])


@pytest.fixture(params=["fake", "real"])
def world(request, unique):
    return Fake(unique) if request.param == "fake" else Real(unique, request.getfixturevalue("clickhouse"))


def test_rows_are_stored_once_per_token(world):
    columns = {"n": [1, 2], "text": ["a", "émoji 👟"]}
    assert world.writer.insert(world.table, columns, token="t1") == 2
    assert world.writer.insert(world.table, columns, token="t1") == 2
    assert world.rows() == [(1, "a"), (2, "émoji 👟")]
    world.writer.insert(world.table, columns, token="t2")
    assert len(world.rows()) == 4


def test_nothing_is_stored_of_a_block_with_a_bad_value(world):
    with pytest.raises(InvalidRecord):
        world.writer.insert(world.table, {"n": [1, "two"], "text": ["a", "b"]}, token="t1")
    assert world.rows() == []


def test_columns_have_one_length(world):
    with pytest.raises(InvalidRecord):
        world.writer.insert(world.table, {"n": [1, 2], "text": ["a"]}, token="t1")
    assert world.rows() == []


def test_rows_may_span_more_days_than_a_server_takes_by_default(clickhouse, unique):
    client = ClickHouse(clickhouse)
    client.command(f"CREATE TABLE {unique} (day Date) ENGINE = MergeTree ORDER BY day PARTITION BY day")
    days = [date(2024, 1, 1) + timedelta(days=i) for i in range(120)]
    assert client.insert(unique, {"day": days}, token="t") == 120
    assert client.query(f"SELECT count() FROM {unique}")[1] == [(120,)]
    client.close()


def test_a_missing_column_or_table_is_not_the_rows_fault(clickhouse, unique):
    client = ClickHouse(clickhouse)
    client.command(f"CREATE TABLE {unique} (n UInt32) ENGINE = MergeTree ORDER BY n")
    with pytest.raises(InvalidRecord):
        client.insert(unique, {"n": [-1]}, token="t")
    with pytest.raises(RetryLater, match="column"):
        client.insert(unique, {"n": [1], "m": [1]}, token="t")
    client.command(f"DROP TABLE {unique}")
    with pytest.raises(RetryLater):
        client.insert(unique, {"n": [1]}, token="t")
    client.close()


def test_a_missing_table_and_a_missing_server_are_waited_for_by_inserts(clickhouse):
    client = ClickHouse(clickhouse)
    with pytest.raises(RetryLater, match=r"no_such_table|UNKNOWN_TABLE"):
        client.insert("no_such_table", {"n": [1]}, token="t")
    with pytest.raises(ValueError, match=r"no_such_table|UNKNOWN_TABLE"):
        client.query("SELECT * FROM no_such_table")
    client.close()
    nobody = ClickHouse(ClickHouseSettings(url="http://127.0.0.1:1"))
    with pytest.raises(RetryLater):
        nobody.insert("t", {"n": [1]}, token="t")
    with pytest.raises(RetryLater):
        nobody.query("SELECT 1")
    assert nobody.ping() is False
    with pytest.raises(ConnectionError, match="does not answer"):
        nobody.wait_ready(0.1)


def test_parameters_stay_on_the_server(clickhouse):
    client = ClickHouse(clickhouse)
    assert client.query("SELECT {x:String} AS y", {"x": "'; DROP TABLE t --"}) == (("y",), [("'; DROP TABLE t --",)])
    assert client.query_text("SELECT {n:UInt8} AS n", "JSONEachRow", {"n": 7}).strip() == '{"n":7}'
    client.close()
