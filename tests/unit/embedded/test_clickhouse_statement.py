import pytest

from infra.embedded.clickhouse_statement import quote_name, quote_string, split_statement
from infra.embedded.clickhouse_tokens import StatementError


@pytest.mark.parametrize(
    ("text", "sql", "data_format", "data"),
    [
        (b"INSERT INTO t (a,`format`) FORMAT Native\n\x01\n", b"INSERT INTO t (a,`format`) ", "Native", b"\x01\n"),
        (b"insert into t format CSV 1,2", b"insert into t ", "CSV", b"1,2"),
        (b"INSERT INTO t FORMAT TSV;\r\n\t1", b"INSERT INTO t ", "TSV", b"\t1"),
        (b"INSERT INTO t FORMAT TSV\n\n1", b"INSERT INTO t ", "TSV", b"\n1"),
        (b"INSERT INTO t SETTINGS a='FORMAT x' FORMAT CSV\n1", b"INSERT INTO t SETTINGS a='FORMAT x' ", "CSV", b"1"),
        (b"INSERT INTO db.values VALUES (1)", b"INSERT INTO db.values ", "Values", b" (1)"),
        (b"INSERT INTO format (values) VALUES (1)", b"INSERT INTO format (values) ", "Values", b" (1)"),
        (b"-- why\nINSERT /* FORMAT x */ INTO t FORMAT CSV\n", b"-- why\nINSERT /* FORMAT x */ INTO t ", "CSV", b""),
    ],
)
def test_the_data_of_an_insert_begins_after_its_format(text, sql, data_format, data):
    statement = split_statement(text)
    assert statement.sql == sql
    assert statement.format == data_format
    assert text[statement.data_at :] == data
    assert not statement.is_read


@pytest.mark.parametrize(
    ("text", "word", "answer_format"),
    [
        (b"SELECT 1", "select", None),
        (b"(SELECT 1) FORMAT JSON", "select", "JSON"),
        (b"WITH 1 AS x SELECT x FORMAT CSV SETTINGS max_threads = 1;", "with", "CSV"),
        (b"SELECT ' FORMAT CSV ' AS `FORMAT XML` -- FORMAT TSV\n;", "select", None),
        (b"# note\nSHOW TABLES", "show", None),
        (b"INSERT INTO t SELECT 1", "insert", None),
        (b"INSERT INTO t SELECT a, format FROM s ORDER BY format DESC", "insert", None),
        (b"INSERT INTO t SELECT input FROM s FORMAT CSV ;\n", "insert", "CSV"),
        (b"WITH 1 AS x INSERT INTO t SELECT x", "insert", None),
        (b"CREATE TEMPORARY TABLE t (a UInt8)", "create temporary", None),
        (b"SET a = 1", "set", None),
    ],
)
def test_other_statements_stay_whole(text, word, answer_format):
    statement = split_statement(text)
    assert (statement.word, statement.sql, statement.format, statement.data_at) == (word, text, answer_format, None)
    assert statement.is_read == (word in ("select", "with", "show"))
    assert statement.changes_session == (word in ("set", "create temporary"))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "Empty query"),
        (b" -- nothing\n", "Empty query"),
        (b"SELECT 1; DROP TABLE t", "Multi-statements"),
        (b"SELECT 1 ;; SELECT 2", "Multi-statements"),
        (b"INSERT INTO t FORMAT", "a name of a format"),
        (b"SELECT (1; SELECT 2)", "Multi-statements"),
        (b"INSERT INTO t; INSERT INTO s FORMAT CSV\n1", "Multi-statements"),
    ],
)
def test_what_is_not_one_statement_is_refused(text, why):
    with pytest.raises(StatementError, match=why) as refused:
        split_statement(text)
    assert refused.value.code == 62


@pytest.mark.parametrize(
    ("text", "answer_format"),
    [
        (b"SELECT a AS x, format FROM t ORDER BY format DESC", None),
        (b"SELECT a FROM t ORDER BY a, format DESC FORMAT CSV", "CSV"),
        (b"SELECT a FROM t WHERE format LIKE 'x' GROUP BY format FORMAT CSV;", "CSV"),
        (b"SELECT 2 * format x", None),
        (b"SELECT * FORMAT CSV", "CSV"),
        (b"SELECT t.* FORMAT `CSV`", "CSV"),
        (b"SELECT count(*) FORMAT CSV SETTINGS max_threads = 1", "CSV"),
        (b"SELECT database, table FROM system.parts ORDER BY database, table FORMAT CSV", "CSV"),
        (b"SELECT 1 AS by FORMAT CSV", "CSV"),
        (b"SELECT a FROM s.table FORMAT CSV", "CSV"),
        (b"SELECT a FROM t ORDER BY a DESC WITH FILL FROM 1 TO 5 STEP 2 FORMAT CSV", "CSV"),
        (b"SELECT 1 UNION ALL SELECT 2 FORMAT CSV", "CSV"),
        (b"SELECT 1 WHERE 1 IS NOT NULL FORMAT CSV", "CSV"),
        (b"SELECT CASE WHEN 1 THEN format ELSE 2 END FROM t FORMAT CSV", "CSV"),
        (b"WITH format AS (SELECT 1) SELECT * FROM format f", None),
        (b"SHOW CREATE format FORMAT CSV", "CSV"),
        (b"DESC format FORMAT CSV", "CSV"),
        (b"SHOW TABLES FROM format FORMAT CSV", "CSV"),
        (b"SELECT format('{}', 1) FORMAT CSV", "CSV"),
        (b"ALTER TABLE t ADD COLUMN format String", None),
        (b"ALTER TABLE t ADD COLUMN IF NOT EXISTS format String", None),
        (b"CREATE VIEW v AS SELECT format f", None),
    ],
)
def test_the_format_is_found_where_its_clause_can_stand(text, answer_format):
    assert split_statement(text).format == answer_format


@pytest.mark.parametrize(
    "text",
    [
        b"INSERT INTO t SELECT * FROM input('a UInt8, b String') FORMAT CSV\n9,y",
        b"INSERT INTO t SELECT a FROM INPUT /* x */ ('a UInt8')",
        b"INSERT INTO t WITH 1 AS x SELECT a + x FROM input('a UInt8') FORMAT CSV\n9",
        b"WITH 1 AS x INSERT INTO t SELECT x FROM s FORMAT CSV\n9",
        b"INSERT INTO t SELECT * FROM s FORMAT CSV\n9,y",
        b"INSERT INTO t SELECT * FROM s FORMAT CSV SETTINGS max_threads = 1\n9,y",
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_an_insert_select_gets_no_data_that_would_be_lost(text, complete):
    with pytest.raises(StatementError, match=r"not supported.*Ways out") as refused:
        split_statement(text, complete=complete)
    assert refused.value.code == 48


def test_a_cut_insert_is_refused_not_guessed():
    with pytest.raises(StatementError, match="longer than"):
        split_statement(b"INSERT INTO t (a, b", complete=False)


def test_quoting():
    assert quote_string("a'b\\c") == "'a\\'b\\\\c'"
    assert quote_name("a`b\\c") == "`a\\`b\\\\c`"


def test_a_long_text_in_quotes_takes_linear_time():
    text = b"SELECT '" + b"\\'" * 400_000 + b"' FORMAT CSV"
    assert split_statement(text).format == "CSV"
