"""How many bytes the state of one series of the score job is, whole and by part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from schemas.windows import FACTORS, HISTOGRAMS, LatencySums, SeriesKey
from stream_jobs.attribution.factors import VARIABLES
from stream_jobs.entry_pages import Entry, pack_entries
from stream_jobs.metrics import scoring_of
from stream_jobs.pages import ENTRIES_PER_GROUP
from stream_jobs.series_book import SeriesBook
from stream_jobs.settings import JobSettings
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import SeriesWindow, WindowId, name_of

WINDOWS = 1_000
"""Nearly three hours of the default length: all references are complete, all histograms are filled."""
SEED = 11
SHOWN = ("key", "detectors", "incidents")
"""Of the text; what of it is not shown is the rest."""


def series_state(windows: int = WINDOWS) -> dict[str, Any]:
    """Bytes a series: in the pages of live series (`series_state_bytes`), parked, before it is packed, and by part with
    each packed alone. Of a page of series that all metrics are known of."""
    settings = JobSettings()
    book = SeriesBook(scoring_of(settings, settings.alerts_a_week), ENTRIES_PER_GROUP, 600_000, parked_max=1)
    rng = np.random.default_rng(SEED)
    keys = [SeriesKey(model="all-MiniLM-L6-v2", version="1", scenario=f"made-{n}") for n in range(ENTRIES_PER_GROUP)]
    for number in range(windows):
        window = WindowId("t", number * settings.window_ms, (number + 1) * settings.window_ms)
        book.score(window, {name_of(key): _window(key, rng) for key in keys}, True, WindowEffects())
    entries, states = book.live.entries(0), book.live.states
    return {
        "series_state_bytes": _packed(entries, states.columns),
        "parked_series_bytes": len(states.packed(book.live[name_of(keys[0])])),
        "series_state_raw_bytes": round(sum(map(_raw, entries)) / len(entries)),
        "series_state_parts": _parts(entries, states.columns),
    }


def _parts(entries: Sequence[Entry], columns: Mapping[str, int]) -> dict[str, int]:
    parts = {"scores": {name: size for name, size in columns.items() if name in entries[0].plain["scores"]}}
    parts |= {name: {name: size} for name, size in columns.items() if name not in parts["scores"]}
    found = {
        name: _packed([Entry(None, {one: entry.numbers[one] for one in of}) for entry in entries], of)
        for name, of in parts.items()
    }
    found |= {name: _packed([Entry(entry.plain[name]) for entry in entries], {}) for name in SHOWN}
    rest = [{name: value for name, value in entry.plain.items() if name not in SHOWN} for entry in entries]
    return found | {"rest": _packed(list(map(Entry, rest)), {})}


def _packed(entries: Sequence[Entry], columns: Mapping[str, int]) -> int:
    """Bytes an entry."""
    return round(sum(map(len, pack_entries(entries, columns))) / len(entries))


def _raw(entry: Entry) -> int:
    return len(orjson.dumps(entry.plain)) + sum(map(len, entry.numbers.values()))


def _window(key: SeriesKey, rng: np.random.Generator) -> SeriesWindow:
    requests = int(rng.integers(100, 400))
    values = {
        "total_ms_p95": rng.lognormal(5, 0.2),
        "total_ms_p50": rng.lognormal(4, 0.2),
        "error_share": 0.0,
        "requests_per_second": requests / 10,
        "memory_bytes_max": float(rng.integers(10**9, 2 * 10**9)),
        **dict.fromkeys(("timed_out", "out_of_memory", "schema_broken", "empty", "repeated"), 0.0),
    }
    bins = {name: rng.multinomial(requests, _shares(len(edges) + 1)).tolist() for name, edges in HISTOGRAMS.items()}
    vectors = np.floor(rng.lognormal(5, 0.5, (requests, len(FACTORS) + 1))).astype(np.int64)
    products = (vectors.T @ vectors)[np.triu_indices(VARIABLES)].tolist()
    half = requests // 2
    sums = LatencySums(
        workers=["worker-1", "worker-2"],
        counts=[half, requests - half],
        sums=[vectors[:half].sum(axis=0).tolist(), vectors[half:].sum(axis=0).tolist()],
        products=products,
    )
    return SeriesWindow(key, requests, requests, values, {}, (), histograms=bins, latency=sums)


def _shares(count: int) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Most of the mass in a few bins of the middle, as of real requests."""
    weights = np.exp(-0.5 * ((np.arange(count) - count / 2) / (count / 8)) ** 2)
    return np.asarray(weights / weights.sum())
