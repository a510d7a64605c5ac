"""Which processor core what runs on: the measured process has one to itself, all else has the rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cores:
    """`job`: the measured process's core; `others`: for everything else. None where cores cannot be chosen."""

    job: frozenset[int]
    others: frozenset[int]


def cores() -> Cores | None:
    """The last core that this process may use for the job. None with fewer than two, or not on Linux."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    mine = sorted(os.sched_getaffinity(0))
    return Cores(frozenset(mine[-1:]), frozenset(mine[:-1])) if len(mine) > 1 else None


@contextmanager
def on(chosen: frozenset[int] | None) -> Iterator[None]:
    """Processes started meanwhile, from this thread, run on these cores alone; so does this thread."""
    if chosen is None:
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, chosen)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
