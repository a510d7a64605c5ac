"""The watch that tells a running read that its client has gone, on real sockets."""

import contextlib
import socket
import threading

from infra.embedded.clickhouse_watch import GoneWatch


def test_the_watch_calls_back_when_the_other_side_goes():
    watch = GoneWatch()
    watch.start()
    gone = threading.Event()
    here, there = socket.socketpair()
    with contextlib.closing(here):
        with watch.watching(here, gone.set):
            there.close()
            assert gone.wait(30)
        with watch.watching(here, gone.set):
            pass
    watch.close()


def test_the_watch_is_not_misled_by_the_next_request():
    watch = GoneWatch()
    watch.start()
    called = threading.Event()
    here, there = socket.socketpair()
    with contextlib.closing(here), contextlib.closing(there):
        with watch.watching(here, called.set):
            there.sendall(b"POST / HTTP/1.1\r\n")
        assert here.recv(4) == b"POST"
    watch.close()
    assert not called.is_set()
