"""What a process's busiest thread did with its time: computed, waited for a core, or waited for something else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

NANOSECONDS = 1e9

ThreadTimes = Mapping[str, tuple[float, float]]
"""Thread id to seconds: on a core, and ready but waiting for one."""


@dataclass(frozen=True, slots=True)
class BusiestThread:
    """Microseconds a request of the thread that computed most, which in a worker is the one that runs the model.
    `blocked_us` is the rest of the wall time: no work, or Python's lock held by another thread of the process."""

    computed_us: float
    waited_for_core_us: float
    blocked_us: float


def thread_times(pid: int, proc: Path = Path("/proc")) -> ThreadTimes:
    """Of a process's threads, now; nothing where the system does not say (macOS)."""
    found = {}
    for task in (proc / str(pid) / "task").glob("*"):
        try:
            on_core, waiting, *_ = (task / "schedstat").read_text().split()
            found[task.name] = int(on_core) / NANOSECONDS, int(waiting) / NANOSECONDS
        except (OSError, ValueError):
            continue  # the thread ended meanwhile
    return found


def busiest_thread(first: ThreadTimes, last: ThreadTimes, wall_seconds: float, requests: int) -> BusiestThread | None:
    """The thread that was on a core for longest between two looks; None when nothing is known."""
    grown = {
        thread: (last[thread][0] - first[thread][0], last[thread][1] - first[thread][1])
        for thread in last.keys() & first.keys()
    }
    if not grown or requests < 1:
        return None
    computed, waited = max(grown.values())
    blocked = max(0.0, wall_seconds - computed - waited)
    return BusiestThread(*(1e6 * seconds / requests for seconds in (computed, waited, blocked)))
