"""Finds where a ClickHouse statement ends and its data begins, as the HTTP interface must.

Owns the few words of grammar that takes (INSERT, VALUES, FORMAT, SETTINGS); the engine parses the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from infra.embedded.clickhouse_clauses import FormatClause, expects_operand
from infra.embedded.clickhouse_reach import within_reach
from infra.embedded.clickhouse_tokens import StatementError, Token, read_tokens

NOT_IMPLEMENTED = 48

# Formats that the engine can hand out block by block: the pieces joined are the same bytes as the whole.
STREAMED_FORMATS = frozenset(
    {
        "csv",
        "jsoncompacteachrow",
        "jsoneachrow",
        "jsonstringseachrow",
        "lineasstring",
        "msgpack",
        "native",
        "rowbinary",
        "tabseparated",
        "tabseparatedraw",
        "tskv",
        "tsv",
        "tsvraw",
    }
)
_READS = frozenset({"select", "with", "show", "describe", "desc", "explain", "exists", "check"})
# They write nothing, or next to nothing and make room.
_NEED_NO_ROOM = _READS | {"set", "use", "kill", "drop", "truncate", "system"}
_SESSION_WORDS = frozenset({"set", "use"})

# "Data starts after the first newline, if there was one, or after all the spaces" (ParserInsertQuery).
_BEFORE_DATA = re.compile(rb"[ \t\f]*(?:;[ \t\f]*)?\r?\n?")


@dataclass(frozen=True)
class Statement:
    """One statement. `sql` is UTF-8 text as bytes.

    For an INSERT that carries data, `sql` ends before its FORMAT or VALUES, `format` names the data's format and
    `data_at` is the index of its first byte; `settings_at` is where its SETTINGS begin, or the end of `sql`. For
    others `data_at` is None and `format` is the answer's, or None.
    """

    word: str
    sql: bytes
    format: str | None
    data_at: int | None
    settings_at: int = 0

    @property
    def is_read(self) -> bool:
        """True when the statement answers rows and changes nothing."""
        return self.word in _READS

    @property
    def needs_room(self) -> bool:
        """True when the statement writes what a full disk could break."""
        return self.word not in _NEED_NO_ROOM

    @property
    def is_select(self) -> bool:
        return self.word in ("select", "with")

    @property
    def changes_session(self) -> bool:
        """True for SET, USE and CREATE TEMPORARY: they matter to later statements of the same session."""
        return self.word in _SESSION_WORDS or self.word == "create temporary"


def split_statement(text: bytes, *, complete: bool = True) -> Statement:
    """The statement at the head of `text`.

    `complete` says that nothing follows `text`; a head that ends before an INSERT says where its data begins is
    then an INSERT without data, otherwise it is refused. Raises StatementError, also for what may not run here.
    """
    tokens = within_reach(read_tokens(text))
    first = next(tokens, None)
    while first is not None and first.text == b"(":
        first = next(tokens, None)
    if first is None:
        raise StatementError("Syntax error: failed at position 1 (end of query): Empty query.")
    word = first.text.decode("utf-8", "replace").lower()
    if word == "insert":
        return _split_insert(text, tokens, complete)
    return _split_other(text, first, tokens, word)


def _split_insert(text: bytes, tokens: Iterator[Token], complete: bool) -> Statement:
    previous: Token | None = None
    settings_at: int | None = None
    for token in tokens:
        if token.is_sign(b";") and text[token.end :].strip():
            raise StatementError("Syntax error (Multi-statements are not allowed).")
        named = previous is not None and previous.text.lower() in (b".", b"into", b"table")
        if token.is_word(b"values") and not named:
            return _with_data(text, token.start, settings_at, "Values", token.end)
        if token.is_word(b"format") and not named:
            name = next(tokens, None)
            if name is None or name.kind != "word":
                raise StatementError("Syntax error: a name of a format is expected after FORMAT.")
            after = _BEFORE_DATA.match(text, name.end)
            begins = after.end() if after else name.end
            return _with_data(text, token.start, settings_at, name.text.decode("ascii"), begins)
        if token.is_word(b"select", b"with", b"watch") and not named:
            return _split_other(text, token, tokens, "insert")
        if token.is_word(b"settings") and not named and settings_at is None:
            settings_at = token.start
        previous = token
    if not complete:
        raise StatementError("The INSERT statement is longer than the part of the body searched for its FORMAT.")
    return Statement("insert", text, None, None)


def _with_data(text: bytes, end: int, settings_at: int | None, format_name: str, data_at: int) -> Statement:
    return Statement("insert", text[:end], format_name, data_at, end if settings_at is None else settings_at)


def _split_other(text: bytes, first: Token, tokens: Iterator[Token], word: str) -> Statement:
    """`first` is the word that `tokens` follow; `word` is the statement's."""
    clause = FormatClause()
    previous, operand, ended = first, expects_operand(False, first, None), False
    for position, token in enumerate(tokens):
        if ended and token.text != b";":
            raise StatementError("Syntax error (Multi-statements are not allowed).")
        if position == 0 and word == "create" and token.is_word(b"temporary"):
            word = "create temporary"
        if word == "with" and token.is_word(b"into") and previous.is_word(b"insert"):
            word = "insert"
        clause.see(token, operand)
        if word == "insert":
            _refuse_data(text, clause, token, previous)
        # Inside brackets too: the engine would end the statement there.
        ended = token.is_sign(b";")
        operand = expects_operand(operand, token, previous)
        previous = token
    return Statement(word, text, clause.name, None)


def _refuse_data(text: bytes, clause: FormatClause, token: Token, previous: Token) -> None:
    """The engine forgets the data of an INSERT ... SELECT without a word, so it must not get any."""
    if token.is_sign(b"(") and previous.kind == "word" and previous.text.lower() == b"input":
        what = "The function input()"
    elif clause.name is not None and clause.just_named and text[token.end :].strip(b" \t\r\n\f\v;"):
        what = "INSERT ... SELECT with data (or anything else) after its FORMAT"
    else:
        return
    raise StatementError(
        f"{what} is not supported by the embedded front. Ways out: insert the data into a table of its own, and "
        "INSERT ... SELECT from there; or SETTINGS before FORMAT.",
        NOT_IMPLEMENTED,
    )


def quote_string(value: str) -> str:
    """`value` as a ClickHouse string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(name: str) -> str:
    """`name` as a ClickHouse identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
