"""A series' window, merged from the partials of its source partitions, and its row in the table of windows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Any

from schemas.anomalies import InputRange
from schemas.windows import HISTOGRAMS, LatencySums, PartialSeries, SeriesKey
from stream_jobs.attribution.regression import LatencyCauses, merged_sums
from stream_jobs.sketch import merge, quantile
from stream_jobs.windows import COUNTS, LATENCIES, MAXIMA, RARE, SUMS

RATE = "requests_per_second"
RESIDUAL = "latency_residual_ms"
"""Name of the value that `SeriesWindow.explained` adds: no column of `windows`, but of `latency_causes`."""


@dataclass(frozen=True, slots=True)
class WindowId:
    """Which window: the telemetry topic's id, and start and end in epoch milliseconds of its log."""

    topic_id: str
    start_ms: int
    end_ms: int

    def labels(self, key: SeriesKey) -> dict[str, Any]:
        """The columns that every table of windows begins with."""
        return {
            "source_topic_id": self.topic_id,
            "window_start": self.start_ms,
            "window_end": self.end_ms,
            "scenario": key.scenario,
            "model": key.model,
            "model_version": key.version,
        }


@dataclass(frozen=True, slots=True)
class Share:
    """One source partition's share of a window: its offsets, and a partial for each series it saw."""

    first_offset: int
    next_offset: int
    series: dict[str, PartialSeries]


@dataclass(frozen=True, slots=True)
class SeriesWindow:
    """All there is of one series in one window. `values` are the columns of `windows` that can be scored."""

    key: SeriesKey
    requests: int
    answered: int
    values: dict[str, float]
    row: dict[str, Any]
    inputs: tuple[InputRange, ...]
    histograms: Mapping[str, list[int]] = field(default_factory=dict)
    """Counts by bin, as in `schemas.windows.HISTOGRAMS`, zeros at the end left out."""
    repeated: int = 0
    of_requests: int = 0
    """Requests of all series of the source partitions that had broken ones."""
    uncomputed: int = 0
    """Answers that no latency is kept of: nothing was computed for them."""
    latency: LatencySums = field(default_factory=LatencySums)
    causes: LatencyCauses | None = None
    """What explains its latency; None: nothing can be said, or it was not asked yet."""

    def explained(self, causes: LatencyCauses | None) -> SeriesWindow:
        """The same with the causes of its latency; what they leave unexplained can be scored, too."""
        if causes is None:
            return self
        values = self.values if causes.learning else {**self.values, RESIDUAL: causes.residual_ms}
        return replace(self, causes=causes, values=values)


def name_of(key: SeriesKey) -> str:
    """A series' name inside stage 2: unlike `str(key)` never that of another, whatever a model is called."""
    return "\x1f".join((key.scenario, key.model, key.version))


def id_of(*parts: str, size: int = 12) -> str:
    """A name that is a function of its parts: the same in every replay. Two characters for each byte of `size`."""
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=size).hexdigest()


def merged(window: WindowId, series: str, shares: Mapping[int, Share], revision: int) -> SeriesWindow:
    """Merge what the source partitions say of a series, in partition order, whatever order they came in."""
    found = [(number, shares[number]) for number in sorted(shares) if series in shares[number].series]
    partials = [share.series[series] for _, share in found]
    key = partials[0].key
    inputs = tuple(
        InputRange.model_construct(partition=number, first_offset=share.first_offset, next_offset=share.next_offset)
        for number, share in found
    )
    totals: dict[str, Any] = {name: sum(getattr(one, name) for one in partials) for name in _ADDED}
    totals.update({name: max(getattr(one, name) for one in partials) for name in MAXIMA})
    values = _values(window, totals, partials)
    histograms = {name: _summed([getattr(one, name) for one in partials]) for name in HISTOGRAMS}
    row = {
        **window.labels(key),
        "revision": revision,
        **{name: totals[name] for name in ("answered", "failed", "shed", "dead_lettered", "tokens")},
        **values,
        "queue_depth_max": totals["queue_depth_max"],
        "memory_bytes_max": totals["memory_bytes_max"],
        "row_score_max": totals["row_score_max"],
        **source_columns(inputs),
        **{name: totals[name] for name in RARE},
        **histograms,
    }
    row["requests"] = requests = _requests(totals)
    for name in ("memory_bytes_max", *RARE):
        values[name] = float(totals[name])
    return SeriesWindow(
        key,
        requests,
        totals["answered"],
        values,
        row,
        inputs,
        histograms=histograms,
        repeated=totals["repeated"],
        of_requests=totals["of_requests"],
        uncomputed=totals["uncomputed"],
        latency=merged_sums([one.latency for one in partials]),
    )


def _summed(bins: Sequence[list[int]]) -> list[int]:
    return bins[0] if len(bins) == 1 else [sum(counts) for counts in zip_longest(*bins, fillvalue=0)]


def source_columns(inputs: Sequence[InputRange]) -> dict[str, list[int]]:
    """Where the numbers come from, as the tables' array columns."""
    return {
        "source_partitions": [one.partition for one in inputs],
        "source_first_offsets": [one.first_offset for one in inputs],
        "source_next_offsets": [one.next_offset for one in inputs],
    }


_ADDED = (*COUNTS, *SUMS, *RARE, "of_requests")


def _requests(totals: Mapping[str, Any]) -> int:
    return int(totals["answered"] + totals["failed"] + totals["shed"] + totals["dead_lettered"])


def _values(window: WindowId, totals: Mapping[str, Any], partials: Sequence[PartialSeries]) -> dict[str, float]:
    total, queue, compute = (merge(getattr(one, name) for one in partials) for name in LATENCIES)
    requests = _requests(totals)
    some = max(requests, 1)
    padded = totals["padded_tokens"]
    return {
        RATE: requests * 1000.0 / (window.end_ms - window.start_ms),
        "total_ms_p50": quantile(total, 0.5),
        "total_ms_p95": quantile(total, 0.95),
        "total_ms_p99": quantile(total, 0.99),
        "total_ms_max": total.max,
        "queue_ms_p95": quantile(queue, 0.95),
        "compute_ms_p95": quantile(compute, 0.95),
        "padding_share": max(0.0, 1.0 - totals["tokens"] / padded) if padded else 0.0,
        "error_share": totals["failed"] / some,
        "unknown_share": totals["unknown_share_sum"] / some,
        "row_score_mean": totals["row_score_sum"] / some,
        "timeout_share": totals["timed_out"] / some,
        "schema_share": totals["schema_broken"] / max(totals["of_requests"], 1),
        "empty_share": totals["empty"] / max(totals["answered"], 1),
        "repeated_share": totals["repeated"] / max(requests + totals["repeated"], 1),
        "uncomputed_share": totals["uncomputed"] / max(totals["answered"], 1),
    }
