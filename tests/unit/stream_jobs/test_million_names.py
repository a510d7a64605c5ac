"""A million distinct series' names: memory and state stay within bounds, what is left out is told, nothing is lost."""

import json
import resource
import sys
import time
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest

from schemas.telemetry import Outcome
from stream_jobs.detectors.registry import DEFAULT, detector_named
from stream_jobs.history.reading import Batch
from stream_jobs.history.scoring import HistoryScorer
from stream_jobs.page_shelf import PageShelf
from stream_jobs.request_log import AnyRequests
from stream_jobs.request_stage import RequestStage
from stream_jobs.settings import JobSettings
from stream_jobs.stage import PAGE_BYTES_MAX, Limit
from stream_jobs.window_stage import WindowStage
from stream_jobs.windows import OVERFLOW
from tests.parts import takes_long
from tests.telemetry_events import T0, as_record, record, served

NAMES, PER_EVENT = 1_000_000, 250
WINDOWS = 50
SERIES_MAX, PARKED_MAX, ROW_MODELS_MAX = 400, 2_000, 4
GROWTH_MIB_MAX = 96
"""From a fifth of the names to all of them: what the bounds hold is held by then."""


@pytest.fixture(autouse=True)
def in_ci():
    takes_long("a million names")


def peak_mib():
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "linux" else peak / 2**20


def events(number):
    """Telemetry of names that were never there before; every twentieth event has a model, too."""
    outcome = Outcome.ANSWERED if number % 20 == 0 else Outcome.SHED
    first = number * PER_EVENT
    names = [f"name-{first + n}" for n in range(PER_EVENT)]
    offsets = range(first, first + PER_EVENT)
    return served(offsets, outcome=lambda o: outcome, scenario=lambda o: o % PER_EVENT, scenarios=names)


def test_a_million_names_through_both_stages():
    settings = JobSettings(
        window_seconds=1, series_max=SERIES_MAX, parked_series_max=PARKED_MAX, row_models_max=ROW_MODELS_MAX
    )
    first = RequestStage(settings, topic_id="t", partition=0, window_partitions=1, requests=AnyRequests())
    second = WindowStage(settings, partition=0, source_topic_id="t", source_partitions=1, new_shelf=PageShelf)
    counted, limits, told, peaks, began = 0, Counter(), Counter(), {}, time.perf_counter()
    count = NAMES // PER_EVENT
    each_ms = WINDOWS * 1_000 // count
    for number in range(count + 1):
        at_ms = T0 + number * each_ms if number < count else T0 + 10 * WINDOWS * 1_000
        effects = first.apply(record(events(min(number, count - 1)), number, at_ms))
        limits += effects.limits
        for event in effects.events:
            if event.topic == "anomaly.events":
                told[json.loads(event.value)["limit"]] += 1
                continue
            given = second.apply(as_record(event, number, at_ms))
            limits += given.limits
            told.update(dict(one.headers)["ce_type"].decode() for one in given.events)
            counted += sum(given.rows.get("windows_stored", {"requests": []})["requests"])
        if number % (count // 5) == 0:
            peaks[number] = peak_mib()
            for stage in (first, second):
                pages = stage.all_pages()
                assert len(pages) < 600
                assert max(map(len, pages.values())) <= PAGE_BYTES_MAX
    assert counted == NAMES
    assert len(second._book) <= SERIES_MAX
    assert len(second._book.live.parked) <= PARKED_MAX
    assert limits[Limit.WINDOW_SERIES] > 0.9 * NAMES
    assert {limits[what] > 0 for what in (Limit.ROW_MODELS, Limit.LIVE_SERIES, Limit.KNOWN_SERIES)} == {True}
    assert told["window_series"] == told["row_models"] == 1
    assert told["inferwatch.series.bound_reached.v1"] > 0
    assert max(peaks.values()) - peaks[count // 5] < GROWTH_MIB_MAX
    print(f"{NAMES} names through both stages: {time.perf_counter() - began:.1f} s, peaks {peaks} MiB, {OVERFLOW}")


def test_a_million_names_in_a_file():
    series_max, rows, peaks, began = 10_000, 50_000, [], time.perf_counter()
    scorer = HistoryScorer(lambda: detector_named(DEFAULT), series_max=series_max)
    for first in range(0, NAMES, rows):
        series = pa.array([f"name-{number}" for number in range(first, first + rows)])
        time_ms = np.full(rows, float(T0 + first))
        scored = scorer.score(Batch(series, pa.array(time_ms), time_ms, np.ones((rows, 1))))
        assert np.isnan(scored.score).all() or first < series_max
        peaks.append(peak_mib())
    assert len(scorer.series) == series_max
    assert scorer.counts["rows"] == NAMES
    assert scorer.counts["beyond"] == NAMES - series_max
    assert peaks[-1] - peaks[1] < GROWTH_MIB_MAX
    print(f"{NAMES} names in a file: {time.perf_counter() - began:.1f} s, peaks {peaks[0]:.0f} to {peaks[-1]:.0f} MiB")
