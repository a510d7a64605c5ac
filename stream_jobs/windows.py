"""The open window of one telemetry partition: what its requests add to each series, merged by adding or by maximum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.windows import HISTOGRAMS, PartialSeries, SeriesKey, Sketch
from stream_jobs.attribution.window_sums import WindowSums
from stream_jobs.request_arrays import OUTCOMES
from stream_jobs.sketch import BUCKETS, ENDS

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

OVERFLOW = SeriesKey(model="", version="", scenario="(other)")
"""The series that takes what is above the bound. Not a scenario's name: those have no brackets."""
COUNTS = ("answered", "failed", "shed", "dead_lettered", "inputs", "tokens", "padded_tokens", "truncated")
RARE = ("timed_out", "out_of_memory", "schema_broken", "empty", "repeated", "uncomputed")
"""Counts that are usually 0."""
SUMS = ("unknown_share_sum", "row_score_sum")
MAXIMA = ("row_score_max", "queue_depth_max", "memory_bytes_max")
LATENCIES = ("total_ms", "queue_ms", "compute_ms")
_COMPACT_AT = 65_536


@dataclass(frozen=True, slots=True)
class WindowRows:
    """Requests of one event, column by column. `series` numbers them into `keys`."""

    keys: Sequence[SeriesKey]
    series: Ints
    outcome: Ints
    """Index into OUTCOMES."""
    in_batch: NDArray[np.bool_]
    counts: dict[str, Ints]
    """Whole numbers to add: inputs, tokens, truncated."""
    padded_tokens: Floats
    """The request's share of its batch's computed tokens."""
    unknown_share: Floats
    row_score: Floats
    queue_depth: Ints
    memory_bytes: Ints
    latencies: dict[str, Floats]
    rare: dict[str, NDArray[np.bool_]]
    """Which requests are of each sort of RARE; a sort that is left out has none."""
    bins: dict[str, Ints]
    """For each of HISTOGRAMS the request's bin; -1: it is in none."""
    worker: str
    vectors: Ints
    """See `attribution.factors`."""
    measured: NDArray[np.bool_]
    """Which requests' latency is laid to causes: those answered of which all factors are known."""


class OpenWindow:
    """Sums of one window, one row a series. Rows beyond `series_max` series go to OVERFLOW."""

    def __init__(self, series_max: int) -> None:
        self.series_max = series_max
        self.keys: list[SeriesKey] = []
        self._slots: dict[tuple[str, str, str], int] = {}
        self._numbers: dict[str, NDArray[Any]] = {}
        self._latencies: dict[str, _Sketches] = {}
        self._bins: dict[str, Ints] = {}
        self._sums = WindowSums()
        self.overflowed = 0
        """Requests of the last `add` that went to OVERFLOW because of the bound."""
        self.clear()

    def __len__(self) -> int:
        return len(self.keys)

    def clear(self) -> None:
        """Start an empty window."""
        self.keys, self._slots = [], {}
        for name in COUNTS + RARE + MAXIMA[1:]:
            self._numbers[name] = np.zeros(8, dtype=np.int64)
        for name in (*SUMS, MAXIMA[0]):
            self._numbers[name] = np.zeros(8)
        self._latencies = {name: _Sketches() for name in LATENCIES}
        self._bins = {name: np.zeros((8, len(edges) + 1), dtype=np.int64) for name, edges in HISTOGRAMS.items()}
        self._sums = WindowSums()

    def add(self, rows: WindowRows) -> list[int]:
        """Fold requests in. Returns the slots (positions in `keys`) that changed."""
        slots = np.array([self._slot(key) for key in rows.keys], dtype=np.int64)
        at = slots[rows.series]
        self.overflowed = 0
        if len(self.keys) >= self.series_max:
            redirected = [self.keys[slot] != key for slot, key in zip(slots.tolist(), rows.keys, strict=True)]
            self.overflowed = int(np.count_nonzero(np.array(redirected)[rows.series]))
        self._fold(rows, slots, at)
        self._sums.add(slots, rows.series, rows.worker, rows.vectors, rows.measured)
        return sorted(set(slots.tolist()))

    def add_repeats(self, keys: Sequence[SeriesKey], counts: Sequence[int]) -> list[int]:
        """Note outcomes that were told before, by series, which take places as any. Returns the slots that changed."""
        slots = [self._slot(key) for key in keys]
        np.add.at(self._numbers["repeated"], np.array(slots, dtype=np.int64), np.array(counts, dtype=np.int64))
        return sorted(set(slots))

    def closed(self) -> list[PartialSeries]:
        """What all slots hold, with what is known of them only together."""
        count = len(self.keys)
        requests = sum(int(self._numbers[outcome.value][:count].sum()) for outcome in OUTCOMES)
        return [
            one.model_copy(update={"of_requests": requests}) if one.schema_broken else one
            for one in self.series(range(count))
        ]

    def _fold(self, rows: WindowRows, slots: Ints, at: Ints) -> None:
        from stream_jobs import compiled_window as loops  # numba takes a second to import

        numbers = self._numbers
        loops.count_outcomes(at, rows.outcome, *(numbers[outcome.value] for outcome in OUTCOMES))
        for name, values in rows.counts.items():
            loops.add_at(at, values, numbers[name])
        padded = np.bincount(rows.series, weights=rows.padded_tokens, minlength=len(slots))
        np.add.at(numbers["padded_tokens"], slots, (padded + 0.5).astype(np.int64))
        loops.add_at(at, rows.unknown_share, numbers["unknown_share_sum"])
        loops.add_at(at, rows.row_score, numbers["row_score_sum"])
        loops.raise_at(at, rows.row_score, numbers["row_score_max"])
        loops.raise_at(at, rows.queue_depth, numbers["queue_depth_max"])
        loops.raise_at(at, rows.memory_bytes, numbers["memory_bytes_max"])
        answered = rows.outcome == 0
        # A hit takes microseconds: among the latencies it would hide a slow model.
        np.add.at(numbers["uncomputed"], at[answered & ~rows.in_batch], 1)
        masks = {"total_ms": answered & rows.in_batch, "queue_ms": rows.in_batch, "compute_ms": rows.in_batch}
        for name, sketches in self._latencies.items():
            sketches.add(at, rows.latencies[name], masks[name])
        for name, which in rows.rare.items():
            np.add.at(numbers[name], at[which], 1)
        for name, bins in rows.bins.items():
            loops.count_bins(at, bins, self._bins[name])

    def series(self, slots: Sequence[int]) -> list[PartialSeries]:
        """What these slots, rising, hold."""
        sketches = {name: sketch.cut(slots) for name, sketch in self._latencies.items()}
        found, sums = [], self._sums.cut(slots)
        # Whole columns: a number picked by itself takes as long as thirty that are taken together.
        at = np.array(slots, dtype=np.int64)
        numbers = {name: array[at].tolist() for name, array in self._numbers.items()}
        histograms = {name: bins[at].tolist() for name, bins in self._bins.items()}
        for position, slot in enumerate(slots):
            values: dict[str, Any] = {name: column[position] for name, column in numbers.items()}
            values.update({name: cut[position] for name, cut in sketches.items()})
            values.update({name: trimmed(column[position]) for name, column in histograms.items()})
            found.append(PartialSeries.model_construct(key=self.keys[slot], latency=sums[position], **values))
        return found

    def restore(self, series: Sequence[PartialSeries]) -> None:
        """Take over series, in the order of their slots."""
        self.clear()
        for slot, one in enumerate(series):
            if self._add_slot(one.key) != slot:
                raise ValueError(f"series {one.key} twice in one window")
            for name, array in self._numbers.items():
                array[slot] = getattr(one, name)
            for name, sketches in self._latencies.items():
                sketches.load(slot, getattr(one, name))
            self._sums.load(slot, one.latency)
            for name, bins in self._bins.items():
                counts = getattr(one, name)
                if len(counts) > bins.shape[1]:
                    raise ValueError(f"{name}: {len(counts)} bins of {bins.shape[1]}")
                bins[slot, : len(counts)] = counts

    def _slot(self, key: SeriesKey) -> int:
        label = (key.scenario, key.model, key.version)
        slot = self._slots.get(label)
        if slot is not None:
            return slot
        if len(self.keys) >= self.series_max and key != OVERFLOW:
            return self._slot(OVERFLOW)
        return self._add_slot(key)

    def _add_slot(self, key: SeriesKey) -> int:
        slot = self._slots.setdefault((key.scenario, key.model, key.version), len(self.keys))
        if slot < len(self.keys):
            return slot
        self.keys.append(key)
        if slot >= len(self._numbers["answered"]):
            self._numbers = {name: np.concatenate((a, np.zeros_like(a))) for name, a in self._numbers.items()}
            self._bins = {name: np.concatenate((a, np.zeros_like(a))) for name, a in self._bins.items()}
        for sketches in self._latencies.values():
            sketches.grow(len(self.keys))
        return slot


class _Sketches:
    """One sketch a slot, as counted codes slot x BUCKETS + bucket: most buckets of most series are empty."""

    def __init__(self) -> None:
        self._codes: Ints = np.zeros(0, dtype=np.int64)
        self._counts: Ints = np.zeros(0, dtype=np.int64)
        self._waiting: list[Ints] = []
        self._waiting_count = 0
        self._sum, self._min, self._max = np.zeros(8), np.full(8, np.inf), np.zeros(8)

    def grow(self, slots: int) -> None:
        if slots > len(self._sum):
            self._sum = np.concatenate((self._sum, np.zeros_like(self._sum)))
            self._min = np.concatenate((self._min, np.full_like(self._min, np.inf)))
            self._max = np.concatenate((self._max, np.zeros_like(self._max)))

    def add(self, slots: Ints, values: Floats, mask: NDArray[np.bool_]) -> None:
        from stream_jobs.compiled_window import sketch_rows  # numba takes a second to import

        codes = np.empty(len(values), dtype=np.int64)
        count = sketch_rows(slots, values, mask, ENDS, self._sum, self._min, self._max, codes)
        self._waiting.append(codes[:count])
        self._waiting_count += count
        if self._waiting_count > _COMPACT_AT:
            self._compact()

    def load(self, slot: int, sketch: Sketch) -> None:
        if not sketch.bucket:
            return
        if sketch.bucket[-1] >= BUCKETS:
            raise ValueError(f"bucket {sketch.bucket[-1]} of {BUCKETS}")
        self._codes = np.concatenate((self._codes, slot * BUCKETS + np.array(sketch.bucket, dtype=np.int64)))
        self._counts = np.concatenate((self._counts, np.array(sketch.count, dtype=np.int64)))
        self._sum[slot], self._min[slot], self._max[slot] = sketch.sum, sketch.min, sketch.max

    def cut(self, slots: Sequence[int]) -> list[Sketch]:
        self._compact()
        edges = np.searchsorted(self._codes, np.array(slots, dtype=np.int64) * BUCKETS).tolist()
        ends = np.searchsorted(self._codes, (np.array(slots, dtype=np.int64) + 1) * BUCKETS).tolist()
        return [
            Sketch.model_construct(
                bucket=(self._codes[start:end] - slot * BUCKETS).tolist(),
                count=self._counts[start:end].tolist(),
                sum=self._sum[slot].item(),
                min=self._min[slot].item() if end > start else 0.0,
                max=self._max[slot].item(),
            )
            for slot, start, end in zip(slots, edges, ends, strict=True)
        ]

    def _compact(self) -> None:
        if not self._waiting:
            return
        codes, counts = _counted(np.concatenate(self._waiting))
        merged, at = np.unique(np.concatenate((self._codes, codes)), return_inverse=True)
        self._counts = _added(len(merged), at, np.concatenate((self._counts, counts)))
        self._codes, self._waiting, self._waiting_count = merged, [], 0


def trimmed(counts: list[int]) -> list[int]:
    """Counts by bin without the zeros at the end."""
    while counts and not counts[-1]:
        counts.pop()
    return counts


def _counted(codes: Ints) -> tuple[Ints, Ints]:
    """The different codes, rising, and how often each is there."""
    if not len(codes) or int(codes.max()) > 4 * len(codes):
        distinct, counts = np.unique(codes, return_counts=True)
        return distinct, counts.astype(np.int64)
    by_code = np.bincount(codes)  # few series: counting takes less than sorting
    distinct = np.flatnonzero(by_code)
    return distinct, by_code[distinct].astype(np.int64)


def _added(length: int, at: Ints, counts: Ints) -> Ints:
    sums = np.zeros(length, dtype=np.int64)
    np.add.at(sums, at, counts)
    return sums
