"""Seconds from a kill to the first new work of every partition, read from the topics' own times after the run."""

import json
from bisect import bisect_left
from collections import defaultdict
from statistics import median

from tests.chaos.checker import Message, Servers

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


def _sorted(found: Times) -> Times:
    return {partition: sorted(times) for partition, times in found.items()}


def seconds_after(killed_ms: int, times: Times) -> float | None:
    """Until every partition had done something that began after the kill; None when one never did."""
    worst = 0
    for of in times.values():
        after = [done for _, done in of[bisect_left(of, (killed_ms, 0)) :]]
        if not after:
            return None
        worst = max(worst, min(after) - killed_ms)
    return worst / 1000


def recovery(kills: list[tuple[str, int]], answers: Times, windows: Times) -> dict[str, dict[str, float | int]]:
    """Median and worst by kind of process. A job's work is its windows, which take a second to end; a server's both."""
    found: dict[str, list[float]] = defaultdict(list)
    for kind, killed_ms in kills:
        of = {"worker": [answers], "job": [windows], "every job": [windows]}.get(kind.partition(",")[0])
        of = of or [answers, windows]
        seconds = [seconds_after(killed_ms, times) for times in of]
        if None not in seconds:
            found[kind].append(max(one for one in seconds if one is not None))
    return {
        kind: {"kills": len(of), "median": round(median(of), 1), "worst": round(max(of), 1)}
        for kind, of in found.items()
    }
