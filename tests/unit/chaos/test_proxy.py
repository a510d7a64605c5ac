"""The chaos suite's proxy does to connections what it says, and passes everything else on unchanged."""

import contextlib
import socket
import threading

import pytest

from tests.chaos.proxy import Proxy


class Echo:
    """A server that answers what it gets, and remembers it."""

    def __init__(self):
        self.got = b""
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                one, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(one,), daemon=True).start()

    def serve(self, one):
        with one, contextlib.suppress(OSError):
            while data := one.recv(65_536):
                self.got += data
                one.sendall(data)


@pytest.fixture
def echo():
    server = Echo()
    yield server
    server.listener.close()


@pytest.fixture
def proxy(echo):
    made = Proxy(echo.port)
    yield made
    made.close()


def ask(proxy, data=b"hello"):
    """What comes back first; empty when the connection is closed instead."""
    with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as one:
        try:
            one.sendall(data)
            return one.recv(65_536)
        except OSError:
            return b""


def until_asked(proxy):
    """One round trip on a connection that stays open."""
    one = socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
    one.sendall(b"first")
    assert one.recv(100) == b"first"
    return one


def test_what_goes_in_comes_out(proxy):
    one = until_asked(proxy)
    one.sendall(b"more")
    assert one.recv(100) == b"more"
    one.close()


def test_a_cut_breaks_connections_and_lets_none_through_until_healed(proxy):
    one = until_asked(proxy)
    proxy.cut()
    assert gone(one)
    assert ask(proxy) == b""
    proxy.heal()
    until_asked(proxy).close()


def gone(one):
    with one:
        try:
            return one.recv(100) == b""
        except OSError:
            return True


def test_a_swallowed_reply_is_of_an_insert_that_was_acted_upon(proxy, echo):
    proxy.replies_to_swallow = 1
    assert ask(proxy, b"DESCRIBE t") == b"DESCRIBE t"
    assert ask(proxy, b"INSERT INTO t") == b""
    assert echo.got == b"DESCRIBE tINSERT INTO t"
    assert ask(proxy, b"INSERT INTO t") == b"INSERT INTO t", "only so many"
    until_asked(proxy).close()


def test_a_body_is_broken_after_so_many_bytes(proxy, echo):
    proxy.break_after_bytes, proxy.bodies_to_break = 3, 1
    ask(proxy, b"abcdefgh")
    until_asked(proxy).close()
    assert echo.got in (b"abcfirst", b"firstabc")
