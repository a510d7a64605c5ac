"""A state of a version before, whose pages were JSON alone, is taken over exactly, but for what the selected detector
had learnt: that one was of another configuration and begins anew. `tests/golden/window_state_1.json` was written by
that version: the pages of `stage(2, 4)` after 60 windows."""

import base64
import json
from pathlib import Path
from random import Random

import orjson
import pytest

from schemas.windows import SeriesKey
from stream_jobs.entry_pages import is_of_entries
from stream_jobs.packing import unpacked
from stream_jobs.window_rows import name_of
from tests.laws.test_parked_series_laws import KEYS, log_with, said, stage

GOLDEN = Path(__file__).parents[2] / "golden" / "window_state_1.json"
SCORED = ("total_ms_p95", "error_share", "requests_per_second")
NAMES = ("first", "count", "level", "square", "seen_ms", "warm_up", "shift_since_ms", "shift_count", "shift_level")


@pytest.fixture
def pages():
    return {name: base64.b64decode(page) for name, page in json.loads(GOLDEN.read_text()).items()}


def restored(pages):
    one = stage(2, 4)
    one.restore(pages, 60)
    return one


def check(series, entry):
    assert series.key == SeriesKey(**entry["key"])
    assert (series.last_ms, series.at_rest) == (entry["last_ms"], entry["at_rest"])
    assert base64.b64encode(series.latency.state()).decode() == entry["latency"]
    for name, watched in series.metrics.items():
        told, state = entry["detectors"][name], watched.trigger.state()
        assert json.dumps(state) == json.dumps(dict(zip(NAMES, told, strict=True)) if len(told) == len(NAMES) else told)
        assert watched.learnt == 0
        blank = watched.incident.is_blank
        assert (None if blank else watched.incident.state()) == entry["incidents"].get(name)


def test_live_series_of_the_version_before_are_taken_over_exactly(pages):
    body = unpacked(pages["series-0.0"])
    assert body.startswith(b'{"format":1,"entries":[')
    entries = orjson.loads(body)["entries"]
    assert len(entries) == 2
    assert all(set(entry["scores"]) == set(SCORED) and entry["latency"] for entry in entries)
    assert any(entry["detectors"]["input_drift_psi"][5] for entry in entries), "no histograms: the test shows little"
    assert any(entry["incidents"] for entry in entries)
    book = restored(pages)._book
    assert len(book.live) == 2
    for entry in entries:
        check(book.series(name_of(SeriesKey(**entry["key"]))), entry)
    renewed = book.live.states.renewed
    assert renewed.count == 2 * len(SCORED)
    assert "two_heads" in renewed.reason


def test_parked_series_of_the_version_before_come_back_exact(pages):
    book = restored(pages)._book
    parked = [key for key in KEYS if name_of(key) in book.live.parked]
    assert len(parked) == 4
    for key in parked:
        packed = book.live.parked.take(name_of(key))
        assert not is_of_entries(packed)
        check(book.live.states.unpacked(packed), orjson.loads(unpacked(packed)))
    assert book.live.states.renewed.count == (2 + 4) * len(SCORED)


def test_it_goes_on_from_there_and_from_the_pages_that_it_writes(pages):
    first = restored(pages)
    first.restore(pages, 60)
    written = dict(first.all_pages())
    assert is_of_entries(written["series-0.0"])
    assert len(written["series-0.0"]) < len(pages["series-0.0"])
    second = restored(written)
    later = log_with([*[[]] * 60, KEYS[:3], KEYS[3:6], [], KEYS, KEYS], Random(4))[60:]
    for record in later:
        assert said(first.apply(record)) == said(second.apply(record))
    assert first.next_offset == second.next_offset == 65
