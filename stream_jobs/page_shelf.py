"""State pages outside of memory: a scratch file of this process, gone with it. What counts is in the state topic."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, MutableMapping

CACHE_KIB = 2_048
"""Memory that the file's own cache may take."""


class PageShelf(MutableMapping[str, bytes]):
    """Pages by name, on disk (in the folder that TMPDIR or SQLITE_TMPDIR names), as a dictionary.

    A page of 100 KB comes back in some 30 us. For one thread at a time, but not always the same. Raises sqlite3.Error
    when the disk is full or away.
    """

    def __init__(self) -> None:
        # The empty name is a private file without a name, removed by the system when the process ends, however it ends.
        self._base = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        for pragma in ("temp_store = FILE", f"cache_size = -{CACHE_KIB}", "synchronous = OFF", "journal_mode = OFF"):
            self._base.execute(f"PRAGMA {pragma}")
        self._base.execute("CREATE TABLE pages (name TEXT PRIMARY KEY, body BLOB NOT NULL)")

    def __getitem__(self, name: str) -> bytes:
        found = self._base.execute("SELECT body FROM pages WHERE name = ?", (name,)).fetchone()
        if found is None:
            raise KeyError(name)
        return bytes(found[0])

    def __setitem__(self, name: str, page: bytes) -> None:
        self._base.execute("INSERT OR REPLACE INTO pages VALUES (?, ?)", (name, page))

    def __delitem__(self, name: str) -> None:
        if not self._base.execute("DELETE FROM pages WHERE name = ?", (name,)).rowcount:
            raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return (name for (name,) in self._base.execute("SELECT name FROM pages").fetchall())

    def __len__(self) -> int:
        return int(self._base.execute("SELECT count(*) FROM pages").fetchone()[0])
