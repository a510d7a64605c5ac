"""The ids of the topics that requests came from: asked for once an assignment, for a topic may be made anew."""

from __future__ import annotations

import logging
from collections.abc import Callable

from infra.batch_loop import PartitionSet
from infra.ports import Clock, RetryLater

LOG = logging.getLogger(__name__)
RETRY_SECONDS = 0.5

IdentityOf = Callable[[str], tuple[str, str]]
"""Topic name to (cluster id, topic id); may raise RetryLater."""


class TopicIds:
    """Ids by topic and partition. Used by the loop's thread; bounded by the partitions that were assigned."""

    def __init__(self, identity_of: IdentityOf, clock: Clock) -> None:
        self._identity_of, self._clock = identity_of, clock
        self._ids: dict[tuple[str, int], tuple[str, str]] = {}
        self._unknown: PartitionSet = set()
        self._due = 0.0

    def ask_again(self, assigned: PartitionSet, in_hand: PartitionSet) -> None:
        """These are assigned anew; of those in hand, records wait."""
        for where in assigned:
            self._ids.pop(where, None)
        self._unknown |= in_hand - self._ids.keys()

    def drop(self, partitions: PartitionSet) -> None:
        """No record of these waits any more."""
        self._unknown -= partitions

    def want(self, topic: str, partition: int) -> None:
        """A record of it waits."""
        if (topic, partition) not in self._ids:
            self._unknown.add((topic, partition))

    def of(self, topic: str, partition: int) -> tuple[str, str]:
        """Cluster id and topic id, once `all_known` said so."""
        return self._ids[topic, partition]

    def may_ask(self) -> bool:
        """False for a moment after the cluster did not answer."""
        return self._clock.monotonic() >= self._due

    def all_known(self) -> bool:
        """Asks for what is wanted and not known. False while the cluster does not answer."""
        if not self._unknown:
            return True
        if not self.may_ask():
            return False
        try:
            for topic in {topic for topic, _ in self._unknown}:
                found = self._identity_of(topic)
                known = {where for where in self._unknown if where[0] == topic}
                self._ids.update((where, found) for where in known)
                self._unknown -= known
        except RetryLater as error:
            LOG.warning("the topic's id is not known yet: %s", error)
            self._due = self._clock.monotonic() + RETRY_SECONDS
            return False
        return True
