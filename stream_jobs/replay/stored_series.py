"""Stored windows as stage 2 had them when it scored them: rows of `windows` and `latency_causes`, in order of time.

What the tables do not keep is told of `windows_of`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.anomalies import InputRange
from schemas.tables import LATENCY_CAUSES, WINDOW_SCORES, WINDOWS
from schemas.windows import HISTOGRAMS, SeriesKey
from stream_jobs.attribution.regression import CAUSES, LatencyCauses
from stream_jobs.ledger_triggers import NAME as LEDGER
from stream_jobs.replay.stored import Tables, plain
from stream_jobs.window_rows import RATE, SeriesWindow, WindowId, name_of
from stream_jobs.windows import RARE

SLICE_MS = 20 * 60_000
"""Time that one query asks for: 10,000 series have 1.2 million rows in it."""
SCORED_COLUMNS: tuple[str, ...] = (
    RATE,
    *("total_ms_p50", "total_ms_p95", "total_ms_p99", "total_ms_max", "queue_ms_p95", "compute_ms_p95"),
    *("padding_share", "error_share", "unknown_share", "row_score_mean", "timeout_share", "schema_share"),
    *("empty_share", "repeated_share", "uncomputed_share", "memory_bytes_max"),
    *RARE,
)
"""Columns of `windows` that are a window's `values`."""
_SPAN = (
    "window_end > fromUnixTimestamp64Milli({from:Int64}, 'UTC') "
    "AND window_end <= fromUnixTimestamp64Milli({to:Int64}, 'UTC')"
)
FIRST = f"SELECT toUnixTimestamp64Milli(min(window_end)) AS first_ms, count() AS n FROM windows WHERE {_SPAN}"
KNOWN = (
    "SELECT DISTINCT source_topic_id, window_start, window_end FROM window_scores "
    f"WHERE detector != '{LEDGER}' AND {_SPAN}"
)
"""Windows in which no series had a request have no row of `windows`; what is missing was scored all the same. What the
ledger says is no window of telemetry."""


@dataclass(slots=True)
class StoredWindow:
    """One window with all of its series, by `name_of` their keys."""

    window: WindowId
    complete: bool = True
    found: dict[str, SeriesWindow] = field(default_factory=dict)


class StoredSeries:
    """Windows that ended after `begin_ms` and not after `end_ms`."""

    def __init__(self, tables: Tables, begin_ms: int, end_ms: int) -> None:
        self._tables, self._begin_ms, self._end_ms = tables, begin_ms, end_ms
        self.done_share = 0.0
        """How much of the time was read, 0 to 1."""

    def __iter__(self) -> Iterator[StoredWindow]:
        """Raises RetryLater and ValueError as a query does."""
        (found,) = self._tables.query(FIRST, {"from": self._begin_ms, "to": self._end_ms})[1]
        begin_ms = max(self._begin_ms, int(found[0]) - 1) if found[1] else self._end_ms
        for from_ms in range(begin_ms, self._end_ms, SLICE_MS):
            span = {"from": from_ms, "to": min(from_ms + SLICE_MS, self._end_ms)}
            rows = self._rows(WINDOWS.view, WINDOWS.column_names, span)
            causes = self._rows(LATENCY_CAUSES.view, LATENCY_CAUSES.column_names, span)
            known = [dict(zip(_WINDOW, map(plain, row), strict=True)) for row in self._tables.query(KNOWN, span)[1]]
            yield from windows_of(rows, causes, known)
            self.done_share = (span["to"] - begin_ms) / (self._end_ms - begin_ms)
        self.done_share = 1.0

    def _rows(self, view: str, names: tuple[str, ...], span: Mapping[str, int]) -> Iterator[dict[str, Any]]:
        columns = ", ".join(f"`{name}`" for name in names)
        for row in self._tables.query(f"SELECT {columns} FROM {view} WHERE {_SPAN}", span)[1]:
            yield dict(zip(names, map(plain, row), strict=True))


_WINDOW = WINDOW_SCORES.column_names[:3]


def windows_of(
    rows: Iterable[Mapping[str, Any]], causes: Iterable[Mapping[str, Any]], known: Iterable[Mapping[str, Any]]
) -> list[StoredWindow]:
    """Windows in the order in which stage 2 closes them. `known`: windows of which some may hold no series.

    Three things are not stored. A window counts as complete unless one of its series was corrected later, and then it
    has what was corrected, which was not scored live. Of how many requests broken ones are a share is taken from the
    share itself. And the sums for the causes of latency are not there: the causes are, as they were told.
    """
    explained = {_place(row): _causes(row) for row in causes}
    windows: dict[WindowId, StoredWindow] = {}
    for row in known:
        window = _window(row)
        windows[window] = StoredWindow(window)
    for row in rows:
        window = _window(row)
        stored = windows.setdefault(window, StoredWindow(window))
        one = series_of(row).explained(explained.get(_place(row)))
        stored.found[name_of(one.key)] = one
        stored.complete = stored.complete and not row["revision"]
    return [windows[window] for window in sorted(windows, key=lambda one: (one.end_ms, one.start_ms, one.topic_id))]


def series_of(row: Mapping[str, Any]) -> SeriesWindow:
    """A row of `windows` as what it was made from."""
    values = {name: float(row[name]) for name in SCORED_COLUMNS}
    broken, share = int(row["schema_broken"]), float(row["schema_share"])
    spans = (row[f"source_{name}"] for name in ("partitions", "first_offsets", "next_offsets"))
    return SeriesWindow(
        key=_key(row),
        requests=int(row["requests"]),
        answered=int(row["answered"]),
        values=values,
        row=dict(row),
        inputs=tuple(
            InputRange.model_construct(partition=number, first_offset=first, next_offset=after)
            for number, first, after in zip(*spans, strict=True)
        ),
        histograms={name: list(row[name]) for name in HISTOGRAMS},
        repeated=int(row["repeated"]),
        of_requests=round(broken / share) if broken and share > 0.0 else 0,
        uncomputed=int(row["uncomputed"]),
    )


def _causes(row: Mapping[str, Any]) -> LatencyCauses:
    """The inverse of `attribution.sentence.causes_row`."""
    return LatencyCauses(
        actual_ms=row["actual_ms"],
        usual_ms=row["usual_ms"],
        parts_ms={name: row[f"{name}_ms"] for name in CAUSES},
        coefficients={
            "queue": row["ms_per_queue_ms"],
            "tokens": row["ms_per_token"],
            "padding": row["ms_per_padding_token"],
            "batch_size": row["ms_per_batch_request"],
            "cache": row["ms_per_cached"],
            "memory": row["ms_per_gib"] / 2.0**30,
        },
        learning=bool(row["learning"]),
        slowest_worker=row["slowest_worker"],
        slowest_excess_ms=row["slowest_worker_ms"],
    )


def _window(row: Mapping[str, Any]) -> WindowId:
    return WindowId(row["source_topic_id"], row["window_start"], row["window_end"])


def _key(row: Mapping[str, Any]) -> SeriesKey:
    return SeriesKey.model_construct(scenario=row["scenario"], model=row["model"], version=row["model_version"])


def _place(row: Mapping[str, Any]) -> tuple[WindowId, str]:
    return _window(row), name_of(_key(row))


def by_partition(found: Mapping[str, SeriesWindow], targets: Iterable[int]) -> dict[int, dict[str, SeriesWindow]]:
    """The series of a window by who owns them; `targets` parallel to `found`."""
    shares: dict[int, dict[str, SeriesWindow]] = defaultdict(dict)
    for (name, one), target in zip(found.items(), targets, strict=True):
        shares[target][name] = one
    return shares
