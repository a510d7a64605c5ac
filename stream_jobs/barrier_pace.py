"""When the next barrier is due: at its interval, later where barriers would take too much of the processor. Pure."""

from __future__ import annotations

from dataclasses import dataclass

CPU_SHARE_MAX = 0.04
"""Of the job's processor time. What a barrier costs grows with the series that changed: 10,000 of them take the better
part of a second, and a job that spends a tenth of its time on snapshots scores so much later."""
CORE_SHARE_MAX = 0.01
"""A job that has little else to do may take so much of a core for its barriers, whatever share of its time that is."""
STRETCH_MAX, STRETCHED_SECONDS_MAX = 6.0, 60.0
"""Never longer than so many intervals and seconds: what was not committed is done again after a death, and whoever
watches from outside must not take a job for one that stands still."""


@dataclass(slots=True)
class BarrierPace:
    """The time between two barriers, in seconds: the interval, stretched as far as the last barrier's cost asks."""

    interval_seconds: float
    _passed_at: float = 0.0
    _cpu_at: float = 0.0
    _cost: float = 0.0

    def passed(self, now: float, process_cpu: float, cost: float) -> None:
        """A barrier ended at `now` (monotonic), with `process_cpu` used by the process until then; it took `cost`
        seconds of processor time."""
        self._passed_at, self._cpu_at, self._cost = now, process_cpu, cost

    def seconds_until_due(self, now: float, process_cpu: float) -> float:
        """How long to wait before looking again; 0 when the next barrier is due."""
        waited = now - self._passed_at
        if waited < self.interval_seconds:
            return self.interval_seconds - waited
        earned = process_cpu - self._cpu_at >= self._cost / CPU_SHARE_MAX
        longest = min(STRETCH_MAX * self.interval_seconds, STRETCHED_SECONDS_MAX)
        if earned or waited >= min(self._cost / CORE_SHARE_MAX, longest):
            return 0.0
        return self.interval_seconds / 10
