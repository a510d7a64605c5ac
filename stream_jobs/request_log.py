"""What is known of the request topic from outside: which one it is, and how far it goes. Asked beside the stages."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from infra.ports import Clock, RetryLater

LOG = logging.getLogger(__name__)
FOLLOW_SECONDS = 2.0
"""Between two questions for the topic's ends."""
ASK_AGAIN_SECONDS = 1.0
"""Between two questions for the topic's id, when telemetry names another: it may have been made anew."""
TRUSTED_SECONDS = 15.0
"""An older answer says nothing of the end: while Kafka does not answer, telemetry is not doubted."""


class RequestLog(Protocol):
    """What stage 1 asks before it believes telemetry. Answers from memory, but for a topic id never heard of."""

    def is_known(self, cluster_id: str, topic_id: str) -> bool:
        """Whether this is the request topic, or was while this process ran. May ask Kafka, once a second at most."""

    def end(self, cluster_id: str, topic_id: str, partition: int) -> int | None:
        """Its end a few seconds ago at most: the next offset then. None when that is not known."""


class AnyRequests:
    """A `RequestLog` that doubts nothing: for telemetry that was believed before, or is made."""

    def is_known(self, cluster_id: str, topic_id: str) -> bool:
        """Yes."""
        return True

    def end(self, cluster_id: str, topic_id: str, partition: int) -> int | None:
        """Not known."""
        return None


class Cluster(Protocol):
    """What is asked of Kafka; see `infra.kafka.KafkaCluster`."""

    @property
    def cluster_id(self) -> str:
        """The cluster's id. Raises RetryLater."""

    def topic_id(self, topic: str) -> str:
        """The topic's id. Raises RetryLater."""

    def ranges(self, topic: str) -> dict[int, tuple[int, int]]:
        """First and next offset of each partition. Raises RetryLater."""


@dataclass(frozen=True, slots=True)
class _Answer:
    name: tuple[str, str]
    ends: Mapping[int, int] = field(default_factory=dict)
    at: float = float("-inf")


class KafkaRequestLog:
    """A `RequestLog` that asks a cluster. One thread asks it; another may `follow`."""

    def __init__(self, cluster: Cluster, topic: str, clock: Clock) -> None:
        """Asks which topic it is. Raises RetryLater."""
        self._cluster, self._topic, self._clock = cluster, topic, clock
        self._answer = _Answer(self._ask_name())
        self._known = {self._answer.name}
        self._asked_at = clock.monotonic()

    def is_known(self, cluster_id: str, topic_id: str) -> bool:
        """See `RequestLog.is_known`."""
        name = (cluster_id, topic_id)
        if name not in self._known and self._clock.monotonic() - self._asked_at >= ASK_AGAIN_SECONDS:
            self._asked_at = self._clock.monotonic()
            try:
                self._known.add(self._ask_name())
            except RetryLater as error:
                LOG.warning("%s: whether %s is its id is not known: %s", self._topic, topic_id, error)
        return name in self._known

    def end(self, cluster_id: str, topic_id: str, partition: int) -> int | None:
        """See `RequestLog.end`."""
        answer = self._answer
        if answer.name != (cluster_id, topic_id) or self._clock.monotonic() - answer.at > TRUSTED_SECONDS:
            return None
        return answer.ends.get(partition)

    def refresh(self) -> None:
        """Ask for the topic's ends. Raises RetryLater."""
        before, at = self._ask_name(), self._clock.monotonic()
        ranges = self._cluster.ranges(self._topic)
        if self._ask_name() == before:  # else the ends may be another topic's
            self._known.add(before)
            self._answer = _Answer(before, {number: after for number, (_, after) in ranges.items()}, at)

    def follow(self) -> None:
        """Go on asking in a thread of its own, as long as the process runs."""
        threading.Thread(target=self._follow, name="request-log", daemon=True).start()

    def _follow(self) -> None:
        while True:
            try:
                self.refresh()
            except Exception as error:  # whatever the client comes up with, the next answer may be better
                level = logging.INFO if isinstance(error, RetryLater) else logging.ERROR
                LOG.log(level, "%s: its ends are not known: %r", self._topic, error)
            time.sleep(FOLLOW_SECONDS)

    def _ask_name(self) -> tuple[str, str]:
        return self._cluster.cluster_id, self._cluster.topic_id(self._topic)
