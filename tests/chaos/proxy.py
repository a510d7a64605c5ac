"""A TCP proxy in front of a server, for faults of the network: slow, cut, cut half way, an answer that never comes.

Threads and blocking sockets: what goes through is some hundred small messages a second.
"""

import contextlib
import socket
import threading
import time

CHUNK = 65_536
QUIET_SECONDS = 0.7


class Proxy:
    """Listens on a port of 127.0.0.1 and passes everything on to another. Faults are switched on and off from any
    thread; those that count ("the next N") wear off by themselves."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        self.lag_seconds = 0.0
        """Held back before each piece, both ways."""
        self.is_cut = False
        self.replies_to_swallow = 0
        """So many answers to inserts are not passed on: the connection is closed in their place, after the server has
        acted."""
        self.bodies_to_break, self.break_after_bytes = 0, 0
        """So many connections are closed after so many bytes towards the server."""
        self.passed_bytes = 0
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._inserting: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"proxy-{self.port}", daemon=True).start()

    def cut(self) -> None:
        """Break every connection and let no new one through, until `heal`."""
        self.is_cut = True
        self.drop_all()

    def drop_all(self) -> None:
        """Break every connection; new ones come through."""
        with self._lock:
            broken, self._open = self._open, set()
        for one in broken:
            _close(one)

    def heal(self) -> None:
        """All is well."""
        self.is_cut, self.lag_seconds, self.replies_to_swallow, self.bodies_to_break = False, 0.0, 0, 0

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.is_cut:
                _close(near)
                continue
            try:
                far = socket.create_connection(("127.0.0.1", self.target_port), timeout=5)
            except OSError:
                _close(near)
                continue
            far.settimeout(None)
            with self._lock:
                self._open |= {near, far}
            if self.is_cut:
                self.drop_all()
            for one in (near, far):
                with contextlib.suppress(OSError):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._pump, args=(near, far, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, False), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, to_server: bool) -> None:
        sent = 0
        try:
            while data := source.recv(CHUNK):
                if self.lag_seconds:
                    time.sleep(self.lag_seconds)
                if to_server and self._breaks(sent + len(data)):
                    with contextlib.suppress(OSError):
                        sink.sendall(data[: max(0, self.break_after_bytes - sent)])
                    break
                if to_server and b"INSERT" in data:
                    self._inserting.add(sink)
                if not to_server and self._swallows(source):
                    _swallow_rest(source)
                    break
                sink.sendall(data)
                sent += len(data)
                self.passed_bytes += len(data)
        except OSError:
            pass
        finally:
            with self._lock:
                self._open -= {source, sink}
                self._inserting -= {source, sink}
            _close(source)
            _close(sink)

    def _breaks(self, sent: int) -> bool:
        with self._lock:
            if self.bodies_to_break and sent > self.break_after_bytes:
                self.bodies_to_break -= 1
                return True
        return False

    def _swallows(self, server: socket.socket) -> bool:
        """Whether this answer, which is of an insert, is not passed on. Of anything else it would change nothing."""
        with self._lock:
            if self.replies_to_swallow and server in self._inserting:
                self.replies_to_swallow -= 1
                return True
            self._inserting.discard(server)
        return False


def _swallow_rest(source: socket.socket) -> None:
    """Read until nothing comes: a server that is told of a lost client too early may leave undone what it was asked."""
    source.settimeout(QUIET_SECONDS)
    with contextlib.suppress(TimeoutError):
        while source.recv(CHUNK):
            pass


def _close(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
