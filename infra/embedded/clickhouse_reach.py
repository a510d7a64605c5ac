"""Refuses the statements that would reach beyond the engine's folder and that the engine itself lets pass.

The engine is a library: for the clauses of a client (INTO OUTFILE, FROM INFILE) and for some engines of tables it asks
no privilege, whatever `readonly` says. All else is the engine's own access control (clickhouse_confinement.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from infra.embedded.clickhouse_tokens import StatementError, Token

UNKNOWN_TYPE_OF_QUERY, INTO_OUTFILE_NOT_ALLOWED, ACCESS_DENIED = 78, 358, 497

_INSERT_INTO = 2  # the words before a table's name, which may be any
_DEFINITIONS = frozenset({b"create", b"attach", b"replace"})
# Those that keep to the data folder. Others take a path (EmbeddedRocksDB, FileLog), run a program (Executable), or are
# refused by the engine's access control too (File, URL, S3, ...).
_ENGINES = re.compile(
    rb"\w*MergeTree|Memory|Null|Log|StripeLog|TinyLog|Set|Join|Buffer|Merge|GenerateRandom|Alias|View|MaterializedView"
    rb"|Atomic|Replicated"
)
# After these a word `engine` was a column of a view's SELECT: no engine has such a name.
_AFTER_A_COLUMN = frozenset(
    b"and as asc between desc except format from group having ilike in intersect is like limit not or order prewhere "
    b"settings union where".split()
)


def within_reach(tokens: Iterator[Token]) -> Iterator[Token]:
    """Hands on the tokens of one statement. Raises StatementError where it would leave the folder."""
    watch = _Watch()
    for token in tokens:
        watch.see(token)
        yield token


class _Watch:
    """What was seen of one statement so far."""

    def __init__(self) -> None:
        self._previous: Token | None = None
        self._seen = 0
        self._verb = b""
        self._of_database = False
        self._engine: Token | None = None

    def see(self, token: Token) -> None:
        previous, self._previous = self._previous, token
        word = token.text.lower() if token.kind == "word" else b""
        before = previous.text.lower() if previous is not None and previous.kind == "word" else b""
        if previous is None and not word and not token.is_sign(b"("):
            # The engine's client has commands of its own: "\i FILE" runs a file.
            raise StatementError("Syntax error: failed at position 1: a statement begins with a word.")
        self._seen += 1
        into_a_table = self._verb == b"insert" and self._seen == _INSERT_INTO + 1
        if word == b"outfile" and before == b"into" and not into_a_table:
            raise StatementError("INTO OUTFILE is not allowed", INTO_OUTFILE_NOT_ALLOWED)
        if word == b"infile" and before == b"from":
            raise StatementError("Query has infile and was send directly to server", UNKNOWN_TYPE_OF_QUERY)
        if word == b"with" and before == b"parallel":
            self._verb, self._of_database, self._engine = b"", False, None
        elif not self._verb:
            self._verb = word
        elif self._verb in _DEFINITIONS:
            self._see_definition(token, word, before)

    def _see_definition(self, token: Token, word: bytes, before: bytes) -> None:
        if self._engine is not None:
            self._see_engine(token)
            return
        if token.depth or not word:
            return
        if word == b"database" and before in _DEFINITIONS:
            self._of_database = True
        elif word == b"engine":
            self._engine = token
        elif word == b"settings" and self._of_database and before not in (b"database", b"exists"):
            raise StatementError("A database with settings (a disk of its own) is not allowed here", ACCESS_DENIED)
        elif word == b"from" and self._verb == b"attach":
            # It moves the folder it names into this one.
            raise StatementError("ATTACH ... FROM a folder is not allowed here", ACCESS_DENIED)

    def _see_engine(self, token: Token) -> None:
        """`token` follows ENGINE: a name of an engine, "=", or what follows a column of this name."""
        assert self._engine is not None
        if token.is_sign(b"=") and self._engine.kind == "word":
            self._engine = token
            return
        named = self._engine.is_sign(b"=")
        self._engine = None
        if token.kind == "word" and _ENGINES.fullmatch(token.text) is not None:
            return
        could_name = token.kind == "word" or (token.kind == "quoted" and token.text[:1] != b"'")
        if not named and (not could_name or token.text.lower() in _AFTER_A_COLUMN):
            return
        if named and not could_name and not token.is_sign(b"{"):
            return
        name = token.text.decode("utf-8", "replace")
        raise StatementError(
            f"The engine {name} is not allowed: the embedded ClickHouse keeps to its own folder. Ways out: one of the "
            "MergeTree family; Memory; Log.",
            ACCESS_DENIED,
        )
