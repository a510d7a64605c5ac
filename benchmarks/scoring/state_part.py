"""How many bytes the state of one series of the score job is, whole and by part."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import orjson

from schemas.windows import FACTORS, HISTOGRAMS, LatencySums, SeriesKey
from stream_jobs.attribution.factors import VARIABLES
from stream_jobs.metrics import scoring_of
from stream_jobs.pages import ENTRIES_PER_GROUP, pack
from stream_jobs.series_book import SeriesBook
from stream_jobs.settings import JobSettings
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import SeriesWindow, WindowId, name_of

WINDOWS = 1_000
"""Nearly three hours of the default length: all references are complete, all histograms are filled."""
SEED = 11
SHOWN = ("key", "latency", "scores", "detectors", "incidents")


def series_state() -> dict[str, Any]:
    """Bytes a series: in the pages of live series (`series_state_bytes`), parked, as JSON before it is packed, and that
    by part. Of a page of series that all metrics are known of."""
    settings = JobSettings()
    book = SeriesBook(scoring_of(settings, settings.alerts_a_week), ENTRIES_PER_GROUP, 600_000, parked_max=1)
    rng = np.random.default_rng(SEED)
    keys = [SeriesKey(model="all-MiniLM-L6-v2", version="1", scenario=f"made-{n}") for n in range(ENTRIES_PER_GROUP)]
    for number in range(WINDOWS):
        window = WindowId("t", number * settings.window_ms, (number + 1) * settings.window_ms)
        book.score(window, {name_of(key): _window(key, rng) for key in keys}, True, WindowEffects())
    entries = book.live.entries(0)
    parts: Counter[str] = Counter()
    for entry in entries:
        parts.update({name if name in SHOWN else "rest": len(orjson.dumps(value)) for name, value in entry.items()})
    series = book.live[name_of(keys[0])]
    return {
        "series_state_bytes": round(sum(map(len, pack(entries))) / len(entries)),
        "parked_series_bytes": len(book.live.states.packed(series)),
        "series_state_json_bytes": round(len(orjson.dumps(entries)) / len(entries)),
        "series_state_json_parts": {name: round(size / len(entries)) for name, size in parts.items()},
    }


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
