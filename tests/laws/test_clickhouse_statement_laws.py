"""What the splitting of an INSERT must never do: change its data, or let data decide where the statement ends."""

from hypothesis import given
from hypothesis import strategies as st

from infra.embedded.clickhouse_statement import quote_name, quote_string, split_statement


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
