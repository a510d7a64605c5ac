"""Notices that a topic was deleted and made again. Kafka's clients go on asking for the old one, for ever: they are
members, they own partitions, and no record comes. Only a new client helps, so the process ends and is started anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import Protocol

from infra.ports import RetryLater

LOG = logging.getLogger(__name__)
LOOK_SECONDS = 5.0


class Cluster(Protocol):
    """What is asked of Kafka; see `infra.kafka.KafkaCluster`."""

    def topic_id(self, topic: str) -> str:
        """The topic's id. Raises RetryLater."""


class MadeAnewWatch:
    """Looks for topics' ids every few seconds, on a thread of its own, for as long as the process runs."""

    def __init__(self, cluster: Cluster, first_ids: Mapping[str, str], stop: Callable[[], object]) -> None:
        """`first_ids`: each topic's id when its records were first asked for. Another one calls `stop`, once."""
        self._cluster, self._first_ids, self._stop = cluster, dict(first_ids), stop
        self.seen = ""
        """Why the process has to be started again; empty while there is no reason."""

    def start(self, wait: Callable[[float], object]) -> None:
        """Look from now on; see `run`."""
        threading.Thread(target=self.run, args=(wait,), name="made-anew", daemon=True).start()

    def run(self, wait: Callable[[float], object]) -> None:
        """Look until `wait`, which waits so many seconds, says that there was a stop, or there is a reason for one."""
        while not wait(LOOK_SECONDS):
            for topic, first_id in self._first_ids.items():
                try:
                    now_id = self._cluster.topic_id(topic)
                except RetryLater:
                    continue  # away, or not made yet
                if now_id != first_id:
                    self.seen = f"{topic} was made anew: it was {first_id} and is {now_id}"
                    LOG.error("%s; the process stops, to be started again", self.seen)
                    self._stop()
                    return
