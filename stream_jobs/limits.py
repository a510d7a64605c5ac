"""Says when a stage leaves something out, by a bound or unread: a counter, and a line now and then."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

from infra.metrics import LIMITS_REACHED, NEWER_EVENTS
from infra.ports import Clock
from stream_jobs.stage import Limit

LOG = logging.getLogger(__name__)
QUIET_SECONDS = 60.0
"""Between two lines about one bound: once reached, it is reached by every record."""
TYPES_MAX = 100
"""Types of events that are told apart: what is on a topic must not fill memory, nor the log."""
MEANING: Mapping[Limit, str] = {
    Limit.WINDOW_SERIES: "requests are counted under the series (other), because their window holds "
    "INFERWATCH_JOBS_SERIES_MAX series already",
    Limit.ROW_MODELS: "requests are scored by the model that all above INFERWATCH_JOBS_ROW_MODELS_MAX share",
    Limit.LIVE_SERIES: "series went to the state topic, from where they come back exact, because there are more than "
    "INFERWATCH_JOBS_SERIES_MAX",
    Limit.ACTIVE_SERIES: "of these had requests lately, more than INFERWATCH_JOBS_SERIES_MAX had: that they are silent "
    "is not noticed",
    Limit.KNOWN_SERIES: "series are forgotten with what was learnt of them, because there are more than "
    "INFERWATCH_JOBS_SERIES_MAX and INFERWATCH_JOBS_PARKED_SERIES_MAX",
    Limit.OPEN_WINDOWS: "windows are closed before all partitions had: too many were waiting for one that lags",
    Limit.OFFSET_HOLES: "requests of which nothing was told yet count as seen: too many holes between the others",
    Limit.REQUEST_TOPICS: "request topics are forgotten: what is told of their requests again would count twice",
    Limit.ALERT_BUDGET: "times an incident opened no alert: INFERWATCH_JOBS_ALERTS_A_WEEK are spent, or as many a week "
    "were worse. Its windows are in `anomalies`",
    Limit.DETECTOR_STATES: "detectors learn anew: what was learnt is cut, altered, or of another detector, version or "
    "configuration",
}


@dataclass(slots=True)
class _Said:
    at: float
    since: int = 0


class LimitLog:
    """Counts for all partitions of a process. For one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._said: dict[Limit, _Said] = {}
        self._newer: set[tuple[str, str]] = set()

    def reached(self, what: Limit, count: int, where: str) -> None:
        """A bound left `count` out; `where` is the record that made it."""
        LIMITS_REACHED.labels(what.value).inc(count)
        now = self._clock.monotonic()
        said = self._said.setdefault(what, _Said(now - QUIET_SECONDS))
        said.since += count
        if now - said.at >= QUIET_SECONDS:
            LOG.warning("%s: %d %s", where, said.since, MEANING[what])
            self._said[what] = _Said(now)

    def passed_over(self, topic: str, event_type: str, offset: int) -> None:
        """An event of a newer release was passed over: counted always, and told once for each type."""
        NEWER_EVENTS.labels(topic).inc()
        name = topic, event_type
        if name not in self._newer and len(self._newer) < TYPES_MAX:
            self._newer.add(name)
            LOG.warning(
                "%s@%d: events of type %s are passed over: a newer release sends them, and this one does not know them",
                *(topic, offset, event_type),
            )
