"""Ends a job that has work and does none, although nothing outside stops it: Faust's consumer can come to that.

The decision is pure; the thread that looks asks Kafka itself, because a consumer that is stuck knows of nothing to do.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from infra.ports import RetryLater

LOG = logging.getLogger(__name__)
LOOK_SECONDS = 10.0
STALLED_LOOKS = 18
"""Looks in a row, three minutes, without a sign of work. Longer than a working job is ever silent: a delivery fails
after 120 s, a read or write of state after 60 s, a rebalance after some sessions. Looks and not seconds: a process that
was stopped and continued has looked no more often than it ran."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands."""

    done: int
    """Rises with every record taken, barrier passed and partition taken over."""
    behind: int
    """Records in the logs of its partitions that it has not taken."""
    is_member: bool
    """Whether the group has told it its partitions, though they may be none."""
    is_waiting: bool
    """Whether storage or Kafka must take what it has made before it may take more. Then they are what stands still."""
    what: str = "records"
    """What `behind` counts."""


class Job(Protocol):
    """What is looked at, from a thread of its own."""

    def progress(self, ranges: Mapping[tuple[str, int], tuple[int, int]]) -> Progress | None:
        """Where it stands, given first and next offsets of the logs; None while it starts or stops."""


class Cluster(Protocol):
    """What is asked of Kafka; see `infra.kafka.KafkaCluster`. Everything raises RetryLater."""

    def topic_id(self, topic: str) -> str:
        """The topic's id."""

    def partitions(self, topic: str) -> int:
        """How many partitions it has; 0 when it is not there."""

    def ranges(self, topic: str) -> dict[int, tuple[int, int]]:
        """First and next offset of every partition."""


class StallWatch:
    """Counts looks without progress."""

    def __init__(self, looks_max: int = STALLED_LOOKS) -> None:
        self._looks_max = looks_max
        self._done, self._looks = -1, 0

    def look(self, seen: Progress | None) -> str:
        """Why the job must end; empty when there is no reason. `seen` is None when nothing can be said."""
        idle = seen is None or seen.is_waiting or (seen.is_member and not seen.behind)
        if seen is None or idle or seen.done != self._done:
            self._looks, self._done = 0, -1 if seen is None else seen.done
            return ""
        self._looks += 1
        if self._looks < self._looks_max:
            return ""
        what = f"{seen.behind} {seen.what} are there" if seen.is_member else "the group has not told it its partitions"
        return f"nothing was done in {self._looks} looks, though {what} and Kafka answers"


def watch(
    watched: Mapping[str, Job], cluster: Cluster, topics: Sequence[str], end: Callable[[BaseException], None]
) -> None:
    """Look every few seconds, for ever; `end` the process when one of its jobs (by name) stalls, or when a topic is not
    what it was."""
    looking, known = {name: (job, StallWatch()) for name, job in watched.items()}, dict[str, tuple[str, int]]()
    while True:
        time.sleep(LOOK_SECONDS)
        try:
            why = look(looking, cluster, topics, known)
        except Exception as error:  # whatever the client comes up with, the next look may be better
            level = logging.INFO if isinstance(error, RetryLater) else logging.ERROR
            LOG.log(level, "whether the process makes progress is not known: %r", error)
            why = ""
            for _, stalled in looking.values():
                stalled.look(None)
        if why:
            end(RuntimeError(why))


def look(
    looking: Mapping[str, tuple[Job, StallWatch]],
    cluster: Cluster,
    topics: Sequence[str],
    known: dict[str, tuple[str, int]],
) -> str:
    """One look: why the process must end, or empty. `known` is filled with ids and partitions. Raises RetryLater."""
    now = {topic: (cluster.topic_id(topic), cluster.partitions(topic)) for topic in topics}
    if not all(count for _, count in now.values()):
        raise RetryLater("a topic is not there")
    for topic, facts in now.items():
        if known.setdefault(topic, facts) != facts:
            return f"{topic} was made anew or has other partitions: {known[topic]} is now {facts}"
    ranges = {(topic, number): both for topic in topics for number, both in cluster.ranges(topic).items()}
    said = [(name, stalled.look(job.progress(ranges))) for name, (job, stalled) in looking.items()]
    return next((f"{name}: {why}" for name, why in said if why), "")
