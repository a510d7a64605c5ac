import pytest

from infra.embedded.clickhouse_statement import split_statement
from infra.embedded.clickhouse_tokens import StatementError


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SELECT 1 INTO OUTFILE 'f'", 358),
        ("select 1 into/* */outfile 'f' truncate format CSV", 358),
        ("SELECT 1 INTO\u00a0OUTFILE 'f'", 358),
        ("(SELECT 1) INTO -- x\nOUTFILE 'f'", 358),
        ("SHOW TABLES INTO OUTFILE 'f' APPEND", 358),
        ("WITH 1 AS x SELECT x INTO OUTFILE 'f' AND STDOUT", 358),
        ("SELECT 1 // '\n INTO OUTFILE 'f' -- '", 358),
        ("SELECT /* /* */ ' */ 1 INTO OUTFILE 'f' -- '", 358),
        ("SELECT $$ ' $$ INTO OUTFILE 'f' -- '", 358),
        ("SELECT ‘\"’ INTO OUTFILE 'f' -- \"", 358),
        ("INSERT INTO t FROM INFILE 'f' FORMAT CSV", 78),
        ("INSERT INTO t (a) from\ninfile 'f' COMPRESSION 'gzip' FORMAT CSV", 78),
        ("\\i f", 62),
        ("?? all tables", 62),
        ("CREATE TABLE t (a UInt8) ENGINE = EmbeddedRocksDB(0, '/d') PRIMARY KEY a", 497),
        ("CREATE TABLE t (a String) ENGINE=FileLog('/d', 'CSV')", 497),
        ("create or replace table t (a String) engine FileLog('/d', 'CSV')", 497),
        ("REPLACE TABLE t (a String) ENGINE = `FileLog`('/d', 'CSV')", 497),
        ("CREATE TABLE t AS s ENGINE = Executable('p', 'CSV')", 497),
        ("CREATE TABLE t (a UInt8) ENGINE = {e:Identifier}", 497),
        ("CREATE TABLE engine ENGINE = FileLog('/d', 'CSV')", 497),
        ("CREATE MATERIALIZED VIEW v ENGINE = File(CSV) AS SELECT 1", 497),
        ("DROP TABLE t PARALLEL WITH CREATE TABLE t (a UInt8) ENGINE = FileLog('/d', 'CSV')", 497),
        ("CREATE DATABASE d ENGINE = Filesystem('/d')", 497),
        ("CREATE DATABASE d ENGINE = Atomic SETTINGS disk = disk(type = local_blob_storage, path = '/d')", 497),
        ("ATTACH DATABASE d SETTINGS disk = 'd'", 497),
        ("ATTACH TABLE t FROM '/d' (a UInt8) ENGINE = MergeTree ORDER BY a", 497),
    ],
)
def test_what_leaves_the_folder_is_refused(text, code):
    with pytest.raises(StatementError) as refused:
        split_statement(text.encode())
    assert refused.value.code == code


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ' INTO OUTFILE ', \"INTO OUTFILE\", `INTO OUTFILE` /* INTO OUTFILE 'f' */ -- INTO OUTFILE 'f'",
        "SELECT $$ INTO OUTFILE 'f' $$, ‘ INTO OUTFILE ’, outfile FROM t",
        "SELECT 1 /* /* */ INTO OUTFILE 'f' */",
        "INSERT INTO outfile VALUES (1)",
        "INSERT INTO infile SELECT infile FROM outfile",
        "CREATE TABLE t (engine String, a UInt8) ENGINE = ReplacingMergeTree(a) ORDER BY a SETTINGS max_parts = 8",
        "CREATE TABLE IF NOT EXISTS d.t (a UInt8) ENGINE=Memory",
        "create temporary table t (a UInt8) engine Log",
        "CREATE VIEW v AS SELECT engine FROM system.tables WHERE engine = 'File'",
        "CREATE VIEW v AS SELECT name, engine, 1 FROM system.tables ORDER BY engine",
        "CREATE DATABASE settings ENGINE = Atomic COMMENT 'x'",
        "CREATE DATABASE IF NOT EXISTS settings",
        "ATTACH TABLE t",
        "ALTER TABLE t ATTACH PARTITION 1 FROM s",
        "SELECT engine File FROM system.tables",
        "INSERT INTO t VALUES (1) INTO OUTFILE 'f'",
    ],
)
def test_the_same_words_elsewhere_are_no_clauses(text):
    assert split_statement(text.encode()).sql
