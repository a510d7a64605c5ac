"""What a watchdog sees: a group's commits and its topics' ends from Kafka, a process's words from its health port."""

from __future__ import annotations

import json
import socket
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Mapping
from typing import Any, Protocol

from infra.kafka.group_members import GroupSeen
from infra.ports import Clock, Place, RangeReader
from infra.up.commit_lag import CommitLag
from infra.up.held_ends import HeldEnds
from infra.up.watchdog import Health, Seen

HEALTH_SECONDS = 3.0
"""Longest wait for an answer of a health port."""
BODY_BYTES_MAX = 65_536

AskHealth = Callable[[str], Health | None]
"""What the process says of itself, given the URL of its port; None when it does not answer."""


class Cluster(Protocol):
    """What is asked of Kafka, see `infra.kafka.KafkaCluster`. Everything raises RetryLater."""

    def group(self, group: str) -> GroupSeen:
        """Who is in the group."""

    def committed_all(self, group: str) -> dict[Place, int]:
        """The group's committed next offsets."""

    def ranges(self, topic: str) -> dict[int, tuple[int, int]]:
        """First and next offset of every partition."""


class GroupSight:
    """Looks at one group. One call of `look_at_kafka` serves all of its processes of this machine."""

    def __init__(
        self, cluster: Cluster, reader: RangeReader, group: str, clock: Clock, ask_health: AskHealth | None = None
    ) -> None:
        """`reader` should not wait for long: it says whether a record follows where the group stands still."""
        self.name = group
        self._cluster, self._clock, self._ask_health = cluster, clock, ask_health or ask_port
        self._host = socket.gethostname()
        self._lag, self._ends = CommitLag(), HeldEnds(reader)
        self._group: GroupSeen = GroupSeen(False, {}, {})
        self._committed: dict[Place, int] = {}
        self._ranges: dict[Place, tuple[int, int]] = {}
        self.behind, self.lag_seconds = 0, 0.0
        """Of the whole group, at the last look."""

    def look_at_kafka(self) -> None:
        """Blocks for as long as Kafka's answers take; raises RetryLater."""
        group, committed = self._cluster.group(self.name), self._cluster.committed_all(self.name)
        assigned = {place for places in group.assignments.values() for place in places}
        topics = sorted({topic for topic, _ in (*committed, *assigned)})
        ranges = {(topic, number): both for topic in topics for number, both in self._cluster.ranges(topic).items()}
        self._group, self._committed = group, committed
        self._ranges = self._ends.of(committed, ranges)
        self.behind, self.lag_seconds = self._lag.look(committed, self._ranges, self._clock.monotonic())

    def seen(self, pids: Collection[int], url: str) -> Seen:
        """What the last look says of a process: `pids` are its own and its children's; `url` is of its health port."""
        ours = self._member(pids)
        if ours is None or not ours:
            places: Collection[Place] = self._ranges.keys()
        else:
            places = {place for member in ours for place in self._group.assignments.get(member, ())}
        committed = {place: self._committed[place] for place in places if place in self._committed}
        return Seen(
            committed=committed,
            behind=sum(self._behind(place) for place in places),
            lag_seconds=self.lag_seconds,
            is_member=None if ours is None else bool(ours),
            is_rebalancing=self._group.is_rebalancing,
            health=self._ask_health(url),
        )

    def _behind(self, place: Place) -> int:
        first, after = self._ranges.get(place, (0, 0))
        return max(0, after - max(first, self._committed.get(place, first)))

    def _member(self, pids: Collection[int]) -> list[str] | None:
        """The members that are the process; None when that cannot be told: our client ids end in host and pid."""
        names = {f"-{self._host}-{pid}" for pid in pids}
        ours = [key for key, name in self._group.client_ids.items() if any(name.endswith(end) for end in names)]
        if ours or all(name.rpartition("-")[2].isdigit() for name in self._group.client_ids.values()):
            return ours
        return None


def ask_port(url: str) -> Health | None:
    """Ask `/health/live` and `/health/ready` of a health port; None when either does not answer in time."""
    live = _answer(f"{url}/health/live")
    ready = None if live is None else _answer(f"{url}/health/ready")
    if live is None or ready is None:
        return None
    waiting_for = ready[1].get("waiting_for")
    return Health(live[0], str(live[1].get("reason", "")), waiting_for if isinstance(waiting_for, str) else "")


def _answer(url: str) -> tuple[bool, Mapping[str, Any]] | None:
    # No proxy: the port is this machine's.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=HEALTH_SECONDS) as reply:
            return True, _facts(reply.read(BODY_BYTES_MAX))
    except urllib.error.HTTPError as error:
        with error:
            # 503 without a body is the port's own "too many connections": it answers, and says nothing.
            body = error.read(BODY_BYTES_MAX)
        return (False, _facts(body)) if body else None
    except (OSError, ValueError):
        return None


def _facts(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
