"""Reads images on a few threads of their own, beside the loop: bounded, and none of them waits for one that hangs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from inference_workers.ports import Item
from inference_workers.tasks.inputs import Refused
from infra.ports import Clock
from schemas.requests import ImageReference

ReadImage = Callable[[ImageReference], Item]
"""Fetches and decodes one image; blocks. Raises Refused."""
AHEAD_PER_THREAD = 2
"""Reads taken over for each thread: one under way, one that follows it at once."""
HANGING_MAX = 8
"""Reads given up that still hold their thread, with another in its place. More, and threads are really lost."""


class ReadDone(NamedTuple):
    """A read that is over, and from when to when a thread was at it, in monotonic seconds."""

    ticket: int
    found: Item | Refused
    start: float
    end: float


class ImageReads(Protocol):
    """Where images are read. Called by the loop's thread; nothing blocks."""

    def room(self) -> int:
        """How many more reads are taken over now."""

    def submit(self, ticket: int, read: ReadImage, reference: ImageReference) -> None:
        """Read an image. Call it only when there is room; each ticket once."""

    def collect(self) -> list[ReadDone]:
        """What is done since last asked. Each ticket comes once, read, refused or given up."""


class ImagePool:
    """An `ImageReads` on at most `threads` threads of this process, which live while there is something to read.

    A read that takes longer than `timeout_seconds` is refused as `image_timeout`. Its thread cannot be stopped (a
    file system that hangs does not let go), so another takes its place, up to `HANGING_MAX` times; beyond, and with
    no thread left, reads are refused at once until one comes back.
    """

    def __init__(self, clock: Clock, *, threads: int, timeout_seconds: float) -> None:
        """Starts nothing."""
        self._clock, self._threads, self._timeout_seconds = clock, threads, timeout_seconds
        self._lock = threading.Lock()
        self._waiting: deque[tuple[int, ReadImage, ImageReference]] = deque()
        self._started: dict[int, float] = {}
        self._done: list[ReadDone] = []
        self._working = 0
        self._hanging = 0

    def room(self) -> int:
        """See `ImageReads.room`."""
        with self._lock:
            return self._threads * AHEAD_PER_THREAD - len(self._waiting) - len(self._started)

    def submit(self, ticket: int, read: ReadImage, reference: ImageReference) -> None:
        """See `ImageReads.submit`."""
        with self._lock:
            self._waiting.append((ticket, read, reference))
            self._employ()

    def collect(self) -> list[ReadDone]:
        """See `ImageReads.collect`."""
        now = self._clock.monotonic()
        with self._lock:
            late = [ticket for ticket, start in self._started.items() if now - start > self._timeout_seconds]
            for ticket in late:
                start = self._started.pop(ticket)
                self._hanging += 1
                self._working -= 1
                why = f"the image was not read within {self._timeout_seconds:g} s"
                self._done.append(ReadDone(ticket, Refused("image_timeout", why), start, now))
            self._employ()
            if not self._capacity():
                for ticket, _, _ in self._waiting:
                    refusal = Refused("image_timeout", f"{self._hanging} reads of images hang")
                    self._done.append(ReadDone(ticket, refusal, now, now))
                self._waiting.clear()
            done, self._done = self._done, []
        return done

    def _capacity(self) -> int:
        return self._threads - max(0, self._hanging - HANGING_MAX)

    def _employ(self) -> None:
        """A thread for each read that waits, within the bound. With the lock held."""
        while self._working < min(self._capacity(), len(self._started) + len(self._waiting)):
            self._working += 1
            threading.Thread(target=self._run, name="images", daemon=True).start()

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or self._working > self._capacity():
                    self._working -= 1
                    return
                ticket, read, reference = self._waiting.popleft()
                self._started[ticket] = start = self._clock.monotonic()
            found = read_of(read, reference)
            del read  # it belongs to a model that may be retired while this thread waits for the lock
            with self._lock:
                if self._started.pop(ticket, None) is None:  # given up: this thread counts no more
                    self._hanging -= 1
                    self._employ()
                    return
                self._done.append(ReadDone(ticket, found, start, self._clock.monotonic()))


def read_of(read: ReadImage, reference: ImageReference) -> Item | Refused:
    """An image, or why there is none."""
    try:
        return read(reference)
    except Refused as refusal:
        return refusal
    except Exception as error:  # a read that nobody foresaw to fail is that request's failure, and no thread's end
        return Refused("image_error", f"{reference.name[:200]!r} cannot be read: {type(error).__name__}")
