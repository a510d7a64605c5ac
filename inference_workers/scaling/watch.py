"""Looks at the group's lag every few seconds, on a thread of its own, and tells how many workers it needs."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from inference_workers.scaling.policy import Demand, Reason, ScalingPolicy, ScalingState, Wanted
from infra import metrics
from infra.ports import Clock, Fatal, InvalidRecord, RetryLater

LOG = logging.getLogger(__name__)
ARRIVAL_SECONDS = 30.0
"""Arrivals are counted over so long: a burst of a second is no rate."""


class Cluster(Protocol):
    """What is asked of Kafka, see `KafkaCluster`. Each raises RetryLater, and may take seconds."""

    def ranges(self, topic: str) -> dict[int, tuple[int, int]]:
        """(first offset kept, next offset) of every partition."""

    def committed(self, group: str, topic: str) -> dict[int, int]:
        """The group's committed next offsets."""

    def members(self, group: str) -> int:
        """How many members the group has."""


@dataclass(frozen=True, slots=True)
class GroupState:
    """How a group stands on its topic. `appended` is the sum of the partitions' next offsets."""

    lag: int
    appended: int
    workers: int
    partitions: int


def group_state(cluster: Cluster, group: str, topic: str) -> GroupState:
    """Ask for it. Raises RetryLater. Where the group has committed nothing, it begins at the first record kept."""
    committed = cluster.committed(group, topic)  # before the ranges: what comes in between is lag, and no negative one
    ranges = cluster.ranges(topic)
    lag = sum(max(0, end - max(first, committed.get(number, first))) for number, (first, end) in ranges.items())
    return GroupState(lag, sum(end for _, end in ranges.values()), cluster.members(group), len(ranges))


class Arrivals:
    """Requests appended per second, over the last half minute. Pure."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque(maxlen=1_000)

    def rate(self, appended: int, now: float) -> float | None:
        """With a new count; None while there is only one. A count that fell starts anew: the topic was made again."""
        if self._seen and appended < self._seen[-1][1]:
            self._seen.clear()
        self._seen.append((now, appended))
        while len(self._seen) > 2 and self._seen[1][0] <= now - ARRIVAL_SECONDS:
            self._seen.popleft()
        since, before = self._seen[0]
        return (appended - before) / (now - since) if now > since else None


class ScalingWatch:
    """Looks, decides, tells: by metrics, in the log when it changes, and through `details`."""

    def __init__(
        self,
        cluster: Cluster,
        group: str,
        topic: str,
        service: Callable[[], float | None],
        policy: ScalingPolicy,
        clock: Clock,
    ) -> None:
        """`service`: what one worker can do, requests per second; see `Pace`."""
        self._cluster, self._group, self._topic, self._service, self._clock = cluster, group, topic, service, clock
        self._state, self._arrivals = ScalingState(policy), Arrivals()
        self._latest: tuple[Demand, Wanted] | None = None
        self._away_since: float | None = None

    def start(self, look_seconds: float, stop: threading.Event) -> None:
        """Look every so many seconds until `stop` is set."""
        threading.Thread(target=self._run, args=(look_seconds, stop), name="scaling", daemon=True).start()

    def look(self) -> Wanted | None:
        """Look once. Never raises for a broker that is away; None while nothing was ever known."""
        now = self._clock.monotonic()
        try:
            found = group_state(self._cluster, self._group, self._topic)
        except (RetryLater, Fatal, InvalidRecord) as error:
            if self._away_since is None:
                LOG.info("the group's lag is not known: %s", error)
                self._away_since = now
            if self._latest is None:
                return None
            last = self._latest[0]
            demand = Demand(None, None, self._service(), last.workers, last.partitions)
        else:
            self._away_since = None
            if not found.partitions:
                return None  # the topic is not there yet
            rate = self._arrivals.rate(found.appended, now)
            demand = Demand(found.lag, rate, self._service(), max(1, found.workers), found.partitions)
        wanted = self._state.update(demand, now)
        self._tell(demand, wanted)
        return wanted

    def details(self) -> dict[str, Any]:
        """What `/health/ready` shows besides; empty while nothing is known."""
        latest = self._latest
        if latest is None:
            return {}
        demand, wanted = latest
        return {
            "scaling": {
                "desired_workers": wanted.workers,
                "reason": wanted.reason.value,
                "words": wanted.words,
                "workers": demand.workers,
                "lag": demand.lag,
                "arrivals_per_second": demand.arrivals,
                "service_per_second": demand.service,
            }
        }

    def _tell(self, demand: Demand, wanted: Wanted) -> None:
        if self._latest is None or self._latest[1].workers != wanted.workers:
            LOG.info("wanted: %s", wanted.words)
        self._latest = demand, wanted
        metrics.DESIRED_WORKERS.set(wanted.workers)
        for reason in Reason:
            metrics.DESIRED_WORKERS_REASON.labels(reason.value).set(float(reason is wanted.reason))
        metrics.GROUP_LAG.set(demand.lag)
        metrics.GROUP_ARRIVALS.set(demand.arrivals)
        metrics.SERVICE_RATE.set(demand.service)

    def _run(self, look_seconds: float, stop: threading.Event) -> None:
        while not stop.wait(look_seconds):
            try:
                self.look()
            except Exception:  # a scaler that is wrong must not go silent, and must not take the worker with it
                LOG.exception("the wanted number of workers is not known")
