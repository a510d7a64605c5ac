"""Migrations: numbered, unchanged once applied, refused when they would lose data."""

import re

import pytest

from infra.migrations import Migration, MigrationRefused, Migrator, pending, read_migrations
from tests.fakes import FakeClock


class Server:
    """Enough of a server to record what is asked of it."""

    def __init__(self):
        self.statements = []
        self.ledger = []

    def query(self, sql, parameters=None):
        if sql.startswith("EXISTS"):
            return ("result",), [(1 if self.ledger else 0,)]
        return ("version", "checksum"), list(self.ledger)

    def command(self, sql):
        self.statements.append(sql)
        if sql.startswith("INSERT INTO schema_migrations"):
            version, _, checksum = sql.partition("VALUES (")[2].split(", ")[:3]
            self.ledger.append((int(version), checksum.strip("'")))


def files(folder, **texts):
    for name, text in texts.items():
        (folder / f"{name.removeprefix('m')}.sql").write_text(text)
    return read_migrations(folder)


def test_ours_are_in_order_and_lose_nothing():
    found = read_migrations()
    assert [one.version for one in found] == list(range(1, len(found) + 1))
    assert not [one.name for one in found if one.losing]
    settings = [one for one in found if "MODIFY SETTING" in one.statements[0]]
    assert all(len(one.statements) == 2 for one in found if one not in settings), "a table, and what readers see of it"


def test_windows_of_other_lengths_that_begin_together_are_rows_of_their_own():
    made = {one.name: re.search(r"ORDER BY \((.*)\)", one.statements[0]) for one in read_migrations()}
    keys = {name: found[1].split(", ") for name, found in made.items() if found is not None}
    by_window = {name: key for name, key in keys.items() if "window_start" in key}
    assert {"create_windows", "create_window_scores"} <= by_window.keys()
    assert all(key[:3] == ["source_topic_id", "window_start", "window_end"] for key in by_window.values())


def test_applied_once_and_repeatable_half_way(tmp_path):
    found = files(tmp_path, m0001_create_a="-- why\nCREATE TABLE a (x Int8);\nCREATE VIEW b AS SELECT 1;\n")
    server, said = Server(), []
    migrator = Migrator(server, FakeClock())
    assert migrator.apply(found, say=said.append, dry_run=True) == 1
    assert not server.statements
    assert migrator.apply(found, say=said.append) == 1
    assert "CREATE TABLE IF NOT EXISTS a (x Int8)" in server.statements
    assert "CREATE VIEW IF NOT EXISTS b AS SELECT 1" in server.statements
    assert migrator.apply(found, say=said.append) == 0


def test_an_edited_or_unknown_migration_is_refused(tmp_path):
    found = files(tmp_path, m0001_create_a="CREATE TABLE a (x Int8);\n")
    with pytest.raises(MigrationRefused, match="edited"):
        pending(found, {1: "another"})
    with pytest.raises(MigrationRefused, match="does not know"):
        pending(found, {1: found[0].checksum, 2: "x"})


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE a",
        "TRUNCATE TABLE a",
        "ALTER TABLE a DROP COLUMN x",
        "ALTER TABLE a DELETE WHERE 1",
        "DELETE FROM a",
        "ALTER TABLE a UPDATE x = 1 WHERE y = 2",
        "ALTER TABLE a ON CLUSTER c ADD COLUMN z Int8, DELETE WHERE x = 1",
        "ALTER TABLE a MODIFY COLUMN x Int8",
        "ALTER TABLE a ALTER COLUMN x TYPE Int8",
        "ALTER TABLE a MODIFY COLUMN IF EXISTS `x` TTL d + INTERVAL 1 DAY",
        "ALTER TABLE a REPLACE PARTITION 1 FROM b",
        "CREATE OR REPLACE TABLE a (x Int8)",
    ],
)
def test_a_losing_migration_needs_permission(tmp_path, statement):
    found = files(tmp_path, m0001_create_a="CREATE TABLE a (x Int8);\n", m0002_drop_a=statement + ";\n")
    server = Server()
    migrator = Migrator(server, FakeClock())
    with pytest.raises(MigrationRefused, match="would lose data"):
        migrator.apply(found, say=lambda text: None)
    assert not server.statements
    said = []
    assert migrator.apply(found, say=said.append, dry_run=True) == 2
    assert not server.statements
    assert [line for line in said if "(would lose data: " in line] == [
        f"would apply 0002_drop_a  (would lose data: {statement})"
    ]
    assert migrator.apply(found, say=lambda text: None, allow_data_loss=True) == 2


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE a ADD COLUMN `update` Int8 COMMENT 'When to DELETE and UPDATE it.' AFTER x",
        "ALTER TABLE a MODIFY COLUMN x COMMENT 'Int8'",
        "ALTER TABLE a MODIFY COLUMN x CODEC(ZSTD(1)), MODIFY COLUMN y REMOVE TTL",
        "ALTER TABLE a MODIFY SETTING ttl_only_drop_parts = 1",
        "CREATE TABLE b (updated_at Int8, deleted Bool) ENGINE = MergeTree ORDER BY updated_at",
    ],
)
def test_a_migration_that_loses_nothing_needs_none(statement):
    assert Migration(1, "a", (statement,), "c").losing == ()


def test_numbers_have_no_gaps(tmp_path):
    with pytest.raises(MigrationRefused, match="gaps"):
        files(tmp_path, m0002_create_a="CREATE TABLE a (x Int8);\n")
    (tmp_path / "readme.sql").write_text("")
    with pytest.raises(MigrationRefused, match="NNNN_verb_noun"):
        read_migrations(tmp_path)


def test_a_migration_is_plain_data():
    assert Migration(1, "a", ("DROP TABLE x",), "c").losing == ("DROP TABLE x",)
