"""How many statements run at once, who waits, and who is turned away; and the sessions that outlive a statement."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from infra.embedded.clickhouse_engine import Connection

SESSIONS_MAX = 64
SESSION_IDLE_S = 60.0  # ClickHouse's default_session_timeout


class TooManyQueries(Exception):
    """All slots are taken and the queue is full, or a slot did not come free in time."""


class Slots:
    """Bounded admission: `running_max` at once, `waiting_max` more wait up to `wait_s` seconds."""

    def __init__(self, name: str, running_max: int, waiting_max: int, wait_s: float) -> None:
        self._name = name
        self._free = threading.Semaphore(running_max)
        self._waiting = threading.Semaphore(waiting_max)
        self._wait_s = wait_s
        self._running_max = running_max

    @contextlib.contextmanager
    def slot(self) -> Iterator[None]:
        """Holds one slot. Raises TooManyQueries."""
        if not self._free.acquire(blocking=False):
            self._wait()
        try:
            yield
        finally:
            self._free.release()

    def _wait(self) -> None:
        if not self._waiting.acquire(blocking=False):
            raise TooManyQueries(f"{self._running_max} {self._name} run and no more may wait")
        try:
            if not self._free.acquire(timeout=self._wait_s):
                raise TooManyQueries(f"{self._running_max} {self._name} ran for all of {self._wait_s:g} s")
        finally:
            self._waiting.release()


@dataclass
class Session:
    """A kept connection: what SET, USE and temporary tables changed stays for the next statement of this session."""

    connection: Connection
    idle_s: float
    last_used: float
    busy: threading.Lock = field(default_factory=threading.Lock)


class SessionBusy(Exception):
    """Another statement of the same session runs."""


class Sessions:
    """Kept connections by session id, at most SESSIONS_MAX; idle ones are closed, the longest idle first."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: dict[str, Session] = {}
        self._beginning: set[str] = set()

    @contextlib.contextmanager
    def borrow(self, name: str) -> Iterator[Connection | None]:
        """The kept connection of a session for one statement, or None if it keeps none yet.

        A session runs one statement at a time, its first too: of two first ones, each would make a connection, and what
        one of them set would be lost. Raises SessionBusy.
        """
        with self._lock:
            self._expire()
            session = self._kept.get(name)
            if name in self._beginning or (session is not None and not session.busy.acquire(blocking=False)):
                raise SessionBusy(f"Session {name} is locked by a concurrent client")
            if session is None:
                self._beginning.add(name)
        try:
            yield session.connection if session is not None else None
        finally:
            if session is not None:
                session.last_used = self._monotonic()
                session.busy.release()
            else:
                with self._lock:
                    self._beginning.discard(name)

    def keep(self, name: str, connection: Connection, idle_s: float = SESSION_IDLE_S) -> None:
        """Keeps `connection` for the session from now on. Called inside `borrow`, when that gave None."""
        with self._lock:
            self._expire()
            idle = [key for key, session in self._kept.items() if not session.busy.locked()]
            if len(self._kept) >= SESSIONS_MAX and idle:
                self._close(min(idle, key=lambda key: self._kept[key].last_used))
            self._kept[name] = Session(connection, idle_s, self._monotonic())

    def drop(self, name: str) -> None:
        """Forgets a session and closes its connection, inside the `borrow` of its last statement or when none runs."""
        with self._lock:
            if name in self._kept:
                self._close(name)

    def close(self) -> None:
        """Forgets all sessions."""
        with self._lock:
            for name in list(self._kept):
                self._close(name)

    def _expire(self) -> None:
        now = self._monotonic()
        for name, session in list(self._kept.items()):
            if now - session.last_used > session.idle_s and not session.busy.locked():
                self._close(name)

    def _close(self, name: str) -> None:
        self._kept.pop(name).connection.close()
