"""How much memory this process may still take: what the machine has, or its container allows, whichever is less."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import psutil

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")
UNLIMITED_BYTES = 1 << 60
"""cgroup version 1 writes a number near 2^63 for no limit."""


def free_host_bytes() -> int:
    """Memory that can be taken without swapping, bytes."""
    available = int(psutil.virtual_memory().available)
    try:
        membership = OWN_CGROUPS.read_text()
    except OSError:  # not Linux
        return available
    return min([available, *free_in_cgroups(membership, CGROUPS)])


def free_in_cgroups(membership: str, root: Path) -> list[int]:
    """Bytes left in each limited memory cgroup from the process's own up to the root.

    `membership` is /proc/self/cgroup, `root` where the cgroups are mounted (version 2, or 1 with `memory` below it).
    A file cache that the kernel would drop counts as free. See https://docs.kernel.org/admin-guide/cgroup-v2.html.
    """
    found = []
    for line in membership.splitlines():
        _, controllers, path = (*line.split(":", 2), "", "")[:3]
        if controllers == "":
            base, names = root, ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            base, names = root / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        own = base / path.lstrip("/")
        for folder in (own, *own.parents):
            if not folder.is_relative_to(base):
                break
            free = _free_in(folder, *names)
            if free is not None:
                found.append(free)
    return found


def _free_in(folder: Path, limit_file: str, usage_file: str, cache_name: str) -> int | None:
    try:
        limit = (folder / limit_file).read_text().strip()
        usage = int((folder / usage_file).read_text())
    except (OSError, ValueError):
        return None
    if not limit.isdigit() or int(limit) >= UNLIMITED_BYTES:
        return None
    return max(0, int(limit) - usage + _stats(folder).get(cache_name, 0))


def _stats(folder: Path) -> Mapping[str, int]:
    try:
        lines = (folder / "memory.stat").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.split() for line in lines)
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}
