"""Notices that the request topic was deleted and made again. Kafka's client goes on asking for the old one, for ever:
it is a member, it owns partitions, and no record comes. Only a new client helps, so the worker ends and starts anew.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from infra.ports import RetryLater

LOG = logging.getLogger(__name__)
LOOK_SECONDS = 5.0


class Cluster(Protocol):
    """What is asked of Kafka; see `infra.kafka.KafkaCluster`."""

    def topic_id(self, topic: str) -> str:
        """The topic's id. Raises RetryLater."""


class MadeAnewWatch:
    """Looks for the topic's id every few seconds, on a thread of its own, until `stop`."""

    def __init__(self, cluster: Cluster, topic: str, stop: threading.Event, first_id: str) -> None:
        """`first_id`: the topic's id when its records were first asked for. Another one sets `stop`."""
        self._cluster, self._topic, self._stop, self._first_id = cluster, topic, stop, first_id
        self.seen = ""
        """Why the worker has to be started again; empty while there is no reason."""

    def start(self) -> None:
        """Look from now on."""
        threading.Thread(target=self.run, args=(self._stop.wait,), name="made-anew", daemon=True).start()

    def run(self, wait: Callable[[float], bool]) -> None:
        """Look until `wait` says that there was a stop, or there is a reason for one."""
        while not wait(LOOK_SECONDS):
            try:
                now_id = self._cluster.topic_id(self._topic)
            except RetryLater:
                continue  # away, or not made yet
            if now_id != self._first_id:
                self.seen = f"{self._topic} was made anew: it was {self._first_id} and is {now_id}"
                LOG.error("%s; the worker stops, to be started again", self.seen)
                self._stop.set()
                return
