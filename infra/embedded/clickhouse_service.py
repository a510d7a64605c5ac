"""Runs one request's statement on the engine: admission, session, settings, and which way its bytes go.

Knows the engine and the reply, not sockets.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import IO

from infra.embedded.clickhouse_body import pieces_from
from infra.embedded.clickhouse_engine import Connection, Engine, EngineError, Preamble, QueryStats
from infra.embedded.clickhouse_options import Options
from infra.embedded.clickhouse_reply import Reply
from infra.embedded.clickhouse_room import NoRoom, RoomWatch
from infra.embedded.clickhouse_slots import SessionBusy, Sessions, Slots, TooManyQueries
from infra.embedded.clickhouse_statement import STREAMED_FORMATS, Statement, split_statement
from infra.embedded.clickhouse_tokens import StatementError
from infra.embedded.disk import is_no_room

STATEMENT_BYTES_MAX = 1 << 20
# An answer that cannot be streamed is made in memory, some three times its size.
WHOLE_RESULT_BYTES_MAX = 256 << 20
NO_ROOM_TEXT = "No space left on the disk of the embedded ClickHouse: make room on it, then try again"
MARKER = "inferwatch-front-"

QUERY_IS_TOO_LARGE, TOO_MANY_SIMULTANEOUS_QUERIES, SESSION_IS_LOCKED, NOT_ENOUGH_SPACE = 229, 202, 373, 243
_NAMES = {
    36: "BAD_ARGUMENTS",
    48: "NOT_IMPLEMENTED",
    62: "SYNTAX_ERROR",
    78: "UNKNOWN_TYPE_OF_QUERY",
    202: "TOO_MANY_SIMULTANEOUS_QUERIES",
    229: "QUERY_IS_TOO_LARGE",
    243: "NOT_ENOUGH_SPACE",
    271: "CANNOT_DECOMPRESS",
    307: "TOO_MANY_BYTES",
    358: "INTO_OUTFILE_NOT_ALLOWED",
    373: "SESSION_IS_LOCKED",
    497: "ACCESS_DENIED",
    1002: "UNKNOWN_EXCEPTION",
}


@dataclass(frozen=True)
class Admission:
    """How many statements run and wait. Inserts have slots of their own: a slow query must not hold one up."""

    queries_max: int = 4
    inserts_max: int = 2
    waiting_max: int = 64
    wait_s: float = 60.0


class Service:
    """All statements of the front go through here, each on its request's thread."""

    def __init__(self, engine: Engine, admission: Admission, room: RoomWatch) -> None:
        """`room` is asked before writes. It and the engine stay the caller's to close, after `close` of this."""
        self._engine = engine
        self._room = room
        self._sessions = Sessions()
        self._queries = Slots("queries", admission.queries_max, admission.waiting_max, admission.wait_s)
        self._inserts = Slots("inserts", admission.inserts_max, admission.waiting_max, admission.wait_s)

    def refusal(self, code: int, message: str) -> EngineError:
        """An error of the front itself in the words of the engine."""
        version = f"(version {self._engine.version} (embedded build))"
        return EngineError(code, f"Code: {code}. DB::Exception: {message.rstrip('.')}. ({_NAMES[code]}) {version}")

    def execute(
        self,
        options: Options,
        body: IO[bytes],
        start_reply: Callable[[str | None], Reply],
        watching: Callable[[Callable[[], None]], AbstractContextManager[None]],
    ) -> None:
        """Runs the statement of `options.query` and `body` and finishes or fails the reply.

        `start_reply` makes the reply, given the format of the answer or None; `watching(stop)` is entered around a
        read and calls `stop` if the client goes away. Raises OSError when the client cannot be written to.
        """
        reply: Reply | None = None
        try:
            try:
                statement, data = self._read_statement(options, body)
                slots = self._inserts if statement.data_at is not None else self._queries
                answer = statement.format or options.default_format
                with slots.slot(), self._connection(options, statement) as connection:
                    if statement.needs_room:
                        self._room.check()
                    reply = start_reply(answer if statement.data_at is None and statement.is_read else None)
                    self._prepare(connection, options, statement, answer)
                    self._run(connection, statement, answer, data, reply, watching)
                    stats = connection.stats
            except StatementError as error:
                raise self.refusal(error.code, str(error)) from None
            except TooManyQueries as error:
                raise self.refusal(TOO_MANY_SIMULTANEOUS_QUERIES, str(error)) from None
            except SessionBusy as error:
                raise self.refusal(SESSION_IS_LOCKED, str(error)) from None
            except NoRoom as error:
                raise self.refusal(NOT_ENOUGH_SPACE, str(error)) from None
            except OSError as error:
                if not is_no_room(error):  # the client's connection
                    raise
                raise self.refusal(NOT_ENOUGH_SPACE, NO_ROOM_TEXT) from None
            reply.finish(stats)
        except EngineError as error:
            (reply or start_reply(None)).fail(error)
        finally:
            if reply is not None:
                reply.close()

    def stop_reads(self) -> None:
        """Ends the running reads with error 394."""
        self._engine.kill(MARKER)

    def close(self) -> None:
        """Closes the sessions."""
        self._sessions.close()

    def _read_statement(self, options: Options, body: IO[bytes]) -> tuple[Statement, Iterator[bytes]]:
        url_part = options.query.encode()
        head = body.read(STATEMENT_BYTES_MAX + 1)
        complete = len(head) <= STATEMENT_BYTES_MAX
        # The server reads the URL's part, a line break, and the body as one text.
        text = url_part + b"\n" + head if url_part.strip() and head else url_part + head
        statement = split_statement(text, complete=complete)
        if statement.data_at is not None:
            return statement, pieces_from(body, text[statement.data_at :])
        if not complete or len(text) > STATEMENT_BYTES_MAX:
            raise self.refusal(QUERY_IS_TOO_LARGE, f"The statement is larger than {STATEMENT_BYTES_MAX} bytes")
        return statement, iter(())

    def _prepare(self, connection: Connection, options: Options, statement: Statement, answer: str) -> None:
        settings = dict(options.settings)
        if statement.is_select and answer.lower() not in STREAMED_FORMATS and "max_result_bytes" not in settings:
            settings |= {"max_result_bytes": str(WHOLE_RESULT_BYTES_MAX), "result_overflow_mode": "throw"}
        connection.prepare(Preamble(options.database, settings))

    def _run(
        self,
        connection: Connection,
        statement: Statement,
        answer: str,
        data: Iterator[bytes],
        reply: Reply,
        watching: Callable[[Callable[[], None]], AbstractContextManager[None]],
    ) -> None:
        sql = _text(statement.sql)
        if statement.data_at is not None:
            head, settings = (
                _text(statement.sql[: statement.settings_at]),
                _text(statement.sql[statement.settings_at :]),
            )
            connection.insert(head, settings, answer if statement.format else "Values", data)
            return
        if not statement.is_read:
            reply.feed(connection.run(sql, answer))
            return
        marker = MARKER + uuid.uuid4().hex
        sql = f"{sql}\n/* {marker} */"
        with watching(lambda: self._engine.kill(marker)):
            if statement.is_select and answer.lower() in STREAMED_FORMATS:
                with contextlib.closing(connection.stream(sql, answer)) as blocks:
                    for block in blocks:
                        reply.feed(block)
            else:
                reply.feed(connection.run(sql, answer))

    @contextlib.contextmanager
    def _connection(self, options: Options, statement: Statement) -> Iterator[Connection]:
        if not options.session_id:
            with contextlib.closing(self._engine.connect()) as connection:
                yield connection
            return
        with self._sessions.borrow(options.session_id) as kept:
            if kept is None:
                yield from self._first_of_session(options, statement)
            else:
                yield from self._next_of_session(kept, options)
            if options.close_session:
                # Still borrowed: a next statement of the session must not find its connection closed under it.
                self._sessions.drop(options.session_id)

    def _first_of_session(self, options: Options, statement: Statement) -> Iterator[Connection]:
        """A session costs a kept connection only from the first statement on that leaves something behind."""
        connection = self._engine.connect()
        try:
            yield connection
            if statement.changes_session:
                connection.recover([name for name in options.settings if not name.startswith("param_")])
        except BaseException:
            connection.close()
            raise
        if statement.changes_session:
            self._sessions.keep(options.session_id, connection, options.session_idle_s)
        else:
            connection.close()

    def _next_of_session(self, connection: Connection, options: Options) -> Iterator[Connection]:
        connection.stats = QueryStats()
        try:
            yield connection
        finally:
            touched = [name for name in options.settings if not name.startswith("param_")]
            try:
                connection.recover([*touched, "max_result_bytes", "result_overflow_mode"])
            except Exception:
                self._sessions.drop(options.session_id)


def _text(sql: bytes) -> str:
    try:
        return sql.decode()
    except UnicodeDecodeError as error:
        raise StatementError(f"The statement is not UTF-8 (byte {error.start})") from None
