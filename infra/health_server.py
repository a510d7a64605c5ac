"""The small HTTP server of every process: `/metrics`, `/health/live`, `/health/ready`. Owns the port and no judgement.

It must answer when everything else is stuck, so it has threads of its own, few of them, and no caller can keep one: a
connection is one request, and one that takes longer than a moment is cut off.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from infra.health import Probed, Verdict
from infra.meters import Exposition
from infra.metrics import LIVE, READY
from infra.ports import Clock, TryAgain

LOG = logging.getLogger(__name__)
CONNECTIONS_MAX = 16
"""Connections served at once: a scraper, the probes and some people. More are answered 503 at once."""
CONNECTION_SECONDS_MAX = 5.0
"""Longest life of a connection, whatever it does. Kubernetes gives a probe 1 s, Prometheus a scrape 10 s; a page of
1 MB takes some 100 ms here."""
REFUSAL = b"HTTP/1.0 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
INDEX = b"inferwatch\n\n/metrics\n/health/live\n/health/ready\n"

Details = Callable[[], Mapping[str, Any]]
"""More facts for the body of `/health/ready`, as JSON values."""


class HealthServer:
    """Serves until closed, on daemon threads."""

    def __init__(
        self,
        address: str,
        port: int,
        health: Probed,
        exposition: Exposition,
        clock: Clock,
        *,
        process: str = "",
        details: Details = dict,
    ) -> None:
        """Binds and starts. Port 0 takes a free one. Raises TryAgain when the port cannot be had."""
        self._health, self._exposition, self._clock = health, exposition, clock
        self._process, self._details = process, details
        try:
            self._server = _Server(address, port, self.answer, clock)
        except OSError as error:
            raise TryAgain(
                f"cannot serve /metrics and /health on {address}:{port}: {error}. Ways out: another port, or end the "
                "process that has it"
            ) from None
        LIVE.follow(lambda: float(health.live(clock.monotonic()).good))
        READY.follow(lambda: float(health.ready(clock.monotonic()).good))
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="health", daemon=True)
        self._thread.start()
        LOG.info("/metrics and /health on %s:%d", address, self.port)

    def close(self) -> None:
        """Give the port back."""
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, accept: str = "", accept_encoding: str = "") -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body for a path."""
        path = path.partition("?")[0].rstrip("/") or "/"
        if path == "/metrics":
            shown = self._exposition.render(accept, accept_encoding)
            headers = {"Content-Type": shown.content_type, "Vary": "Accept, Accept-Encoding"}
            return 200, headers | ({"Content-Encoding": shown.encoding} if shown.encoding else {}), shown.body
        if path == "/health/live":
            return self._verdict(self._health.live(self._clock.monotonic()), {})
        if path == "/health/ready":
            return self._verdict(self._health.ready(self._clock.monotonic()), self._details())
        plain = {"Content-Type": "text/plain; charset=utf-8"}
        return (200, plain, INDEX) if path == "/" else (404, plain, b"no such page\n\n" + INDEX)

    def _verdict(self, verdict: Verdict, details: Mapping[str, Any]) -> tuple[int, dict[str, str], bytes]:
        body = {
            "status": "ok" if verdict.good else "unavailable",
            "code": verdict.code.value,
            "reason": verdict.words,
            "process": self._process,
            **details,
        }
        return 200 if verdict.good else 503, {"Content-Type": "application/json"}, json.dumps(body).encode() + b"\n"


Answer = Callable[[str, str, str], tuple[int, dict[str, str], bytes]]


class _Server(ThreadingHTTPServer):
    """One thread a connection, at most CONNECTIONS_MAX, each for CONNECTION_SECONDS_MAX."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 32

    def __init__(self, address: str, port: int, answer: Answer, clock: Clock) -> None:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        self.address_family = found[0]
        self.answer, self._clock = answer, clock
        self._since: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        super().__init__((str(found[4][0]), int(found[4][1])), _Handler)

    def server_bind(self) -> None:
        # Not HTTPServer's own: it asks the name server for this machine's full name, which may take seconds.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            is_full = len(self._since) >= CONNECTIONS_MAX
            if not is_full:
                self._since[request] = self._clock.monotonic()
        if is_full:
            request.settimeout(0.1)
            with contextlib.suppress(OSError):
                request.sendall(REFUSAL)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._since.pop(request, None)
        super().shutdown_request(request)

    def service_actions(self) -> None:
        """Called between connections: cut off those that take too long."""
        before = self._clock.monotonic() - CONNECTION_SECONDS_MAX
        with self._lock:
            late = [request for request, since in self._since.items() if since < before]
        for request in late:
            with contextlib.suppress(OSError):
                request.shutdown(socket.SHUT_RDWR)  # its thread wakes up and closes it

    def handle_error(self, request: Any, client_address: Any) -> None:
        LOG.debug("a connection failed", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    """One request a connection (HTTP/1.0)."""

    server: _Server
    timeout = CONNECTION_SECONDS_MAX
    server_version = "inferwatch"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the page."""
        self._reply(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the page's headers."""
        self._reply(with_body=False)

    def log_message(self, format: str, *args: object) -> None:
        LOG.debug(format, *args)

    def _reply(self, *, with_body: bool) -> None:
        try:
            status, headers, body = self.server.answer(
                self.path, self.headers.get("Accept", ""), self.headers.get("Accept-Encoding", "")
            )
        except Exception:
            LOG.exception("%s cannot be answered", self.path[:100])
            status, headers, body = 500, {"Content-Type": "text/plain; charset=utf-8"}, b"internal error\n"
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if with_body:
            self.wfile.write(body)
