"""What was handed over and is not delivered yet, bounded in records and bytes, with its counts."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests so far: `sent` = `delivered` + `failed` + those still pending."""

    sent: int
    delivered: int
    failed: int


class Pending:
    """A bounded number of undelivered records. Thread-safe."""

    def __init__(self, records_max: int, bytes_max: int) -> None:
        self._records_max, self._bytes_max = records_max, bytes_max
        self._changed = threading.Condition()
        self._records = self._bytes = self._sent = self._delivered = self._failed = 0

    def take(self, size_bytes: int, timeout_seconds: float) -> bool:
        """Wait for room and take it; False when there was none in time. One larger than all room waits for none
        to be pending."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._fits(size_bytes), timeout_seconds):
                return False
            self._records += 1
            self._bytes += size_bytes
            self._sent += 1
            return True

    def _fits(self, size_bytes: int) -> bool:
        if self._records == 0:
            return True
        return self._records < self._records_max and self._bytes + size_bytes <= self._bytes_max

    def give(self, size_bytes: int, *, delivered: bool) -> None:
        """The record is delivered, or failed for good."""
        with self._changed:
            self._release(size_bytes)
            if delivered:
                self._delivered += 1
            else:
                self._failed += 1

    def take_back(self, size_bytes: int) -> None:
        """The record was never handed over: as if it had not been sent."""
        with self._changed:
            self._release(size_bytes)
            self._sent -= 1

    def _release(self, size_bytes: int) -> None:
        self._records -= 1
        self._bytes -= size_bytes
        self._changed.notify()

    def counts(self) -> Counts:
        """Counts at this moment."""
        with self._changed:
            return Counts(self._sent, self._delivered, self._failed)
