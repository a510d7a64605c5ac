"""A thread that looks at supervised members of a consumer group and says which must start again; tells when they lag.

Owns the questions to Kafka, to health ports, and the alert about the pipeline. Whoever owns the processes ends them.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import psutil

from infra.clickhouse import ClickHouse
from infra.kafka import KafkaCluster, KafkaPublisher, KafkaRangeReader
from infra.metrics import (
    WATCHDOG_COUNTED_LOOKS,
    WATCHDOG_LAG_RECORDS,
    WATCHDOG_LAG_SECONDS,
    WATCHDOG_LOOKS,
    WATCHDOG_RESTARTS,
)
from infra.ports import Clock, RetryLater
from infra.settings import ClickHouseSettings, KafkaSettings
from infra.up.group_sight import GroupSight
from infra.up.lag_alert import LagAlert, LagPolicy
from infra.up.teller import Teller
from infra.up.watchdog import Seen, Verdict, Watchdog, WatchdogPolicy

LOG = logging.getLogger(__name__)
LOOK_SECONDS = 10.0
READ_SECONDS = 5.0
"""Longest wait for a record where a group stands still; a look must not take longer than looks lie apart."""


@dataclass(frozen=True, slots=True)
class Target:
    """A process that is looked at, and the URL of its health port."""

    name: str
    pid: int
    url: str


@dataclass(frozen=True, slots=True)
class Due:
    """A process that must end and start again, and why."""

    target: Target
    why: str


class Sight(Protocol):
    """What is seen; see `GroupSight`."""

    name: str
    behind: int
    lag_seconds: float

    def look_at_kafka(self) -> None:
        """Ask Kafka. Blocks; raises RetryLater."""

    def seen(self, pids: Collection[int], url: str) -> Seen:
        """What that says of a process, with its health."""


class Guard:
    """Looks every few seconds until stopped. `targets` is asked for the processes that run just now."""

    def __init__(
        self,
        sight: Sight,
        targets: Callable[[], Sequence[Target]],
        policy: WatchdogPolicy,
        alert: LagAlert,
        teller: Teller,
        clock: Clock,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._sight, self._targets, self._policy = sight, targets, policy
        self._alert, self._teller, self._clock, self._look_seconds = alert, teller, clock, look_seconds
        self._dogs: dict[str, tuple[int, Watchdog]] = {}
        self._due: deque[Due] = deque()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watchdog", daemon=True)
        self.looked_at = clock.monotonic()
        """When the last look ended, monotonic seconds: the watchdog's own sign of life."""

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more. Does not wait for a look that is going on for longer than a moment."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def due(self) -> list[Due]:
        """Processes that must start again, each told once. From any thread."""
        found = []
        while self._due:
            found.append(self._due.popleft())
        return found

    def _run(self) -> None:
        while not self._stop.wait(self._look_seconds):
            try:
                self.look()
            except Exception:  # whatever a client comes up with, the next look may be better
                LOG.exception("a look failed")
            self.looked_at = self._clock.monotonic()

    def look(self) -> None:
        """One look at everything."""
        targets = self._targets()
        try:
            self._sight.look_at_kafka()
            answers = True
        except RetryLater as error:
            LOG.info("whether %s makes progress is not known: %s", self._sight.name, error)
            answers = False
        said = [self._look_at(target, answers) for target in targets]
        WATCHDOG_LOOKS.labels("answered" if answers else "kafka_away").inc()
        behind, lag_seconds = self._sight.behind, self._sight.lag_seconds
        WATCHDOG_LAG_RECORDS.labels(self._sight.name).set(float(behind) if answers else None)
        WATCHDOG_LAG_SECONDS.labels(self._sight.name).set(lag_seconds if answers else None)
        told = None
        if answers:
            restarted = any(one.must_restart for one in said)
            why = next((one.words for one in said if one.must_restart), next((one.words for one in said), ""))
            told = self._alert.look(behind, lag_seconds, why, restarted, self._clock.now_ms())
            if told is not None:
                LOG.warning("%s: %s", told.change.status.value, told.change.summary)
        self._teller.tell(told)

    def _look_at(self, target: Target, kafka_answers: bool) -> Verdict:
        pid, dog = self._dogs.get(target.name, (-1, Watchdog(self._policy)))
        if pid != target.pid:
            dog = Watchdog(self._policy)
        self._dogs[target.name] = (target.pid, dog)
        seen = self._sight.seen(_pids_of(target.pid), target.url) if kafka_answers else None
        verdict = dog.look(seen)
        WATCHDOG_COUNTED_LOOKS.labels(target.name).set(float(verdict.looks))
        if verdict.looks:
            LOG.warning("%s (process %d): %s", target.name, target.pid, verdict.words)
        if verdict.must_restart:
            WATCHDOG_RESTARTS.labels(target.name).inc()
            dog.started()
            self._due.append(Due(target, verdict.words))
        return verdict


def _pids_of(pid: int) -> list[int]:
    """The process and those that it started: a command may be a wrapper."""
    try:
        return [pid, *(child.pid for child in psutil.Process(pid).children(recursive=True))]
    except psutil.Error:
        return [pid]


def guard_of(
    kafka: KafkaSettings,
    clickhouse: ClickHouseSettings,
    group: str,
    targets: Callable[[], Sequence[Target]],
    clock: Clock,
    *,
    policy: WatchdogPolicy | None = None,
    lag: LagPolicy | None = None,
    look_seconds: float = LOOK_SECONDS,
) -> Guard:
    """A guard of members of `group` on real servers, not started yet. Raises TryAgain without addresses."""
    client_id = f"inferwatch-watchdog-{socket.gethostname()}-{os.getpid()}"
    reader = KafkaRangeReader(kafka, clock, client_id=client_id, silence_seconds=READ_SECONDS, seconds=READ_SECONDS)
    sight = GroupSight(KafkaCluster(kafka, client_id=client_id), reader, group, clock)
    teller = Teller(KafkaPublisher(kafka, client_id=client_id), ClickHouse(clickhouse))
    alert = LagAlert(lag or LagPolicy(), group)
    return Guard(sight, targets, policy or WatchdogPolicy(), alert, teller, clock, look_seconds)
