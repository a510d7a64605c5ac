"""The HTTP side of the embedded ClickHouse: requests in, replies out, keep-alive, on the loopback address only."""

from __future__ import annotations

import contextlib
import logging
import socket
import socketserver
import threading
import uuid
from contextlib import AbstractContextManager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from typing import IO, Any

from infra.embedded.clickhouse_body import BodyBroken, BodyTooLarge, Spool, chunked_pieces, sized_pieces
from infra.embedded.clickhouse_codings import PIECE_BYTES, CodingError, choose_coding
from infra.embedded.clickhouse_engine import EngineError
from infra.embedded.clickhouse_options import OptionError, Options, is_trusted_caller, read_form, read_options
from infra.embedded.clickhouse_reply import Reply, content_type, head
from infra.embedded.clickhouse_service import NO_ROOM_TEXT, NOT_ENOUGH_SPACE, STATEMENT_BYTES_MAX, Service
from infra.embedded.clickhouse_watch import GoneWatch
from infra.embedded.disk import is_no_room

CANNOT_DECOMPRESS, TOO_MANY_BYTES, UNKNOWN_EXCEPTION = 271, 307, 1002
# A statement and as much again for its parameters.
FORM_BYTES_MAX = 2 * STATEMENT_BYTES_MAX
CONNECTIONS_MAX = 128
# Longer than clients keep a connection idle: an insert must not meet a connection that is just being closed.
IDLE_S = 300.0
LINGER_BYTES_MAX = 64 << 20
_log = logging.getLogger(__name__)


class FrontServer(socketserver.ThreadingTCPServer):
    """One thread a connection, at most CONNECTIONS_MAX; more are answered 503 and closed."""

    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128

    def __init__(self, port: int, service: Service, spool: Spool, version: str) -> None:
        """Binds 127.0.0.1:`port`. Raises OSError if the port is taken."""
        super().__init__(("127.0.0.1", port), FrontHandler)
        self.service = service
        self.spool = spool
        self.version = version
        self.watch = GoneWatch()
        self.closing = False
        self._connections = threading.Semaphore(CONNECTIONS_MAX)
        self._busy = threading.Condition()
        self._running = 0

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._connections.acquire(blocking=False):
            with contextlib.suppress(OSError):
                request.sendall(head(503, {"Connection": "close", "Content-Length": "0"}))
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        _log.exception("a connection failed")

    @contextlib.contextmanager
    def at_work(self) -> Any:
        """Counts a request as running while inside."""
        with self._busy:
            self._running += 1
        try:
            yield
        finally:
            with self._busy:
                self._running -= 1
                self._busy.notify_all()

    def wait_idle(self, timeout_s: float) -> bool:
        """Waits until no request runs; False after `timeout_s`."""
        with self._busy:
            return self._busy.wait_for(lambda: self._running == 0, timeout_s)


class FrontHandler(BaseHTTPRequestHandler):
    """One connection's requests, one after another."""

    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    wbufsize = 0
    disable_nagle_algorithm = True
    server: FrontServer
    connection: socket.socket
    _reply: Reply | None = None

    def do_GET(self) -> None:
        """GET /, /ping, /replicas_status and /?query=..."""
        path, _, query_string = self.path.partition("?")
        if path in ("/ping", "/replicas_status") or (path == "/" and not query_string):
            self._drain()
            self._plain(200, "Ok.\n")
            return
        self._answer(path, query_string)

    def do_POST(self) -> None:
        """POST /?..., with the statement, its data, or both in the body."""
        path, _, query_string = self.path.partition("?")
        self._answer(path, query_string)

    def log_message(self, format: str, *args: object) -> None:
        _log.debug(format, *args)

    def _answer(self, path: str, query_string: str) -> None:
        if path not in ("/", "/query"):
            self._refuse(404, f"There is no handle {path}\n\nUse / or /ping.\n")
            return
        asked = self.headers
        if not is_trusted_caller(asked.get("Host", ""), asked.get("Origin"), asked.get("Sec-Fetch-Site")):
            self._refuse(403, "Only programs on this machine may ask; a web page of another site may not.\n")
            return
        if self.server.closing:
            self._refuse(503, "The embedded ClickHouse is stopping.\n")
            return
        self._reply = None
        with self.server.at_work():
            try:
                self._serve(query_string)
            except (BodyBroken, ConnectionError, TimeoutError):
                self.close_connection = True
        if self._reply is not None and self._reply.broken:
            self.close_connection = True

    def _serve(self, query_string: str) -> None:
        service = self.server.service
        body: IO[bytes] | None = None
        query_id = ""
        try:
            body = self._receive()
            options = self._options(query_string, body)
            query_id = options.query_id
            service.execute(options, body, lambda answer: self._start(options, answer), self._watching)
        except BodyTooLarge as error:
            self._fail(service.refusal(TOO_MANY_BYTES, str(error)), query_id)
            self._linger()
        except CodingError as error:
            self._fail(service.refusal(CANNOT_DECOMPRESS, str(error)), query_id)
            self._linger()
        except OptionError as error:
            self._fail(service.refusal(error.code, str(error)), query_id)
        except OSError as error:
            if not is_no_room(error):
                raise
            self._fail(service.refusal(NOT_ENOUGH_SPACE, NO_ROOM_TEXT), query_id)
            self._linger()
        except BodyBroken:
            raise
        except Exception as error:
            _log.exception("a statement failed inside the front")
            self._fail(service.refusal(UNKNOWN_EXCEPTION, f"{type(error).__name__}: {error}"), query_id)
            self.close_connection = True
        finally:
            if body is not None:
                body.close()

    def _receive(self) -> IO[bytes]:
        spool = self.server.spool
        coding = self.headers.get("Content-Encoding", "").strip().lower()
        if "chunked" in self.headers.get("Transfer-Encoding", "").lower():
            return spool.receive(chunked_pieces(self.rfile), coding)
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit():
            raise BodyBroken("Content-Length is not a number")
        if int(length) > spool.body_bytes_max:
            raise BodyTooLarge(f"The body has {length} bytes, more than {spool.body_bytes_max}")
        return spool.receive(sized_pieces(self.rfile, int(length)), coding)

    def _options(self, query_string: str, body: IO[bytes]) -> Options:
        form: dict[str, str] = {}
        media = self.headers.get("Content-Type", "")
        if media.lower().startswith("multipart/form-data"):
            # Read to one byte beyond: a form cut off would leave its tail to be taken for a statement or for data.
            given = body.read(FORM_BYTES_MAX + 1)
            if len(given) > FORM_BYTES_MAX:
                raise OptionError(f"The form is larger than {FORM_BYTES_MAX} bytes", TOO_MANY_BYTES)
            form = read_form(media, given)
        headers = {name.lower(): value for name, value in self.headers.items()}
        return read_options(self.command, query_string, headers, form)

    def _start(self, options: Options, answer: str | None) -> Reply:
        headers = self._common(options.query_id)
        if answer is not None:
            headers["X-ClickHouse-Format"] = answer
            headers["Content-Type"] = content_type(answer)
        coding = choose_coding(self.headers.get("Accept-Encoding", "")) if options.compress and answer else None
        spool = self.server.spool
        reply = Reply(self._send, spool.open, headers, coding=coding, wait_end=options.wait_end)
        self._reply = reply
        return reply

    def _common(self, query_id: str) -> dict[str, str]:
        return {
            "Date": formatdate(usegmt=True),
            "Connection": "close" if self.close_connection else "Keep-Alive",
            "Keep-Alive": f"timeout={IDLE_S:.0f}",
            "Content-Type": "text/plain; charset=UTF-8",
            "X-ClickHouse-Server-Display-Name": "inferwatch-embedded",
            "X-ClickHouse-Query-Id": query_id or str(uuid.uuid4()),
            "X-ClickHouse-Timezone": "UTC",
        }

    def _watching(self, stop: Any) -> AbstractContextManager[None]:
        return self.server.watch.watching(self.connection, stop)

    def _send(self, data: bytes) -> None:
        self.connection.sendall(data)

    def _fail(self, error: EngineError, query_id: str) -> None:
        Reply(self._send, self.server.spool.open, self._common(query_id), coding=None, wait_end=False).fail(error)

    def _plain(self, status: int, text: str) -> None:
        body = text.encode()
        self._send(head(status, self._common("") | {"Content-Length": str(len(body))}) + body)

    def _refuse(self, status: int, text: str) -> None:
        """Answers without having read the body, so the connection cannot be used again."""
        self.close_connection = True
        self._plain(status, text)
        self._linger()

    def _drain(self) -> None:
        if self.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in self.headers:
            self.close_connection = True

    def _linger(self) -> None:
        """Reads on for a while before closing: with unread data, the system would take the answer back (RST)."""
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(2.0)
            left = LINGER_BYTES_MAX
            while left > 0 and (piece := self.rfile.read1(PIECE_BYTES)):
                left -= len(piece)
