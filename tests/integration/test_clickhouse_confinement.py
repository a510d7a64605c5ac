"""What the embedded ClickHouse must not do for anybody: reach its user's files, programs or the network."""

import os
import sys

import pytest

from infra.embedded import clickhouse_confinement
from infra.embedded.clickhouse_confinement import NotConfined
from tests.integration.front_process import Front
from tests.parts import missing

SECRET = "not for the page"


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    running = Front(tmp_path_factory.mktemp("front_confined"))
    running.ask(b"CREATE TABLE t (a UInt8, b String) ENGINE = MergeTree ORDER BY a")
    yield running
    assert running.stop() == 0


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """A folder of the user: with a file to read, and none that a statement should write."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text(f"{SECRET}\n")
    (folder / "script.sql").write_text("SELECT 1\n")
    return folder


# @ is the folder outside.
REFUSED = [
    ("SELECT 1 INTO OUTFILE '@/out'", 358),
    ("SELECT 1 INTO OUTFILE '@/secret' APPEND", 358),
    ("INSERT INTO t FROM INFILE '@/secret' FORMAT LineAsString", 78),
    ("\\i @/script.sql", 62),
    ("SELECT * FROM file('@/secret', 'LineAsString')", 497),
    ("SELECT * FROM `@/secret`", 60),
    ("INSERT INTO FUNCTION file('@/out', 'CSV', 'a UInt8') SELECT 1", 497),
    ("INSERT INTO FUNCTION file('@/out', 'CSV', 'a UInt8') VALUES (1)", 497),
    ("SELECT * FROM filesystem('@')", 497),
    ("SELECT file('@/secret')", 395),
    ('SELECT "\\x66ile"(\'@/secret\')', 395),
    ("SELECT arrayMap(file, ['@/secret'])", 395),
    ("SELECT * APPLY file FROM (SELECT '@/secret')", 395),
    ("SELECT b FROM generateRandom(concat('a UInt8, b String ALIAS fi', 'le(''@/secret'')')) LIMIT 1", 395),
    ("INSERT INTO t VALUES (1, file('@/secret'))", 395),
    ("SELECT * FROM Python(os)", 446),
    ("SELECT * FROM url('http://127.0.0.1:1/', 'CSV', 'a UInt8')", 497),
    ("SELECT * FROM url('file://@/secret', 'LineAsString')", 497),
    ("SELECT * FROM s3('http://127.0.0.1:1/bucket/x.csv', 'CSV', 'a UInt8')", 497),
    ("SELECT * FROM remote('127.0.0.1:1', 'system', 'one')", 497),
    ("SELECT * FROM eval('SELECT 1') SETTINGS allow_experimental_eval_table_function = 1", 452),
    ("SELECT * FROM executable('cat', 'LineAsString', 'a String')", 1),
    ("CREATE TABLE x (a String) ENGINE = File(LineAsString, '@/secret')", 497),
    ("CREATE TABLE x (a String) ENGINE = URL('http://127.0.0.1:1/', 'CSV')", 497),
    ("CREATE TABLE x (a UInt8) ENGINE = EmbeddedRocksDB(0, '@/out') PRIMARY KEY a", 497),
    ("CREATE TABLE x (a String) ENGINE = FileLog('@', 'LineAsString')", 497),
    ("CREATE TABLE x (a UInt8) ENGINE = MergeTree ORDER BY a SETTINGS disk = disk(type = local_blob_storage, "
     "path = '@/')", 452),
    ("CREATE DATABASE x ENGINE = Filesystem('@')", 497),
    ("CREATE DATABASE x ENGINE = Atomic SETTINGS disk = disk(type = local_blob_storage, path = '@')", 497),
    ("ATTACH TABLE x FROM '@' (a UInt8) ENGINE = MergeTree ORDER BY a", 497),
    ("CREATE DICTIONARY x (k UInt64, v String) PRIMARY KEY k SOURCE(FILE(PATH '@/secret' FORMAT 'CSV')) "
     "LAYOUT(FLAT())", 497),
    ("CREATE DICTIONARY x (k UInt64, v String) PRIMARY KEY k SOURCE(EXECUTABLE(COMMAND 'cat @/secret' FORMAT 'CSV')) "
     "LAYOUT(FLAT())", 497),
    ("BACKUP TABLE t TO File('@/out')", 497),
    ("BACKUP TABLE t TO Disk('default', 'out')", 497),
    ("RESTORE TABLE t AS x FROM File('@')", 497),
    ("SELECT 'x' AS a FORMAT Template SETTINGS format_template_row = '@/secret'", 452),
    ("SELECT 1 AS a FORMAT Protobuf SETTINGS output_format_schema = '@/out'", 452),
    ("SET dialect = 'prql'", 452),
    ("SYSTEM SHUTDOWN", 497),
    ("CREATE FUNCTION mine AS (x) -> x", 497),
    ("DROP DATABASE default", 497),
]  # fmt: skip


@pytest.mark.parametrize("session", [{}, {"session_id": "s"}])
@pytest.mark.parametrize(("statement", "code"), REFUSED)
def test_what_reaches_beyond_the_folder_is_refused(front, outside, statement, code, session):
    _, headers, body = front.ask(statement.replace("@", str(outside)).encode(), **session)
    assert headers["X-ClickHouse-Exception-Code"] == str(code), body
    assert SECRET.encode() not in body
    assert sorted(os.listdir(outside)) == ["script.sql", "secret"]
    assert (outside / "secret").read_text() == f"{SECRET}\n"


@pytest.mark.skipif(sys.platform != "linux", reason="the fence is Linux's")
def test_what_the_engine_lets_slip_writes_nothing(front, outside):
    """It opens the file of sqlite() before it asks for the privilege, and that makes one."""
    if not front.ready["writes_fenced"]:
        missing("Landlock in the kernel")
    for statement in (
        "SELECT * FROM sqlite('@/out', 't')",
        "INSERT INTO t VALUES (1, (SELECT b FROM sqlite('@/out', 't')))",
    ):
        assert front.ask(statement.replace("@", str(outside)).encode())[0] != 200
    assert sorted(os.listdir(outside)) == ["script.sql", "secret"]


def test_a_link_cannot_write_a_file(front, outside):
    status, headers, body = front.ask(method="GET", query=f"SELECT 1 INTO OUTFILE '{outside}/out'")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (500, "358")
    assert b"INTO OUTFILE is not allowed. (INTO_OUTFILE_NOT_ALLOWED) (version 26" in body
    assert not (outside / "out").exists()


@pytest.mark.parametrize(
    "text",
    [
        "SELECT 1 // '\n INTO OUTFILE 'f' -- '",
        "SELECT 1 /* /* */ INTO OUTFILE 'f' */",
        "SELECT 1 /* /* */ ' */ INTO OUTFILE 'f' -- '",
        "SELECT $$ INTO OUTFILE 'f' $$",
        "SELECT $a$ ' $a$ INTO OUTFILE 'f' -- '",
        "SELECT 1 AS $a$$$ INTO OUTFILE 'f' -- $$",
        "SELECT ‘ ' ’ INTO OUTFILE 'f' -- '",
        "SELECT ‘ INTO OUTFILE 'f' ’",
        "SELECT 1 AS “\"” INTO OUTFILE 'f' -- \"",
        "SELECT 1 INTO\u00a0OUTFILE\u3000'f'",
        "SELECT 1 # '\n INTO OUTFILE 'f' -- '",
        "SELECT 'a\\' INTO OUTFILE ''f'",
        "SELECT 'a\\\\' INTO OUTFILE 'f'",
        "SELECT x'41' INTO OUTFILE 'f'",
    ],
)
def test_the_front_and_the_engine_read_quotes_and_comments_alike(front, text):
    """A newer engine that cuts its text in another way must be noticed here."""
    asked = {"query": "SELECT formatQuery(unhex({text:String})) FORMAT TSVRaw", "param_text": text.encode().hex()}
    status, _, parsed = front.ask(**asked)
    assert status == 200, parsed
    refused = front.ask(text.encode())[1]["X-ClickHouse-Exception-Code"]
    assert (b"\nINTO OUTFILE " in parsed) == (refused == "358")


@pytest.mark.parametrize("setting", ["format_template_row", "dialect"])
def test_a_setting_of_the_url_is_no_way_round(front, outside, setting):
    asked = front.ask(b"SELECT 'x' AS a FORMAT Template", **{setting: f"{outside}/secret"})
    assert asked[0] != 200
    assert SECRET.encode() not in asked[2]


def test_what_the_pipeline_needs_is_allowed(front):
    for statement in (
        b"CREATE DATABASE other",
        b"CREATE TABLE other.m (a UInt8, file String) ENGINE = ReplacingMergeTree ORDER BY a",
        b"CREATE VIEW other.v AS SELECT * FROM other.m FINAL",
        b"CREATE MATERIALIZED VIEW other.w ENGINE = SummingMergeTree ORDER BY a AS SELECT a, 1 AS n FROM other.m",
        b"INSERT INTO other.m FORMAT CSV\n1,x\n",
        b"ALTER TABLE other.m ADD COLUMN c UInt8",
        b"OPTIMIZE TABLE other.m FINAL",
        b"TRUNCATE TABLE other.m",
        b"DETACH TABLE other.m",
        b"ATTACH TABLE other.m",
        b"RENAME TABLE other.m TO other.n",
        b"DROP DATABASE other",
    ):
        status, _, body = front.ask(statement)
        assert status == 200, body
    assert front.ask(b"SELECT arrayMap(file -> file + 1, [1]), file FROM (SELECT 2 AS file)")[2] == b"[2]\t2\n"
    assert front.ask(b"SELECT engine FROM system.databases WHERE name = 'default'")[2] == b"Atomic\n"


def test_the_tables_are_there_again_after_a_restart(tmp_path):
    front = Front(tmp_path)
    front.ask(b"CREATE TABLE kept (a UInt8) ENGINE = MergeTree ORDER BY a")
    front.ask(b"INSERT INTO kept VALUES (7)")
    assert front.stop() == 0
    # As an earlier version left it: the database's only trace is the link into the store.
    (tmp_path / "clickhouse" / "engine" / "metadata" / "default.sql").unlink()
    front.start()
    assert front.ask(b"SELECT a FROM kept")[2] == b"7\n"
    front.kill()
    front.start()
    assert front.ask(b"SELECT a FROM kept")[2] == b"7\n"
    assert front.stop() == 0


@pytest.mark.parametrize(("proof", "grant"), [("0", "0"), ("1", "1")])
def test_an_engine_that_did_not_take_its_configuration_must_not_serve(proof, grant):
    def ask(sql):
        return grant if sql.startswith("CHECK GRANT") else proof

    with pytest.raises(NotConfined):
        clickhouse_confinement.prove(ask)
