"""The books: what became of every request of a range, from the log alone. Pure; reading is done elsewhere.

sent = answered + failed + shed + dead-lettered + owed, and every answer has its telemetry and its table row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from infra.offset_set import OffsetSet
from infra.up.outcomes import ANSWERED, DEAD_LETTERED, FAILED, OUTCOMES, SHED, Codes, Comparison, Ints, codes_of
from infra.up.ranges import in_words, ranges_of, without
from schemas.base import Identity

REPEATS_KEPT_MAX = 1_000
"""Offsets of a partition that were answered again, the first."""
RANGES_MAX = 100_000
"""Ranges of owed offsets looked at in one partition; more are counted as owed up to the range's end."""
Rows = Mapping[int, Mapping[str, int]]
"""How many rows the table has, by partition and outcome."""
Heard = Callable[[int, Ints, Codes], None]
"""Called with a partition, offsets and the first outcome of each, see `outcomes.CODES`."""


@dataclass(frozen=True, slots=True)
class Fate:
    """How a request ended, as one record said."""

    partition: int
    offset: int
    outcome: str


@dataclass(frozen=True, slots=True)
class Account:
    """The books at one moment, in requests. `telemetry_rows` and `table_rows` are answers as telemetry and the table
    tell them; `table_rows` is None where the table was not asked."""

    sent: int
    answered: int
    failed: int
    shed: int
    dead_lettered: int
    owed: int
    telemetry_rows: int
    table_rows: int | None
    repeats: int = 0
    untold: int = 0
    """Of which either telemetry or the topics of answers and dead letters tell, and the other does not."""
    unlike: int = 0
    """Of which telemetry tells another outcome than the first answer."""
    rows_unlike: int = 0
    """By how many rows, of each partition and outcome, the table differs from telemetry."""

    @property
    def settled(self) -> int:
        """Requests with a known end."""
        return self.answered + self.failed + self.shed + self.dead_lettered

    @property
    def agrees_in_kafka(self) -> bool:
        """Nothing lost and nothing owed, and telemetry tells of every request what its first answer says."""
        return (
            self.owed == 0
            and self.sent == self.settled + self.owed
            and self.untold == self.unlike == 0
            and self.answered == self.telemetry_rows
        )

    @property
    def balanced(self) -> bool:
        """Nothing lost, nothing doubled, nothing owed, and all three places agree on every outcome. False where the
        table was not asked: it is not known then."""
        return self.agrees_in_kafka and self.answered == self.table_rows and self.rows_unlike == 0

    @property
    def is_unknown(self) -> bool:
        """Whether only the table could say that they do not balance, and it was not asked."""
        return self.table_rows is None and self.agrees_in_kafka

    def as_json(self) -> dict[str, int | bool | None]:
        """For a program. `balanced` is null where it `is_unknown`."""
        return {
            "sent": self.sent,
            "answered": self.answered,
            "failed": self.failed,
            "shed": self.shed,
            "dead_lettered": self.dead_lettered,
            "owed": self.owed,
            "telemetry_rows": self.telemetry_rows,
            "table_rows": self.table_rows,
            "other_outcomes": self.unlike,
            "balanced": None if self.is_unknown else self.balanced,
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
    compared: Comparison = field(default_factory=Comparison)
    repeated: list[int] = field(default_factory=list)


def _nobody(partition: int, offsets: Ints, codes: Codes) -> None:
    pass


class Books:
    """Folds predictions, dead letters and telemetry of one request topic; the first word on a request counts.

    Memory: two offset sets a partition, which hold a watermark once nothing is owed, and outcomes while only one place
    has told of them.
    """

    def __init__(
        self,
        cluster_id: str,
        topic_id: str,
        starts: Mapping[int, int],
        ends: Mapping[int, int] | None = None,
        *,
        heard: Heard = _nobody,
    ) -> None:
        """The account covers offsets from `starts` on, below `ends` where given, by partition. `heard` gets the first
        word on each request."""
        self.cluster_id = cluster_id
        self.topic_id = topic_id
        self._heard = heard
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
        for number, offsets, outcomes in self._by_partition(fates):
            one = self._partitions[number]
            fresh = one.settled.add(offsets)
            one.highest = max(one.highest, *offsets)
            one.outcomes.update(outcome for outcome, new in zip(outcomes, fresh, strict=True) if new)
            again = [offset for offset, new in zip(offsets, fresh, strict=True) if not new and offset >= one.start]
            self.repeats += len(again)
            one.repeated.extend(again[: REPEATS_KEPT_MAX - len(one.repeated)])
            first, codes = np.array(offsets, dtype=np.int64)[fresh], codes_of(outcomes)[fresh]
            one.compared.first(first, codes)
            self._heard(number, first, codes)

    def observe(self, fates: Sequence[Fate]) -> None:
        """Outcomes from telemetry, in the order read."""
        for number, offsets, outcomes in self._by_partition(fates):
            one = self._partitions[number]
            fresh = one.observed.add(offsets)
            one.telemetry.update(outcome for outcome, new in zip(outcomes, fresh, strict=True) if new)
            one.compared.second(np.array(offsets, dtype=np.int64)[fresh], codes_of(outcomes)[fresh])

    def _by_partition(self, fates: Sequence[Fate]) -> list[tuple[int, list[int], list[str]]]:
        grouped: dict[int, tuple[list[int], list[str]]] = {}
        for fate in fates:
            one = self._partitions.get(fate.partition)
            if one is not None and (one.end is None or fate.offset < one.end):
                offsets, outcomes = grouped.setdefault(fate.partition, ([], []))
                offsets.append(fate.offset)
                outcomes.append(fate.outcome)
        return [(number, *columns) for number, columns in grouped.items()]

    def account(self, ends: Mapping[int, int], rows: Rows | None) -> Account:
        """The books up to `ends`, the request topic's next offsets, read after what was folded. `rows`: None where the
        table was not asked."""
        outcomes: Counter[str] = Counter()
        telemetry: Counter[str] = Counter()
        sent = owed = unlike = untold = rows_unlike = 0
        for number, one in self._partitions.items():
            outcomes.update(one.outcomes)
            telemetry.update(one.telemetry)
            end = ends.get(number, one.start)
            sent += max(0, end - one.start)
            # Counted from the holes and not by subtraction, so that the sum is a check.
            owed += sum(after - first for first, after in one.settled.missing(end, RANGES_MAX))
            untold += one.compared.waiting
            unlike += one.compared.unlike.counts.total()
            seen = {} if rows is None else rows.get(number, {})
            rows_unlike += sum(abs(seen.get(name, 0) - one.telemetry[name]) for name in OUTCOMES)
        return Account(
            sent=sent,
            answered=outcomes[ANSWERED],
            failed=outcomes[FAILED],
            shed=outcomes[SHED],
            dead_lettered=outcomes[DEAD_LETTERED],
            owed=owed,
            telemetry_rows=telemetry[ANSWERED],
            table_rows=None if rows is None else answers_in(rows),
            repeats=self.repeats,
            untold=untold,
            unlike=unlike,
            rows_unlike=0 if rows is None else rows_unlike,
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

    def told(self) -> Rows:
        """Distinct requests that telemetry tells of, by partition and outcome: the rows that the table must have."""
        return {number: dict(one.telemetry) for number, one in self._partitions.items()}

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

    def unlike(self, partition: int) -> list[tuple[tuple[str, str], int, list[int]]]:
        """Requests with another outcome in telemetry than by their first answer: both outcomes, how many, and the
        first offsets."""
        return list(self._partitions[partition].compared.unlike)

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
            for (said, told), count, offsets in self.unlike(number):
                text = other_outcome(said, f"{told} by telemetry", ranges_of(offsets), count, limit)
                found.append(f"partition {number}: {text}")
        return found


def answers_in(rows: Rows) -> int:
    """Rows with outcome answered."""
    return sum(one.get(ANSWERED, 0) for one in rows.values())


def other_outcome(said: str, other: str, ranges: Sequence[tuple[int, int]], count: int, limit: int) -> str:
    """In words: requests of which another place tells another outcome; `other` says which and where."""
    return f"{said} by the first answer and {other}: {in_words(ranges, limit)}: {count:,}"
