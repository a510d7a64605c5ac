"""Rows of a span of request offsets beside what telemetry told of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from infra.audit.findings import Findings, Kind
from infra.audit.fingerprint import Prints
from infra.audit.told import Span

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Seen:
    """Rows that readers see, by rising offset; the same offset twice is a duplicate."""

    offset: Ints
    telemetry_offset: Ints
    prints: Prints
    served_ms: Ints


@dataclass(frozen=True, slots=True)
class Due:
    """Which telemetry offsets of a partition are judged: from `first`, below `end`. Rows of those below `committed`
    must be there: the job commits them after their rows are stored.

    `whole`: telemetry is read from its beginning, so what it does not tell was never told.
    """

    first: int
    committed: int
    end: int
    whole: bool


@dataclass(slots=True)
class Compared:
    """How many of a partition's requests came out how, where nothing differs."""

    matched: int = 0
    under_way: int = 0
    """Told, not committed by the job yet, and without a row."""
    owed: int = 0
    """Neither told nor with a row: no outcome yet."""
    elsewhere: int = 0
    """Rows of telemetry before or after what was read: not judged."""
    dead_letters: int = 0
    """Without a row because the table refused it: the record's dead letter says so."""
    owed_from: int | None = field(default=None)

    def add(self, other: Compared) -> None:
        """Take another's counts in."""
        self.matched += other.matched
        self.under_way += other.under_way
        self.owed += other.owed
        self.elsewhere += other.elsewhere
        self.dead_letters += other.dead_letters


def compare(
    partition: int, span: Span, seen: Seen, due: Due, refused: Mapping[int, int], into: Findings, counts: Compared
) -> Ints:
    """Judge a span. `refused`: rows that the table refused, by telemetry offset. Returns offsets of altered rows."""
    n = len(span.told_at)
    index = seen.offset - span.first
    times = np.bincount(index, minlength=n)
    into.add(Kind.DOUBLED, partition, span.first + np.flatnonzero(times > 1))

    told = span.told_at[index]
    before, after = seen.telemetry_offset < due.first, seen.telemetry_offset >= due.end
    is_told = told >= 0
    same = (seen.telemetry_offset == told) & (seen.prints == span.prints[index]) & _same_time(span, seen, index, due)
    matched = is_told & same & ~before
    altered = is_told & ~same & ~before
    extra = ~is_told & ~before & ~after
    into.add(Kind.ALTERED, partition, np.unique(seen.offset[altered]))
    into.add(Kind.EXTRA, partition, np.unique(seen.offset[extra]))
    counts.elsewhere += int(np.count_nonzero(before | (~is_told & after)))
    counts.matched += len(np.unique(seen.offset[matched]))

    without = times == 0
    missing = np.flatnonzero(without & (span.told_at >= 0))
    waiting = span.told_at[missing] >= due.committed
    counts.under_way += int(np.count_nonzero(waiting))
    missing = missing[~waiting]
    explained = _refused(span.told_at[missing], refused)
    counts.dead_letters += int(np.count_nonzero(explained))
    into.add(Kind.MISSING, partition, span.first + missing[~explained])

    owed = np.flatnonzero(without & (span.told_at < 0))
    if due.whole and len(owed):
        counts.owed += len(owed)
        counts.owed_from = span.first + int(owed[0]) if counts.owed_from is None else counts.owed_from
    return np.unique(seen.offset[altered])


def _same_time(span: Span, seen: Seen, index: Ints, due: Due) -> NDArray[np.bool_]:
    """The log's time never goes back. What it was before the first record read is not known, so a row may be later."""
    same: NDArray[np.bool_] = seen.served_ms == span.served_ms[index]
    return same if due.whole else same | (seen.served_ms > span.served_ms[index])


def _refused(told_at: Ints, refused: Mapping[int, int]) -> NDArray[np.bool_]:
    """Which of these missing rows are explained: all of a record's, when no more are missing than were refused."""
    explained = np.zeros(len(told_at), dtype=np.bool_)
    if refused and len(told_at):
        records, at, counts = np.unique(told_at, return_inverse=True, return_counts=True)
        fits = np.array(
            [count <= refused.get(record, 0) for record, count in zip(records.tolist(), counts.tolist(), strict=True)]
        )
        explained = fits[at]
    return explained
