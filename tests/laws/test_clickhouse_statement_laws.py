"""What the splitting of an INSERT must never do: change its data, or let data decide where the statement ends."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.embedded.clickhouse_statement import quote_name, quote_string, split_statement
from infra.embedded.clickhouse_tokens import StatementError, read_tokens


@given(data=st.binary(max_size=200), column=st.text(min_size=1, max_size=20))
def test_data_after_a_line_break_comes_back_whole(data, column):
    sql = f"INSERT INTO t ({quote_name(column)}) ".encode("utf-8", "surrogatepass")
    text = sql + b"FORMAT Native\n" + data
    statement = split_statement(text)
    assert (statement.sql, statement.format) == (sql, "Native")
    assert text[statement.data_at :] == data


@given(value=st.text(max_size=50))
def test_a_quoted_value_never_ends_the_statement(value):
    text = f"SELECT {quote_string(value)} FORMAT CSV".encode("utf-8", "surrogatepass")
    statement = split_statement(text)
    assert (statement.word, statement.format, statement.sql) == ("select", "CSV", text)


QUIET = (
    "'\\''",
    "`'`",
    '"\\""',
    "$$'$$",
    "$a$ $$ $a$",
    "‘'’",
    "/*'/*\"*/`*/",
    "--'\n",
    "//`\n",
    '# "\n',
    "\u00a0",
    "\n",
)


@given(
    before=st.lists(st.sampled_from(QUIET), max_size=6), between=st.sampled_from([" ", "\n", "/**/", "//'\n", "\u3000"])
)
def test_no_quotes_or_comments_hide_a_clause_that_the_engine_would_follow(before, between):
    text = f"SELECT 1 {' '.join(before)} INTO{between}OUTFILE 'f'"
    with pytest.raises(StatementError) as refused:
        split_statement(text.encode())
    assert refused.value.code == 358


@given(text=st.binary(max_size=300))
def test_tokens_are_in_order_and_their_bytes_are_the_texts(text):
    end = 0
    for token in read_tokens(text):
        assert end <= token.start < token.end
        assert text[token.start : token.end] == token.text
        end = token.end
