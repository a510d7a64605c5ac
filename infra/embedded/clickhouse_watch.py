"""Notices that a client has gone while its statement runs, and calls back once. One thread for all statements."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Callable, Iterator


class GoneWatch:
    """Watches sockets for their end. `start` it before use; `close` ends the thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._lock = threading.Lock()
        self._wake_in, self._wake_out = socket.socketpair()
        self._wake_in.setblocking(False)
        self._wake_out.setblocking(False)
        self._watched: dict[socket.socket, Callable[[], None]] = {}
        self._closing = False
        self._thread = threading.Thread(target=self._run, name="clickhouse-gone-watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    @contextlib.contextmanager
    def watching(self, connection: socket.socket, when_gone: Callable[[], None]) -> Iterator[None]:
        """While inside, `when_gone` is called, from the watch's thread, if the other side closes `connection`."""
        self._set(connection, when_gone)
        try:
            yield
        finally:
            self._set(connection, None)

    def close(self) -> None:
        self._closing = True
        self._wake()
        self._thread.join(5)

    def _set(self, connection: socket.socket, when_gone: Callable[[], None] | None) -> None:
        with self._lock:
            if when_gone is None:
                # Unregistered here and now: the caller may close the socket next.
                if self._watched.pop(connection, None) is not None:
                    self._selector.unregister(connection)
                return
            self._watched[connection] = when_gone
            self._selector.register(connection, selectors.EVENT_READ)
        self._wake()

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError, OSError):
            self._wake_out.send(b"x")

    def _run(self) -> None:
        self._selector.register(self._wake_in, selectors.EVENT_READ)
        while not self._closing:
            for key, _ in self._selector.select():
                if key.fileobj is self._wake_in:
                    with contextlib.suppress(BlockingIOError):
                        self._wake_in.recv(4096)
                else:
                    self._look(key.fileobj)
        self._selector.close()
        self._wake_in.close()
        self._wake_out.close()

    def _look(self, connection: object) -> None:
        with self._lock:
            when_gone = self._watched.get(connection) if isinstance(connection, socket.socket) else None
            if when_gone is None or not isinstance(connection, socket.socket):
                return
            # Readable means the end, or the next request sent early; either way there is nothing more to watch for.
            self._watched.pop(connection)
            self._selector.unregister(connection)
            gone = _has_ended(connection)
        if gone:
            when_gone()


def _has_ended(connection: socket.socket) -> bool:
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
