"""The few things `up` itself does between starting processes: topics, tables, the watch. In threads, each once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(slots=True)
class Step:
    """Work that waits for milestones and is one itself when done. Runs on a thread of its own."""

    name: str
    needs: frozenset[str]
    work: Callable[[], None]
    error: Exception | None = None
    """Why it failed; the run cannot go on."""
    _thread: threading.Thread | None = None
    _done: bool = False

    def look(self, milestones: set[str]) -> None:
        """Begin when it may, and say when it is done. Never blocks."""
        if self._thread is None:
            if self.needs <= milestones:
                self._thread = threading.Thread(target=self._run, name=f"up-{self.name}", daemon=True)
                self._thread.start()
        elif self._done:
            milestones.add(self.name)

    def _run(self) -> None:
        try:
            self.work()
            self._done = True
        except Exception as error:
            self.error = error
