"""Seconds from a kill to the first new work of every partition, read from the topics' own times after the run."""

import json
from bisect import bisect_left
from collections import defaultdict
from dataclasses import dataclass
from statistics import median

from tests.chaos.servers import POISON, Message, Servers

Times = dict[int, list[tuple[int, int]]]
"""By partition: (when what it is about began, when it was done), epoch milliseconds, sorted."""


def answer_times(servers: Servers) -> Times:
    """When requests were appended, as their rows say, and when their first answers were."""
    rows = servers.rows(
        "SELECT topic_id, partition, offset, toUnixTimestamp64Milli(appended_at) AS at_ms FROM requests"
    )
    asked = {(row["topic_id"], int(row["partition"]), int(row["offset"])): int(row["at_ms"]) for row in rows}
    found: Times = defaultdict(list)
    for one in servers.read("inference.predictions"):
        if POISON in one.headers:
            continue
        place = json.loads(one.value or b"")["request"]
        at_ms = asked.pop((place["topic_id"], place["partition"], place["offset"]), None)
        if at_ms is not None:
            found[place["partition"]].append((at_ms, one.at_ms))
    return _sorted(found)


def window_times(messages: list[Message]) -> Times:
    """When windows of a telemetry partition ended and when they were told."""
    found: Times = defaultdict(list)
    for one in messages:
        try:
            body = json.loads(one.value or b"")
            found[body["source_partition"]].append((body["window_end_ms"], one.at_ms))
        except (ValueError, KeyError, TypeError):
            continue  # poison of the run's own
    return _sorted(found)


def report_times(messages: list[Message]) -> Times:
    """When the ledger told of each request partition, and that is what it began and did."""
    found: Times = defaultdict(list)
    for one in messages:
        if one.headers.get("ce_type", b"").endswith(b".requests.owed.v1") and POISON not in one.headers:
            for book in json.loads(one.value or b"")["partitions"]:
                found[book["partition"]].append((one.at_ms, one.at_ms))
    return _sorted(found)


def _sorted(found: Times) -> Times:
    return {partition: sorted(times) for partition, times in found.items()}


@dataclass(frozen=True)
class Work:
    """What was done in a run, and until when there was any to do: when each partition was last asked something."""

    answers: Times
    windows: Times
    reports: Times
    last_asked_ms: dict[int, int]

    def of(self, kind: str) -> list[Times]:
        """What a kind of process does. A job's work is its windows, which take a second to end; a server's all."""
        found = {"worker": [self.answers], "job": [self.windows], "every job": [self.windows], "ledger": [self.reports]}
        return found.get(kind.partition(",")[0], [self.answers, self.windows])

    def asked_since(self, at_ms: int) -> list[int]:
        """The partitions that were asked something then or later."""
        return sorted(partition for partition, last_ms in self.last_asked_ms.items() if last_ms >= at_ms)


def seconds_after(killed_ms: int, times: Times, partitions: list[int]) -> float | None:
    """Until each of these partitions had done something that began after the kill; None when one never did."""
    worst = 0
    for partition in partitions:
        of = times.get(partition, [])
        after = [done for _, done in of[bisect_left(of, (killed_ms, 0)) :]]
        if not after:
            return None
        worst = max(worst, min(after) - killed_ms)
    return worst / 1000


def recovery(kills: list[tuple[str, int]], work: Work) -> tuple[dict[str, dict[str, float | int]], list[str]]:
    """Median and worst by kind of process; and the kills after which something never came, by name.

    A kill after which nothing was asked any more says nothing.
    """
    found: dict[str, list[float]] = defaultdict(list)
    never = []
    for kind, killed_ms in kills:
        partitions = work.asked_since(killed_ms)
        if not partitions:
            continue
        seconds = [seconds_after(killed_ms, times, partitions) for times in work.of(kind)]
        if None in seconds:
            never.append(f"{kind} killed at {killed_ms}")
        else:
            found[kind].append(max(one for one in seconds if one is not None))
    told = {
        kind: {"kills": len(of), "median": round(median(of), 1), "worst": round(max(of), 1)}
        for kind, of in found.items()
    }
    return told, never
