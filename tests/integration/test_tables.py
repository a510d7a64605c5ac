"""The tables on a real engine: made once, as declared, duplicates not seen, the documented questions answered."""

import re
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.clickhouse import ClickHouse
from infra.clock import SystemClock
from infra.migrate import apply_tables
from infra.migrations import Migrator, read_migrations
from infra.up.books import Books, Fate
from infra.up.outcomes import FirstWords
from infra.up.table_rows import table_differences
from infra.up.table_sight import TableSight
from schemas import tables

QUERIES = Path(__file__).resolve().parents[2] / "docs" / "queries.md"
SQL = re.findall(r"```sql\n(.*?)```", QUERIES.read_text(), re.DOTALL)


@pytest.fixture(scope="module")
def settings(clickhouse):
    """A database of this module's own: other tests fill the common one."""
    client = ClickHouse(clickhouse)
    client.command("CREATE DATABASE tables_test")
    client.close()
    return clickhouse.model_copy(update={"database": "tables_test"})


@pytest.fixture(scope="module")
def client(settings):
    said = []
    assert apply_tables(settings, say=said.append) == len(read_migrations())
    found = ClickHouse(settings)
    yield found
    found.close()


def test_a_second_time_changes_nothing(client, settings):
    said = []
    assert apply_tables(settings, say=said.append) == 0
    assert not said


@pytest.mark.parametrize("table", tables.DECLARED, ids=lambda table: table.view)
def test_the_tables_are_as_declared(client, table):
    for name in (table.name, table.view):
        _, rows = client.query(
            "SELECT name, type FROM system.columns WHERE database = currentDatabase() AND table = {t:String}"
            " ORDER BY position",
            {"t": name},
        )
        assert [tuple(row) for row in rows] == list(zip(table.column_names, table.column_types, strict=True))
    _, rows = client.query(
        "SELECT create_table_query FROM system.tables WHERE database = currentDatabase() AND name = {t:String}",
        {"t": table.name},
    )
    for needed in (
        "ReplacingMergeTree",
        "PARTITION BY",
        "TTL",
        "CODEC(",
        "non_replicated_deduplication_window",
        "ttl_only_drop_parts",
    ):
        assert needed in rows[0][0]


def values(table):
    """A row of the table."""
    samples = {"Bool": False, "Float64": 0.5, "Nullable(Float64)": 0.5, "Array(UInt32)": [1], "Array(UInt64)": [2]}
    samples |= {"Array(String)": ["x"], "Array(Float64)": [0.5]}
    time = (datetime.now(UTC) - timedelta(hours=1)).replace(microsecond=0)  # older rows may be gone by TTL
    return {
        column.name: samples.get(column.type, time if "DateTime" in column.type else 1 if "Int" in column.type else "x")
        for column in table.columns
    }


@pytest.mark.parametrize("table", tables.DECLARED, ids=lambda table: table.view)
def test_a_row_goes_in_and_comes_back(client, table):
    row = values(table)
    assert client.insert(table.name, {name: [value] for name, value in row.items()}, token=f"in-{table.name}") == 1
    names, rows = client.query(f"SELECT * FROM {table.view} LIMIT 1")
    assert dict(zip(names, rows[0], strict=True)) == row


@pytest.fixture
def older(clickhouse, unique):
    """A database without tables, for those of a version before."""
    with closing(ClickHouse(clickhouse)) as admin:
        admin.command(f"CREATE DATABASE {unique}")
        try:
            with closing(ClickHouse(clickhouse.model_copy(update={"database": unique}))) as found:
                yield found
        finally:
            admin.command(f"DROP DATABASE {unique}")


def test_rows_from_before_a_column_was_added_are_read_on(older):
    migrations = read_migrations()
    Migrator(older, SystemClock()).apply(migrations[:5], say=lambda text: None)
    older.command("INSERT INTO requests_stored (cluster_id, worker_id, appended_at) VALUES ('c', 'w', now())")
    assert Migrator(older, SystemClock()).apply(migrations, say=lambda text: None) == len(migrations) - 5
    found = older.query("SELECT worker_id, arm, cached, power_watts FROM requests")[1]
    assert [tuple(row) for row in found] == [("w", "", 0.0, None)]


def test_scores_from_before_their_kind_was_told_say_which_they_are(older):
    migrations = read_migrations()
    Migrator(older, SystemClock()).apply(migrations[:17], say=lambda text: None)
    for table in (tables.WINDOW_SCORES, tables.ANOMALIES):
        for detector in ("two_heads", "rare_rise", "ledger", "watchdog"):
            row = {name: value for name, value in values(table).items() if name != "score_kind"}
            row |= {name: detector for name in ("detector", "metric", "anomaly_id") if name in row}
            older.insert(table.name, {name: [value] for name, value in row.items()}, token=table.name + detector)
    Migrator(older, SystemClock()).apply(migrations, say=lambda text: None)
    for table in (tables.WINDOW_SCORES, tables.ANOMALIES):
        found = older.query(f"SELECT detector, score_kind FROM {table.view} ORDER BY detector")[1]
        of_triggers = [(name, "strength") for name in ("ledger", "rare_rise")]
        assert [tuple(row) for row in found] == [*of_triggers, ("two_heads", "rank"), ("watchdog", "strength")]


def test_the_first_answer_wins(client, unique):
    row = values(tables.REQUESTS) | {"cluster_id": unique}
    for offset, worker in ((7, "late"), (3, "first"), (9, "later")):
        row |= {"telemetry_offset": offset, "version": tables.first_wins(offset), "worker_id": worker}
        client.insert("requests_stored", {name: [value] for name, value in row.items()}, token=unique + worker)
    asked = {"c": unique}
    assert client.query("SELECT worker_id FROM requests WHERE cluster_id = {c:String}", asked)[1] == [("first",)]


def test_the_books_read_rows_by_outcome_and_name_those_that_say_another(client, unique):
    """Decision 0016's fault on a real engine: an answer whose row says shed; and a row that is missing."""
    outcomes = ["answered", "failed", "shed", "dead_lettered", "answered", "answered"]
    words = FirstWords()
    books = Books(unique, "t", {0: 2, 1: 0}, heard=words.take)
    for take in (books.settle, books.observe):
        take([Fate(0, 2 + n, outcome) for n, outcome in enumerate(outcomes)])
    row = values(tables.REQUESTS) | {"cluster_id": unique, "topic_id": "t", "partition": 0}
    for n, outcome in enumerate(outcomes[:-1]):
        row |= {"offset": 2 + n, "outcome": "shed" if n == 4 else outcome}
        client.insert("requests_stored", {name: [value] for name, value in row.items()}, token=f"{unique}{n}")
    ends = {0: 8, 1: 0}
    sight = TableSight(client, books, ends)
    assert sight.rows() == {0: {"answered": 1, "failed": 1, "shed": 2, "dead_lettered": 1}}
    assert [(one.kind, one.ranges, one.more) for one in sight.differences(words, 5)] == [
        ("no_row", [(7, 8)], None),
        ("row_other_outcome", [(6, 7)], {"first_answer": "answered", "row": "shed"}),
    ]
    (said,) = table_differences(client, books, ends)
    assert said.startswith("partition 0: 3 answered by telemetry, 1 in the table, 1 shed by telemetry, 2 in the table")
    assert said.endswith("; no row for offsets 7")
    assert sight.notes == []


@pytest.mark.parametrize("table", tables.DECLARED, ids=lambda table: table.view)
def test_rows_that_are_too_old_go_and_others_stay(client, table, unique):
    """The TTL can remove rows, whether a partition's parts hold only old ones or not."""
    names = {name for name in table.column_names if name in ("cluster_id", "scenario")}
    (mark, *_) = sorted(names)
    fresh = values(table) | {mark: unique}
    old = {
        name: value - timedelta(days=1_000) if isinstance(value, datetime) else value for name, value in fresh.items()
    }
    other = next(name for name in ("offset", "incident_id", "anomaly_id", "metric", "model") if name in old)
    old[other] = old[other] + 1 if isinstance(old[other], int) else "old"
    rows = {name: [old[name], fresh[name]] for name in fresh}
    client.insert(table.name, rows, token=unique)
    client.command(f"OPTIMIZE TABLE {table.name} FINAL")
    asked = f"SELECT {other} FROM {table.view} WHERE {mark} = {{mark:String}}"
    assert client.query(asked, {"mark": unique})[1] == [(fresh[other],)]


@pytest.mark.parametrize("sql", SQL, ids=lambda sql: " ".join(sql.split())[:40])
def test_a_documented_question_is_answered(client, sql):
    assert client.query_text(sql, "TSVWithNames", {"topic_id": "t", "partition": 1, "offset": 1})


def test_there_are_documented_questions():
    assert len(SQL) >= 7
