"""Keeps the embedded ClickHouse away from a full disk: below a reserve it takes no writes and merges nothing.

The engine (chDB 26.9) reports a write that found no room as done: a part without its marks, a table without its
definition, which it then cannot open. So no write is begun where one could meet the end of the disk. The engine keeps
the reserve, too, before each part it writes (`keep_free_space_bytes`), but not before a table's definition, and what
it has begun to merge it merges to the end while others take the room.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable
from pathlib import Path

from infra.embedded.disk import MIB, free_bytes

RESERVE_BYTES = 256 * MIB  # a quarter of a second of a program that writes 1 GB/s; an insert takes some 10 ms
LOOK_EVERY_S = 0.05
_log = logging.getLogger(__name__)


class NoRoom(Exception):
    """The disk has less room than the reserve, or none at all."""


class RoomWatch:
    """Looks at the disk from a thread, between `start` and `close`; `check` may be asked by any thread."""

    def __init__(
        self, folder: Path, allow_merges: Callable[[bool], None], free: Callable[[Path], int] = free_bytes
    ) -> None:
        """`allow_merges` stops (False) or starts (True) the merges of all tables; it may raise, and is asked again."""
        self._folder, self._allow_merges, self._free = folder, allow_merges, free
        self._merges_allowed = True
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="clickhouse-room", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        self._thread.join(5)

    def check(self) -> None:
        """Raises NoRoom when nothing may be written now."""
        free = self._free(self._folder)
        if free < RESERVE_BYTES:
            raise NoRoom(
                f"The disk of {self._folder} has {free / MIB:.1f} MiB left, and nothing is written below "
                f"{RESERVE_BYTES // MIB} MiB: make room on it, then try again. DROP is still possible"
            )

    def look(self) -> None:
        """Stop merges when the room is below the reserve, start them when it is not."""
        has_room = self._free(self._folder) >= RESERVE_BYTES
        if has_room == self._merges_allowed:
            return
        self._allow_merges(has_room)
        self._merges_allowed = has_room
        if has_room:
            _log.warning("the disk of %s has room again: writes and merges go on", self._folder)
        else:
            _log.warning("the disk of %s is full: no writes, no merges until there is room", self._folder)

    def _run(self) -> None:
        while not self._closing.wait(LOOK_EVERY_S):
            with contextlib.suppress(Exception):  # asked again at the next look
                self.look()
