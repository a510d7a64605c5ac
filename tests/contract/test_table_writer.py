"""What a TableWriter promises, held against the in-memory one and a real ClickHouse engine."""

from datetime import date, timedelta

import numpy as np
import pytest

from infra.clickhouse import ClickHouse
from infra.clickhouse.client import TYPES
from infra.clickhouse.native_block import encoded
from infra.columns import Coded, Texts, plain
from infra.ports import InvalidRecord, RetryLater, TryAgain
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
    with pytest.raises(TryAgain, match="does not answer"):
        nobody.wait_ready(0.1)


def test_parameters_stay_on_the_server(clickhouse):
    client = ClickHouse(clickhouse)
    assert client.query("SELECT {x:String} AS y", {"x": "'; DROP TABLE t --"}) == (("y",), [("'; DROP TABLE t --",)])
    assert client.query_text("SELECT {n:UInt8} AS n", "JSONEachRow", {"n": 7}).strip() == '{"n":7}'
    client.close()


PACKED_TYPES = {
    "n": "UInt32",
    "big": "UInt64",
    "at": "DateTime64(3, 'UTC')",
    "real": "Float64",
    "perhaps": "Nullable(Float64)",
    "yes": "Bool",
    "text": "String",
    "name": "LowCardinality(String)",
}


def packed_rows(count, long=False):
    """Columns as stage 1 makes them, with every kind of value that it may hold."""
    numbers = np.arange(count)
    texts = [("é" * 100 if long and i % 7 == 0 else "") + f"text {i}👟" for i in range(count)]
    return {
        "n": numbers + 2**32 - count,
        "big": np.full(count, 2**63 - 1) - numbers,
        "at": 1_700_000_000_000 + numbers,
        "real": numbers / 7,
        "perhaps": np.where(numbers % 3 == 0, np.nan, numbers / 9),
        "yes": numbers % 2 == 0,
        "text": Texts.of(texts),
        "name": Coded(("a", "", "b", "a"), (numbers % 4).astype(np.int32)),
    }


@pytest.fixture
def typed(clickhouse, unique, monkeypatch):
    """A table of every type that rows are packed for, and a writer that knows its types."""
    writer = ClickHouse(clickhouse)
    columns = ", ".join(f"{name} {kind}" for name, kind in PACKED_TYPES.items())
    writer.command(
        f"CREATE TABLE {unique} ({columns}) ENGINE = MergeTree ORDER BY n "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    monkeypatch.setitem(TYPES, unique, PACKED_TYPES)
    yield writer, unique
    writer.close()


@pytest.mark.parametrize(("count", "long"), [(1, False), (300, False), (300, True)])
def test_packed_columns_store_what_the_same_values_in_lists_store(typed, count, long):
    writer, table = typed
    packed = packed_rows(count, long)
    lists = {name: plain(column) for name, column in packed.items()}
    lists["perhaps"] = [None if value != value else value for value in lists["perhaps"]]
    assert encoded(packed, PACKED_TYPES) is not None
    assert encoded(lists, PACKED_TYPES) is None
    found = []
    for columns in (packed, lists):
        assert writer.insert(table, columns, token=f"t{len(found)}") == count
        found.append(writer.query(f"SELECT * FROM {table} ORDER BY n")[1])
        writer.command(f"TRUNCATE TABLE {table}")
    assert found[0] == found[1]
    assert [row[6] for row in found[0]] == lists["text"]


def test_a_dictionary_of_more_than_256_names_is_stored(typed):
    writer, table = typed
    names = [f"name {i}" for i in range(400)]
    writer.insert(table, packed_rows(400) | {"name": Coded(names, np.arange(400, dtype=np.int32))}, token="t")
    assert [row[0] for row in writer.query(f"SELECT name FROM {table} ORDER BY n")[1]] == names


def test_a_packed_block_is_stored_once_per_token(typed):
    writer, table = typed
    for _ in range(2):
        writer.insert(table, packed_rows(10), token="t")
    assert writer.query(f"SELECT count() FROM {table}")[1] == [(10,)]


def test_a_packed_number_that_does_not_fit_is_refused(typed):
    writer, table = typed
    for name, value in (("n", 2**32), ("n", -1), ("big", -1)):
        columns = packed_rows(3)
        columns[name] = np.array([1, value, 2])
        with pytest.raises(InvalidRecord, match=name):
            writer.insert(table, columns, token="t")
    assert writer.query(f"SELECT count() FROM {table}")[1] == [(0,)]


def test_to_another_machine_blocks_go_compressed(typed, monkeypatch):
    writer, table = typed
    monkeypatch.setattr(writer, "_is_near", False)
    writer.insert(table, packed_rows(300), token="t")
    assert writer.query(f"SELECT count(), sum(n) FROM {table}")[1] == [(300, int(packed_rows(300)["n"].sum()))]
