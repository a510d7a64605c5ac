"""The product's own accounts beside the checker's: `inferwatch audit counts`, `inferwatch books` and the ledger in it.

Pure: what the commands said as JSON is given.
"""

from collections import Counter, defaultdict
from typing import Any

from tests.chaos.checker import OUTCOMES, Log, Verdict

LEDGER_COUNTS = ("asked", *OUTCOMES, "expired", "owed")
BOOKS_COUNTS = ("sent", *OUTCOMES, "owed")


def check_audit(told: dict[str, Any], verdict: Verdict) -> None:
    """The audit finds nothing that differs, in as many rows as the checker saw of the request topic."""
    verdict.audit_agrees = told["agrees"] and told["rows_matched"] == verdict.figures["rows_of_the_topic"]
    verdict.figures |= {f"audit_{name}": told[name] for name in ("rows_matched", "windows_matched", "owed")}
    if not verdict.audit_agrees:
        seen = f"{told['rows_matched']} rows agree, {verdict.figures['rows_of_the_topic']} were seen"
        differing = [f"{one['kind']} in partition {one['partition']}: {one['count']}" for one in told["differences"]]
        verdict.named["audit"] += [seen, *differing[:5]]


def check_books(told: dict[str, Any], log: Log, ends: dict[int, int], verdict: Verdict) -> None:
    """The books say of the request topic that there is now what its log and its answers say. `ends`: its next offsets.

    The ledger's account begins where its book does and knows what expired; that of `inferwatch books` begins with the
    first request that is there. What was deleted unanswered may be there again, see `Deleted.below`: then it is owed.
    """
    ledger, starts = _ledger(told)
    differing = []
    for number, end in sorted(ends.items()):
        if number not in ledger:
            differing.append(f"partition {number}: the ledger says nothing")
            continue
        counted = account(log, number, starts[number], end)
        differing += [
            f"partition {number}: the ledger says {name} {ledger[number][name]}, counted {counted[name]}"
            for name in LEDGER_COUNTS
            if ledger[number][name] != counted[name]
        ]
    counted = Counter()
    for number, (first, after) in told["ranges"].items():
        counted.update(account(log, int(number), first, after))
    counted["sent"], counted["owed"] = counted["asked"], counted["owed"] + counted["expired"]
    differing += [
        f"the books say {name} {told[name]}, counted {counted[name]}"
        for name in BOOKS_COUNTS
        if told[name] != counted[name]
    ]
    verdict.found("books_differ", differing)
    verdict.figures["booked"] = sum(one["asked"] for one in ledger.values())


def is_whole(told: dict[str, Any], ends: dict[int, int]) -> bool:
    """Whether the ledger has read all there is: it tells of it a moment later."""
    ledger, starts = _ledger(told)
    return ledger.keys() == ends.keys() and all(
        not one["owed"] and one["asked"] == ends[number] - starts[number] for number, one in ledger.items()
    )


def account(log: Log, partition: int, start: int, end: int) -> Counter[str]:
    """What became of the requests from `start` on and below `end`, counted from answers and dead letters."""
    found: Counter[str] = Counter({"asked": max(0, end - start)})
    below = Counter()
    for (topic_id, number, offset), (outcome, _) in log.final.items():
        if topic_id == log.topic_id and number == partition and start <= offset < end:
            found[outcome] += 1
            below[offset < log.first[partition]] += 1
    gone = min(max(0, log.first[partition] - start), found["asked"])
    found["expired"] = gone - below[True]
    found["owed"] = found["asked"] - gone - below[False]
    return found


def _ledger(told: dict[str, Any]) -> tuple[dict[int, Counter[str]], dict[int, int]]:
    """The ledger's counts over all scenarios, and where its books begin, by partition."""
    counts: dict[int, Counter[str]] = defaultdict(Counter)
    starts = {}
    for row in (told["ledger"] or {"partitions": []})["partitions"]:
        counts[row["partition"]].update({name: row[name] for name in LEDGER_COUNTS})
        starts[row["partition"]] = row["first_offset"]
    return counts, starts
