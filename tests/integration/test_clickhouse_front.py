"""The embedded ClickHouse with the client and the table designs that the pipeline uses."""

import math
import threading
import uuid
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from clickhouse_connect.driver.exceptions import DatabaseError

from tests.integration.front_process import Front, wait_until

COLUMNS = {
    "id": "UInt64",
    "delta": "Int64",
    "score": "Float64",
    "part": "Float32",
    "name": "String",
    "model": "LowCardinality(String)",
    "at": "DateTime64(3, 'UTC')",
    "vector": "Array(Float32)",
    "tags": "Array(String)",
    "extra": "Map(String, String)",
    "maybe": "Nullable(Float64)",
    "outcome": "Enum8('answered' = 1, 'failed' = 2)",
    "uid": "UUID",
    "shed": "Bool",
}


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    running = Front(tmp_path_factory.mktemp("front"))
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def client(front):
    with front.client(tz_mode="aware") as made:
        yield made


def rows(count):
    start = datetime(2026, 1, 1, 12, 0, 0, 123000, tzinfo=UTC)
    return [
        (
            2**64 - 1 - index,
            -(2**63) + index,
            math.pi * index,
            float(np.float32(0.1)),
            f"näme {index} 'quoted' \\ \t",
            f"model-{index % 3}",
            start + timedelta(milliseconds=index),
            [0.5, float(index)],
            ["a", ""],
            {"key": f"value {index}"},
            None if index % 2 else index / 2,
            "answered" if index % 2 else "failed",
            uuid.UUID(int=index),
            bool(index % 2),
        )
        for index in range(count)
    ]


@pytest.mark.parametrize("compress", [False, "lz4", "zstd", "gzip"])
def test_every_column_type_comes_back_as_it_went(front, client, compress):
    table = f"types_{compress}"
    columns = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    client.command(f"CREATE TABLE {table} ({columns}) ENGINE = MergeTree ORDER BY delta")
    given = rows(100)
    with front.client(compress=compress, tz_mode="aware") as coded:
        done = coded.insert(table, given, column_names=list(COLUMNS))
        assert done.written_rows == 100
        result = coded.query(f"SELECT * FROM {table} ORDER BY delta")
    assert list(result.column_names) == list(COLUMNS)
    assert result.result_rows == given
    assert int(result.summary["read_rows"]) == 100


def test_a_hundred_thousand_rows_by_column_and_by_arrow(client):
    count = 100_000
    client.command("CREATE TABLE wide (n UInt64, x Float64, s LowCardinality(String)) ENGINE = MergeTree ORDER BY n")
    numbers = np.arange(count, dtype=np.uint64)
    names = [f"s{index % 50}" for index in range(count)]
    client.insert(
        "wide", [numbers, numbers * 0.5, names], column_names=["n", "x", "s"], column_oriented=True, settings={}
    )
    table = pa.table({"n": numbers + count, "x": numbers * 0.5, "s": pa.array(names).dictionary_encode()})
    client.insert_arrow("wide", table)
    assert client.query("SELECT count(), sum(n), uniqExact(s) FROM wide").result_rows == [
        (2 * count, count * (2 * count - 1), 50)
    ]
    back = client.query_arrow("SELECT n, x FROM wide ORDER BY n")
    assert back.num_rows == 2 * count
    assert back["n"][-1].as_py() == 2 * count - 1
    assert client.query("SELECT count() FROM system.parts WHERE table = 'wide' AND active").first_row[0] <= 2


def test_parameters_stay_data(client):
    hostile = "x' OR 1=1 -- \\ \n\t{y:String}"
    got = client.query(
        "SELECT {a:String}, {b:UInt64}, {c:Array(String)}, {d:DateTime64(3, 'UTC')}, {e:Nullable(String)}",
        parameters={"a": hostile, "b": 7, "c": ["p", "q'"], "d": datetime(2026, 1, 2, tzinfo=UTC), "e": None},
    ).first_row
    assert got == (hostile, 7, ["p", "q'"], datetime(2026, 1, 2, tzinfo=UTC), None)
    long = "y" * 20_000  # long enough that the client sends a form instead of a URL
    assert client.query("SELECT length({a:String})", parameters={"a": long}).first_row == (20_000,)
    client.command("CREATE TABLE named (a UInt8) ENGINE = Memory")
    client.command("INSERT INTO {t:Identifier} VALUES ({v:UInt8})", parameters={"t": "named", "v": 3})
    assert client.command("SELECT a FROM named") == 3


def test_the_insert_token_removes_a_repeated_block(client):
    client.command(
        "CREATE TABLE fenced (n UInt64) ENGINE = MergeTree ORDER BY n "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    for token in ("one", "one", "two"):
        client.insert("fenced", [[1], [2]], column_names=["n"], settings={"insert_deduplication_token": token})
    assert client.command("SELECT count() FROM fenced") == 4
    client.command("CREATE TABLE unfenced (n UInt64) ENGINE = MergeTree ORDER BY n")
    for _ in range(2):
        client.insert("unfenced", [[1], [2]], column_names=["n"], settings={"insert_deduplication_token": "one"})
    assert client.command("SELECT count() FROM unfenced") == 4, "without a window nothing is removed"


def test_a_view_with_final_shows_the_first_answer_only(client):
    client.command(
        "CREATE TABLE raw_answers (id UInt64, version Int64, answer String) "
        "ENGINE = ReplacingMergeTree(version) ORDER BY id"
    )
    client.command("CREATE VIEW answers AS SELECT * FROM raw_answers FINAL")
    for version, answer in ((-10, "first"), (-11, "second")):
        client.insert("raw_answers", [[1, version, answer]], column_names=["id", "version", "answer"])
    assert client.query("SELECT answer FROM answers").result_rows == [("first",)]


def test_settings_last_for_one_statement_and_a_wrong_one_is_named(client):
    assert client.query("SELECT getSetting('max_threads')", settings={"max_threads": 1}).first_row == (1,)
    assert client.query("SELECT getSetting('max_threads')", settings={"max_threads": 3}).first_row == (3,)
    with pytest.raises(DatabaseError, match=r"Code: 115.*no_such_setting.*UNKNOWN_SETTING") as refused:
        client.command("SELECT 1", settings={"no_such_setting": 1})
    assert refused.value.code == 115
    with pytest.raises(DatabaseError, match="TIMEOUT_EXCEEDED"):
        client.query("SELECT sum(sipHash64(number)) FROM numbers(100000000000)", settings={"max_execution_time": 1})


@pytest.mark.parametrize(
    ("statement", "code", "name"),
    [
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELECT nothing", 47, "UNKNOWN_IDENTIFIER"),
        ("SELEC 1 FRM", 62, "SYNTAX_ERROR"),
        ("SELECT 1; DROP TABLE named", 62, "SYNTAX_ERROR"),
        ("SELECT throwIf(number = 5000000, 'late') FROM numbers(6000000)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
    ],
)
def test_errors_have_their_numbers_and_names(client, statement, code, name):
    with pytest.raises(DatabaseError, match=rf"(?s)Code: {code}\. DB::Exception: .*\({name}\) \(version 26") as refused:
        client.query(statement)
    assert refused.value.code == code
    # The rows that a failed statement had made must not reach another one.
    assert client.query("SELECT 7").result_rows == [(7,)]


def test_an_error_in_the_middle_of_a_streamed_answer_is_raised(client):
    statement = "SELECT number, throwIf(number = 5000000, 'late') FROM numbers(6000000)"
    received = []

    def read():
        with client.query_row_block_stream(statement) as blocks:
            received.extend(len(block) for block in blocks)

    with pytest.raises(DatabaseError, match="late"):
        read()
    assert sum(received) > 0


def test_databases_and_sessions(front, client):
    client.command("CREATE DATABASE elsewhere")
    client.command("CREATE TABLE elsewhere.t (a UInt8) ENGINE = Memory")
    with front.client(database="elsewhere") as other:
        other.insert("t", [[5]], column_names=["a"])
        assert other.command("SELECT a FROM t") == 5
        other.command("CREATE TEMPORARY TABLE mine (b UInt8)")
        other.command("INSERT INTO mine VALUES (6)")
        other.command("SET max_threads = 1")
        assert other.query("SELECT b, getSetting('max_threads') FROM mine").result_rows == [(6, 1)]
        with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
            other.query("SELECT * FROM missing")
        assert other.query("SELECT b FROM mine").result_rows == [(6,)]
    with pytest.raises(DatabaseError, match="UNKNOWN_TABLE"):
        client.query("SELECT b FROM mine")
    with pytest.raises(DatabaseError, match="UNKNOWN_DATABASE"):
        front.client(database="not_there")


def test_raw_statements_formats_and_streams(client):
    client.command("CREATE TABLE raws (a UInt64, b String) ENGINE = MergeTree ORDER BY a")
    client.raw_insert("raws", column_names=["a", "b"], insert_block='{"a": 1, "b": "x"}\n', fmt="JSONEachRow")
    client.raw_insert("raws", column_names=["a", "b"], insert_block=b'2,"y,z"\n', fmt="CSV")
    parquet = client.raw_query("SELECT a + 10 AS a, b FROM raws", fmt="Parquet")
    client.raw_insert("raws", insert_block=parquet, fmt="Parquet")
    assert client.raw_query("SELECT * FROM raws ORDER BY a", fmt="CSV") == b'1,"x"\n2,"y,z"\n11,"x"\n12,"y,z"\n'
    assert client.query("SELECT a FROM raws WHERE 0").result_rows == []
    assert client.query("SHOW CREATE TABLE raws").first_row[0].startswith("CREATE TABLE default.raws")
    with client.query_column_block_stream("SELECT number FROM numbers(3000000)") as blocks:
        assert sum(len(block[0]) for block in blocks) == 3_000_000


def test_an_insert_does_not_wait_for_slow_queries(front, client):
    client.command("CREATE TABLE quick (n UInt64) ENGINE = MergeTree ORDER BY n")
    ended = []

    def slow():
        with front.client() as own, pytest.raises(DatabaseError, match="QUERY_WAS_CANCELLED"):
            own.query("SELECT max(sleepEachRow(0.01)) FROM numbers(2000) SETTINGS max_block_size = 1")
        ended.append("slow query")

    threads = [threading.Thread(target=slow) for _ in range(3)]
    for thread in threads:
        thread.start()
    running = "SELECT count() FROM system.processes WHERE query LIKE 'SELECT max(sleepEachRow%'"
    wait_until(lambda: client.command(running) == 3, "three slow queries run")
    client.insert("quick", [[1]], column_names=["n"])
    ended.append("insert")
    client.command("KILL QUERY WHERE query LIKE 'SELECT max(sleepEachRow%' ASYNC")
    for thread in threads:
        thread.join()
    assert ended == ["insert", "slow query", "slow query", "slow query"]


def test_a_refusal_in_the_write_stage_is_an_error_and_nothing_is_stored(client):
    client.command("CREATE TABLE checked (n UInt32, CONSTRAINT small CHECK n < 10) ENGINE = MergeTree ORDER BY n")
    with pytest.raises(DatabaseError, match="469"):
        client.insert("checked", [[1, 50]], column_names=["n"], column_oriented=True)
    assert client.query("SELECT count() FROM checked").result_rows == [(0,)]
    client.raw_insert("checked", insert_block=b'{"n": 3}\n', fmt="JSONEachRow", settings={"insert_deduplicate": 1})
    client.command("INSERT INTO checked SETTINGS insert_deduplicate = 1 VALUES (4), (5)")
    assert client.query("SELECT n FROM checked ORDER BY n").result_rows == [(3,), (4,), (5,)]
