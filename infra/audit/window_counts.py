"""Windows beside the rows that they were made of: every window names the telemetry offsets it covers.

A row belongs to the window of its series that covers its telemetry offset. So each window can be counted again from
rows alone, and a row of no window is found, too. Reads windows in blocks by their start, rows in blocks of telemetry.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from infra.audit.findings import Findings, Kind
from infra.audit.rows import Due
from infra.audit.stored_rows import RowReader
from infra.ports import TableReader
from schemas import tables
from schemas.telemetry import Outcome

COUNTED = ("requests", "answered", "failed", "shed", "dead_lettered", "tokens")
WINDOWS_BLOCK = 20_000
"""Windows held at once, and those that start with the last of them: about 20 MB."""
TELEMETRY_BLOCK = 50_000
"""Telemetry offsets of which rows are added up in one question."""
GRACE_MS = 180_000
"""While stage 2 lags, rows are in a window when windows this much younger are there."""
OVERFLOW = ("(other)", "", "")
"""Series that takes those above the job's bound."""
Series = tuple[str, str, str]
_SUMS = ", ".join(f"countIf(outcome = '{outcome.value}')" for outcome in Outcome)


@dataclass(slots=True)
class Window:
    """A window row, and what its rows add up to so far, in the order of `COUNTED`."""

    start_ms: int
    end_ms: int
    series: Series
    revision: int
    told: tuple[int, ...]
    sources: list[tuple[int, int, int]]
    """(partition, first telemetry offset, next)."""
    found: list[int] = field(default_factory=lambda: [0] * len(COUNTED))

    def __str__(self) -> str:
        scenario, model, version = self.series
        sources = ", ".join(f"{number}: {first}-{after - 1}" for number, first, after in self.sources)
        return f"{scenario or '-'}/{model or '-'}/{version or '-'} from {self.start_ms} (telemetry {sources})"


@dataclass(slots=True)
class WindowCounts:
    """How many windows were counted again, and how many requests are in those where nothing differs."""

    windows: int = 0
    requests: int = 0
    revised: int = 0
    not_due: int = 0
    """Windows that reach beyond what is judged."""


class WindowAudit:
    """Counts every window again of which all rows are due. Raises as `TableReader.query`."""

    def __init__(
        self,
        reader: TableReader,
        rows: RowReader,
        telemetry_id: str,
        due: Mapping[int, Due],
        findings: Findings,
        *,
        caught_up: bool,
        topic_ids: Collection[str],
        view: str = tables.WINDOWS.view,
    ) -> None:
        """`caught_up`: stage 2 has taken in all there was, so every row that a window could cover is in one.
        `topic_ids`: of the request topics that the telemetry tells of. When one was deleted and made anew there are
        several, and a window counts requests of each."""
        self._reader, self._rows, self._topic, self._due = reader, rows, telemetry_id, due
        self._findings, self._caught_up, self._view = findings, caught_up, view
        self._topic_ids = sorted({rows.topic_id, *topic_ids})
        self._at = {number: one.first for number, one in due.items()}
        """Up to which telemetry offset rows were looked at."""
        self.counts = WindowCounts()

    def run(self) -> WindowCounts:
        """Compare all."""
        covered = self._covered()
        for block in self._blocks():
            ranges = _Ranges(block)
            for number, due in self._due.items():
                after = min(max(ranges.after.get(number, 0), self._at[number]), due.committed)
                uncounted = self._fold(ranges, number, self._at[number], after)
                self._findings.add(
                    Kind.UNCOUNTED, number, sorted(offset for offset in uncounted if offset < covered.get(number, 0))
                )
                # Windows that began before the range take rows of it, and of what is before it.
                self._at[number] = max(self._at[number], after)
            for window in block:
                self._judge(window)
        for number, due in self._due.items():  # behind the last window that is there
            after = min(covered.get(number, 0), due.committed)
            self._findings.add(Kind.UNCOUNTED, number, sorted(self._fold(_Ranges([]), number, self._at[number], after)))
        return self.counts

    def _judge(self, window: Window) -> None:
        if any(
            number not in self._due or first < self._due[number].first or after > self._due[number].committed
            for number, first, after in window.sources
        ):
            self.counts.not_due += 1
            return
        self.counts.windows += 1
        self.counts.revised += window.revision > 0
        told, found = dict(zip(COUNTED, window.told, strict=True)), dict(zip(COUNTED, window.found, strict=True))
        differs = [f"{name} {told[name]:,}, its rows {found[name]:,}" for name in COUNTED if told[name] != found[name]]
        parts = sum(told[name] for name in ("answered", "failed", "shed", "dead_lettered"))
        if told["requests"] != parts:
            differs.append(f"requests {told['requests']:,}, its outcomes {parts:,}")
        if differs:
            self._findings.window(Kind.WINDOW_COUNTS, f"{window}: {', '.join(differs)}")
        else:
            self.counts.requests += told["requests"]

    def _fold(self, ranges: _Ranges, partition: int, first: int, after: int) -> set[int]:
        """Add rows of a partition's telemetry to their windows; the telemetry offsets of those in none."""
        uncounted = set()
        for start in range(first, after, TELEMETRY_BLOCK):
            for offset, series, sums in self._sums(partition, start, min(start + TELEMETRY_BLOCK, after)):
                window = ranges.find(partition, series, offset)
                if window is None:
                    uncounted.add(offset)
                else:
                    window.found = [a + b for a, b in zip(window.found, sums, strict=True)]
        return uncounted

    def _sums(self, partition: int, first: int, after: int) -> Iterator[tuple[int, Series, list[int]]]:
        rows = self._rows
        _, found = self._reader.query(
            f"SELECT telemetry_offset, scenario, model, model_version, count(), {_SUMS}, sum(tokens) FROM {rows.view}"
            " WHERE cluster_id = {cluster:String} AND topic_id IN {topics:Array(String)}"
            " AND partition = {partition:UInt32}"
            " AND telemetry_offset >= {first:UInt64} AND telemetry_offset < {after:UInt64}"
            " GROUP BY telemetry_offset, scenario, model, model_version",
            {
                "cluster": rows.cluster_id,
                "topics": self._topic_ids,
                "partition": partition,
                "first": first,
                "after": after,
            },
        )
        for offset, scenario, model, version, *sums in found:
            yield int(offset), (scenario, model, version), [int(one) for one in sums]

    def _blocks(self) -> Iterator[list[Window]]:
        """All windows that touch what is judged, by start; those of one start are in one block."""
        numbers = range(max(self._due, default=-1) + 1)
        parameters: dict[str, Any] = {
            "topic": self._topic,
            "firsts": [self._due[n].first if n in self._due else 0 for n in numbers],
            "ends": [self._due[n].committed if n in self._due else 0 for n in numbers],
            "start": -1,
        }
        while True:
            _, rows = self._reader.query(
                "SELECT toUnixTimestamp64Milli(window_start) AS start_ms, toUnixTimestamp64Milli(window_end),"
                f" scenario, model, model_version, revision, {', '.join(COUNTED)},"
                f" source_partitions, source_first_offsets, source_next_offsets FROM {self._view}"
                " WHERE source_topic_id = {topic:String} AND toUnixTimestamp64Milli(window_start) > {start:Int64}"
                " AND arrayExists((p, a, n) -> n > arrayElement({firsts:Array(UInt64)}, p + 1)"
                " AND a < arrayElement({ends:Array(UInt64)}, p + 1),"
                " source_partitions, source_first_offsets, source_next_offsets)"
                f" ORDER BY start_ms LIMIT {WINDOWS_BLOCK} WITH TIES",
                parameters,
            )
            if not rows:
                return
            parameters["start"] = int(rows[-1][0])
            yield self._distinct([_window(row) for row in rows])

    def _distinct(self, windows: list[Window]) -> list[Window]:
        """The last revision of each window; what is seen twice is a finding."""
        found: dict[tuple[int, int, Series], Window] = {}
        for window in windows:
            name = (window.start_ms, window.end_ms, window.series)
            known = found.get(name)
            if known is not None:
                self._findings.window(Kind.WINDOW_DOUBLED, str(window))
            if known is None or known.revision < window.revision:
                found[name] = window
        return list(found.values())

    def _covered(self) -> dict[int, int]:
        """Up to which telemetry offset of each partition every row must be in a window."""
        _, rows = self._reader.query(
            "SELECT source.1, max(source.2) FROM (SELECT arrayJoin(arrayZip(source_partitions, source_next_offsets)) AS"
            f" source, window_end FROM {self._view} WHERE source_topic_id = {{topic:String}}"
            " AND window_end <= (SELECT max(window_end) FROM"
            f" {self._view} WHERE source_topic_id = {{topic:String}}) - toIntervalMillisecond({{grace:Int64}}))"
            " GROUP BY source.1",
            {"topic": self._topic, "grace": 0 if self._caught_up else GRACE_MS},
        )
        return {int(number): int(after) for number, after in rows}


class _Ranges:
    """Which window of a series covers a telemetry offset."""

    def __init__(self, windows: list[Window]) -> None:
        by_series: dict[tuple[int, Series], list[tuple[int, int, Window]]] = defaultdict(list)
        self.after: dict[int, int] = {}
        for window in windows:
            for number, first, after in window.sources:
                by_series[number, window.series].append((first, after, window))
                self.after[number] = max(self.after.get(number, 0), after)
        self._ranges = {name: sorted(found, key=lambda one: one[:2]) for name, found in by_series.items()}
        self._firsts = {name: [one[0] for one in found] for name, found in self._ranges.items()}

    def find(self, partition: int, series: Series, offset: int) -> Window | None:
        """The window, also one of the series that takes those above the bound."""
        for name in ((partition, series), (partition, OVERFLOW)):
            place = bisect_right(self._firsts.get(name, []), offset) - 1
            if place >= 0 and offset < self._ranges[name][place][1]:
                return self._ranges[name][place][2]
        return None


def _window(row: tuple[Any, ...]) -> Window:
    start_ms, end_ms, scenario, model, version, revision, *rest = row
    counted, (numbers, firsts, nexts) = rest[: len(COUNTED)], rest[len(COUNTED) :]
    return Window(
        int(start_ms),
        int(end_ms),
        (scenario, model, version),
        int(revision),
        tuple(int(one) for one in counted),
        [(int(a), int(b), int(c)) for a, b, c in zip(numbers, firsts, nexts, strict=True)],
    )
