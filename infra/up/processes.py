"""What the children use of the machine: CPU and memory, with their own children."""

from __future__ import annotations

import psutil

from infra.up.children import Child
from infra.up.view import ProcessRow


class ProcessTable:
    """Samples the children. CPU is measured between two samples."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}

    def sample(self, children: list[Child]) -> tuple[ProcessRow, ...]:
        """One row per child, in the given order."""
        seen: dict[int, psutil.Process] = {}
        rows = []
        for child in children:
            cpu, memory = self._usage(child.pid, seen)
            rows.append(ProcessRow(child.spec.name, child.state, child.pid, child.history.restarts, cpu, memory))
        self._known = seen
        return tuple(rows)

    def _usage(self, pid: int | None, seen: dict[int, psutil.Process]) -> tuple[float | None, int | None]:
        if pid is None:
            return None, None
        cpu, memory = 0.0, 0
        try:
            parent = psutil.Process(pid)
            for process in (parent, *parent.children(recursive=True)):
                # The same object as last time: it remembers the CPU time used until then.
                known = self._known.get(process.pid)
                seen[process.pid] = known if known is not None and known == process else process
                cpu += seen[process.pid].cpu_percent()
                memory += process.memory_info().rss
        except psutil.Error:
            return None, None
        return cpu, memory
