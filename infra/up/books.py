"""The books: what became of every request of a range, from the log alone. Pure; reading is done elsewhere.

sent = answered + failed + shed + dead-lettered + owed, and every answer has its telemetry and its table row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from infra.offset_set import OffsetSet
from schemas.base import Identity

ANSWERED, FAILED, SHED, DEAD_LETTERED = "answered", "failed", "shed", "dead_lettered"
REPEATS_KEPT_MAX = 1_000
"""Offsets of a partition that were answered again, the first."""
RANGES_MAX = 100_000
"""Ranges of owed offsets looked at in one partition; more are counted as owed up to the range's end."""


@dataclass(frozen=True, slots=True)
class Fate:
    """How a request ended, as one record said."""

    partition: int
    offset: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Account:
    """The books at one moment, in requests. `table_rows` is None where the table was not asked."""

    sent: int
    answered: int
    failed: int
    shed: int
    dead_lettered: int
    owed: int
    telemetry_rows: int
    table_rows: int | None
    repeats: int = 0

    @property
    def settled(self) -> int:
        """Requests with a known end."""
        return self.answered + self.failed + self.shed + self.dead_lettered

    @property
    def balanced(self) -> bool:
        """Nothing lost, nothing doubled, nothing owed, and all three places agree on the answers."""
        return (
            self.owed == 0
            and self.sent == self.settled + self.owed
            and self.answered == self.telemetry_rows == self.table_rows
        )

    def as_json(self) -> dict[str, int | bool | None]:
        """For a program."""
        return {
            "sent": self.sent,
            "answered": self.answered,
            "failed": self.failed,
            "shed": self.shed,
            "dead_lettered": self.dead_lettered,
            "owed": self.owed,
            "telemetry_rows": self.telemetry_rows,
            "table_rows": self.table_rows,
            "balanced": self.balanced,
        }


@dataclass(slots=True)
class _Partition:
    start: int
    end: int | None
    settled: OffsetSet
    observed: OffsetSet
    highest: int = -1
    outcomes: Counter[str] = field(default_factory=Counter)
    telemetry: Counter[str] = field(default_factory=Counter)
    repeated: list[int] = field(default_factory=list)


class Books:
    """Folds predictions, dead letters and telemetry of one request topic; the first word on a request counts.

    Memory: two offset sets a partition, which hold a watermark once nothing is owed.
    """

    def __init__(
        self,
        cluster_id: str,
        topic_id: str,
        starts: Mapping[int, int],
        ends: Mapping[int, int] | None = None,
    ) -> None:
        """The account covers offsets from `starts` on, below `ends` where given, by partition."""
        self.cluster_id = cluster_id
        self.topic_id = topic_id
        self.repeats = 0
        """Predictions and dead letters for a request that already had one: a worker that died answered again."""
        self._partitions = {
            partition: _Partition(start, None if ends is None else ends[partition], OffsetSet(start), OffsetSet(start))
            for partition, start in starts.items()
        }

    @property
    def starts(self) -> dict[int, int]:
        """First offset of the account, by partition."""
        return {number: one.start for number, one in self._partitions.items()}

    def is_ours(self, request: Identity) -> bool:
        """Whether an identity is of this topic and not of one of the same name before or elsewhere."""
        return request.topic_id == self.topic_id and request.cluster_id == self.cluster_id

    def settle(self, fates: Sequence[Fate]) -> None:
        """Predictions and dead letters, in the order read."""
        for one, offsets, outcomes in self._by_partition(fates):
            fresh = one.settled.add(offsets)
            one.highest = max(one.highest, *offsets)
            one.outcomes.update(outcome for outcome, new in zip(outcomes, fresh, strict=True) if new)
            again = [offset for offset, new in zip(offsets, fresh, strict=True) if not new and offset >= one.start]
            self.repeats += len(again)
            one.repeated.extend(again[: REPEATS_KEPT_MAX - len(one.repeated)])

    def observe(self, fates: Sequence[Fate]) -> None:
        """Outcomes from telemetry, in the order read."""
        for one, offsets, outcomes in self._by_partition(fates):
            fresh = one.observed.add(offsets)
            one.telemetry.update(outcome for outcome, new in zip(outcomes, fresh, strict=True) if new)

    def _by_partition(self, fates: Sequence[Fate]) -> list[tuple[_Partition, list[int], list[str]]]:
        grouped: dict[int, tuple[list[int], list[str]]] = {}
        for fate in fates:
            one = self._partitions.get(fate.partition)
            if one is not None and (one.end is None or fate.offset < one.end):
                offsets, outcomes = grouped.setdefault(fate.partition, ([], []))
                offsets.append(fate.offset)
                outcomes.append(fate.outcome)
        return [(self._partitions[number], *columns) for number, columns in grouped.items()]

    def account(self, ends: Mapping[int, int], table_rows: int | None) -> Account:
        """The books up to `ends`, the request topic's next offsets, read after what was folded."""
        outcomes: Counter[str] = Counter()
        telemetry: Counter[str] = Counter()
        sent = owed = 0
        for number, one in self._partitions.items():
            outcomes.update(one.outcomes)
            telemetry.update(one.telemetry)
            end = ends.get(number, one.start)
            sent += max(0, end - one.start)
            # Counted from the holes and not by subtraction, so that the sum is a check.
            owed += sum(after - first for first, after in one.settled.missing(end, RANGES_MAX))
        return Account(
            sent=sent,
            answered=outcomes[ANSWERED],
            failed=outcomes[FAILED],
            shed=outcomes[SHED],
            dead_lettered=outcomes[DEAD_LETTERED],
            owed=owed,
            telemetry_rows=telemetry[ANSWERED],
            table_rows=table_rows,
            repeats=self.repeats,
        )

    def ends_at_least(self, ends: Mapping[int, int]) -> dict[int, int]:
        """`ends`, raised to what was answered since they were asked for: for a picture, not for an account."""
        return {number: max(ends.get(number, 0), one.highest + 1) for number, one in self._partitions.items()}

    def oldest_owed(self, ends: Mapping[int, int]) -> dict[int, int]:
        """The lowest owed offset of each partition that owes."""
        return {
            number: one.settled.watermark
            for number, one in self._partitions.items()
            if one.settled.watermark < ends.get(number, one.start)
        }

    def is_observed(self, ends: Mapping[int, int]) -> bool:
        """Whether telemetry told the outcome of every request below `ends`."""
        return all(one.observed.watermark >= ends.get(number, one.start) for number, one in self._partitions.items())

    def answered_in_telemetry(self) -> dict[int, int]:
        """Distinct telemetry rows with outcome answered, by partition."""
        return {number: one.telemetry[ANSWERED] for number, one in self._partitions.items()}

    def owed(self, ends: Mapping[int, int]) -> dict[int, list[tuple[int, int]]]:
        """Ranges of offsets below `ends` without an end, by partition that has some."""
        found = {n: one.settled.missing(ends.get(n, one.start), RANGES_MAX) for n, one in self._partitions.items()}
        return {number: ranges for number, ranges in found.items() if ranges}

    def unobserved(self, ends: Mapping[int, int]) -> dict[int, list[tuple[int, int]]]:
        """Ranges of offsets below `ends` that telemetry does not tell of, by partition that has some."""
        found = {n: one.observed.missing(ends.get(n, one.start), RANGES_MAX) for n, one in self._partitions.items()}
        return {number: ranges for number, ranges in found.items() if ranges}

    def repeated_offsets(self, partition: int) -> list[int]:
        """Offsets that were answered again, the first so many, rising."""
        return sorted(set(self._partitions[partition].repeated))

    def outcomes(self, partition: int) -> tuple[dict[str, int], dict[str, int]]:
        """How many had each outcome, by predictions and dead letters, and by telemetry."""
        one = self._partitions[partition]
        return dict(one.outcomes), dict(one.telemetry)

    def differences(self, ends: Mapping[int, int], limit: int = 5) -> list[str]:
        """What does not fit, by partition and offsets, the first few."""
        found = []
        for number, one in sorted(self._partitions.items()):
            end = ends.get(number, one.start)
            owed = one.settled.missing(end, limit)
            if owed:
                found.append(f"partition {number}: no answer and no dead letter for {in_words(owed, limit)}")
            silent = without(one.observed.missing(end, RANGES_MAX), one.settled.missing(end, RANGES_MAX))
            if silent:
                found.append(f"partition {number}: no telemetry for {in_words(silent, limit)}")
            if one.settled.added and one.outcomes != one.telemetry and not owed and not silent:
                found.append(
                    f"partition {number}: outcomes differ: {dict(one.outcomes)} by predictions and dead letters, "
                    f"{dict(one.telemetry)} by telemetry"
                )
        return found


def ranges_of(offsets: Iterable[int]) -> list[tuple[int, int]]:
    """Rising offsets as ranges (first, one after the last)."""
    found: list[tuple[int, int]] = []
    for offset in offsets:
        if found and found[-1][1] == offset:
            found[-1] = (found[-1][0], offset + 1)
        else:
            found.append((offset, offset + 1))
    return found


def without(ranges: Sequence[tuple[int, int]], others: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What of `ranges` is in none of `others`; both rise."""
    found = []
    position = 0
    for first, after in ranges:
        while position < len(others) and others[position][1] <= first:
            position += 1
        at, look = first, position
        while at < after:
            if look < len(others) and others[look][0] < after:
                if others[look][0] > at:
                    found.append((at, others[look][0]))
                at, look = max(at, others[look][1]), look + 1
            else:
                found.append((at, after))
                break
    return found


def in_words(ranges: Sequence[tuple[int, int]], limit: int) -> str:
    """Ranges as people read them: offsets 7, 12-19 and more."""
    shown = [str(first) if after == first + 1 else f"{first}-{after - 1}" for first, after in ranges[:limit]]
    left = sum(after - first for first, after in ranges[limit:])
    if left:
        return f"offsets {', '.join(shown)} and {left:,} more"
    return f"offsets {', '.join(shown)}" + (" and more" if len(ranges) >= limit else "")
