"""Finds where a ClickHouse statement ends and its data begins, as the HTTP interface must.

Owns the few words of grammar that takes (INSERT, VALUES, FORMAT, quotes, comments); the engine parses the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

SYNTAX_ERROR = 62

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
_SESSION_WORDS = frozenset({"set", "use"})

_TOKEN = re.compile(
    rb"""(?P<space>[\s\x00]+|--[^\n]*|\#[ !][^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<quoted>'(?:[^'\\]++|\\.|'')*+(?:'|\Z)|"(?:[^"\\]++|\\.|"")*+(?:"|\Z)|`(?:[^`\\]++|\\.|``)*+(?:`|\Z))
    |(?P<word>[A-Za-z_][A-Za-z0-9_]*)
    |(?P<number>[0-9][A-Za-z0-9_.]*)
    |(?P<sign>.)""",
    re.VERBOSE | re.DOTALL,
)
# "Data starts after the first newline, if there was one, or after all the spaces" (ParserInsertQuery).
_BEFORE_DATA = re.compile(rb"[ \t\f]*(?:;[ \t\f]*)?\r?\n?")


class StatementError(Exception):
    """The text cannot be one statement; `code` is ClickHouse's error number."""

    def __init__(self, message: str, code: int = SYNTAX_ERROR) -> None:
        super().__init__(message)
        self.code = code


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
    def is_select(self) -> bool:
        return self.word in ("select", "with")

    @property
    def changes_session(self) -> bool:
        """True for SET, USE and CREATE TEMPORARY: they matter to later statements of the same session."""
        return self.word in _SESSION_WORDS or self.word == "create temporary"


@dataclass(frozen=True)
class _Token:
    kind: str
    text: bytes
    start: int
    end: int
    depth: int

    def is_word(self, *words: bytes) -> bool:
        return self.kind == "word" and self.depth == 0 and self.text.lower() in words


def _tokens(text: bytes) -> Iterator[_Token]:
    depth = 0
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup or ""
        if kind == "space":
            continue
        found = match.group()
        if kind == "sign" and found in b")]}":
            depth = max(0, depth - 1)
        yield _Token(kind, found, match.start(), match.end(), depth)
        if kind == "sign" and found in b"([{":
            depth += 1


def split_statement(text: bytes, *, complete: bool = True) -> Statement:
    """The statement at the head of `text`.

    `complete` says that nothing follows `text`; a head that ends before an INSERT says where its data begins is
    then an INSERT without data, otherwise it is refused. Raises StatementError.
    """
    tokens = _tokens(text)
    first = next(tokens, None)
    while first is not None and first.text == b"(":
        first = next(tokens, None)
    if first is None:
        raise StatementError("Syntax error: failed at position 1 (end of query): Empty query.")
    word = first.text.decode("utf-8", "replace").lower()
    if word == "insert":
        return _split_insert(text, tokens, complete)
    return _split_other(text, word, tokens)


def _split_insert(text: bytes, tokens: Iterator[_Token], complete: bool) -> Statement:
    previous: _Token | None = None
    settings_at: int | None = None
    for token in tokens:
        named = previous is not None and previous.text in (b".", b"into", b"INTO", b"table", b"TABLE")
        if token.is_word(b"values") and not named:
            return _with_data(text, token.start, settings_at, "Values", token.end)
        if token.is_word(b"format") and not named:
            name = next(tokens, None)
            if name is None or name.kind != "word":
                raise StatementError("Syntax error: a name of a format is expected after FORMAT.")
            after = _BEFORE_DATA.match(text, name.end)
            begins = after.end() if after else name.end
            return _with_data(text, token.start, settings_at, name.text.decode("ascii"), begins)
        if token.is_word(b"select", b"with", b"infile", b"watch") and not named:
            return _split_other(text, "insert", tokens)
        if token.is_word(b"settings") and not named and settings_at is None:
            settings_at = token.start
        previous = token
    if not complete:
        raise StatementError("The INSERT statement is longer than the part of the body searched for its FORMAT.")
    return Statement("insert", text, None, None)


def _with_data(text: bytes, end: int, settings_at: int | None, format_name: str, data_at: int) -> Statement:
    return Statement("insert", text[:end], format_name, data_at, end if settings_at is None else settings_at)


def _split_other(text: bytes, word: str, tokens: Iterator[_Token]) -> Statement:
    format_name: str | None = None
    previous: _Token | None = None
    ended = False
    for position, token in enumerate(tokens):
        if ended and token.text != b";":
            raise StatementError("Syntax error (Multi-statements are not allowed).")
        if token.text == b";" and token.kind == "sign" and token.depth == 0:
            ended = True
            continue
        if position == 0 and word == "create" and token.is_word(b"temporary"):
            word = "create temporary"
        if previous is not None and previous.is_word(b"format") and token.kind == "word":
            format_name = token.text.decode("ascii")
        previous = token
    return Statement(word, text, format_name, None)


def quote_string(value: str) -> str:
    """`value` as a ClickHouse string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def quote_name(name: str) -> str:
    """`name` as a ClickHouse identifier."""
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"
