"""The real clock: the one place of the applications' code that reads it."""

from __future__ import annotations

import time


class SystemClock:
    """Wall and monotonic time of this machine."""

    def now_ms(self) -> int:
        """Milliseconds since 1970 UTC."""
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        """Seconds, never going back."""
        return time.monotonic()


def thread_cpu_seconds() -> float:
    """Processor time of the calling thread since some start."""
    return time.thread_time()


def process_cpu_seconds() -> float:
    """Processor time of this process, all threads, since some start."""
    return time.process_time()
