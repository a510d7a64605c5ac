"""A child's output in a file that does not grow without bound."""

from __future__ import annotations

import io
import logging
import os
import threading
from collections import deque
from pathlib import Path
from typing import IO

from infra.logs import JsonLines

LOG_BYTES_MAX = 8 * 1_048_576
"""A log larger than this is moved to `NAME.log.1`, over the one before: at most 16 MiB a child."""
LINE_BYTES_MAX = 65_536
"""Longer lines are cut, so that one line cannot fill memory."""
RECENT_LINES = 40


class ChildLog:
    """Appends lines to a file, moves it aside when it is full, keeps the newest lines in memory. Thread-safe."""

    def __init__(self, path: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
        """Makes the folder. Raises OSError when it cannot be written."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self.recent: deque[str] = deque(maxlen=RECENT_LINES)
        self.lost_lines = 0
        """Lines that could not be written (a full disk)."""
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()

    def write(self, line: bytes) -> None:
        """Append one line. Never raises: a child must not stop because its log cannot be written."""
        with self._lock:
            self.recent.append(line.decode(errors="replace").rstrip())
            try:
                self._size += self._file.write(line)
                if self._size > self._bytes_max:
                    self._file.close()
                    self.path.replace(self.path.with_name(self.path.name + ".1"))
                    self._file = self.path.open("ab", buffering=0)
                    self._size = 0
            except (OSError, ValueError):
                self.lost_lines += 1

    def take_logging(self) -> None:
        """Send this process's own log records here, too, as JSON lines."""
        handler = logging.StreamHandler(_LineWriter(self))
        handler.setFormatter(JsonLines("up"))
        logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


class PassedOnLog(ChildLog):
    """A child's lines on this process's own stderr, and the newest in memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        super().__init__(Path(os.devnull))
        self._stream = stream

    def write(self, line: bytes) -> None:
        """See `ChildLog.write`."""
        with self._lock:
            self.recent.append(line.decode(errors="replace").rstrip())
            try:
                self._stream.write(line)
                self._stream.flush()
            except (OSError, ValueError):
                self.lost_lines += 1


class _LineWriter(io.TextIOBase):
    def __init__(self, log: ChildLog) -> None:
        self._log = log

    def write(self, text: str) -> int:
        self._log.write(text.encode("utf-8", "replace"))
        return len(text)
