"""Alerts on simulated services: quiet while all is well, open within three windows of a fault, resolved in six.

Each series is seeded; a failing seed is in the test's name or message.
"""

import json
import math
import random
from dataclasses import dataclass, replace

import pytest

from schemas.windows import SeriesKey
from stream_jobs.entry_pages import pack_entries, unpack_entries
from stream_jobs.metrics import scoring_of
from stream_jobs.series_book import SeriesBook
from stream_jobs.settings import JobSettings
from stream_jobs.stage import Effects
from stream_jobs.window_effects import WindowEffects
from stream_jobs.window_rows import SeriesWindow, WindowId, name_of

KEY = SeriesKey(model="mini", version="1", scenario="search")
T0 = 1_700_000_000_000
LIGHT, STEADY = (60, 250), 0.15
"""Range of the usual 95 % latency, milliseconds; spread of its logarithm."""


@dataclass(frozen=True, slots=True)
class Window:
    """What one window of the service shows."""

    requests: int
    p50: float
    p95: float
    error_share: float = 0.0


def service(seed, count, *, kind="steady", window_seconds=10.0, rate=250.0):
    """Windows of a service without a fault: a cold start, then noise of some kind. Returns them and the usual p95."""
    rng = random.Random(seed)
    usual = math.exp(rng.uniform(*map(math.log, LIGHT)))
    found, regime, left = [], 0.0, 0
    for number in range(count):
        if kind == "regimes" and left == 0:
            regime, left = rng.choice([0.0, 0.0, 0.0, 0.2, 0.4, -0.2]), rng.randint(1, 6)
        left -= 1
        if kind == "wandering":
            regime = 0.8 * regime + rng.gauss(0, 0.12)
        body = usual * math.exp(regime + rng.gauss(0, STEADY))
        p95, p50 = body, 0.6 * body
        if kind == "stalls" and rng.random() < 0.07:
            p95 *= rng.uniform(3, 12)  # the slowest few wait for a pause of the machine
        if number < 2:
            p95, p50 = rng.uniform(1_000, 8_000), rng.uniform(500, 4_000)  # models load, caches are cold
        burst = math.exp(rng.gauss(0, 0.35))
        found.append(Window(max(1, round(rate * window_seconds * burst)), p50, p95))
    return found, usual


def with_latency_drill(windows, start, end, seed, extra_ms=400.0):
    """From `start` to `end`, in windows and parts of them, batches take longer, and make others wait."""
    rng = random.Random(seed)
    found = list(windows)
    for number, one in enumerate(windows):
        share = max(0.0, min(number + 1, end) - max(number, start))
        if share > 0.0:
            extra = extra_ms * rng.uniform(1.0, 1.7)
            p95 = one.p95 + (extra if share > 0.05 else 0.0)
            found[number] = Window(one.requests, one.p50 + (extra if share > 0.5 else 0.0), p95)
    return found


def with_gap(windows, start, length, thin):
    """From window `start` on hardly a request (`thin`), or no window at all: the jobs were away."""
    gap = [replace(one, requests=5) if thin else None for one in windows[start : start + length]]
    return [*windows[:start], *gap, *windows[start + length :]]


def alerts_of(windows, settings):
    """(window number, status, kind) of each change, and the book afterwards. None: time passes without a window."""
    book = SeriesBook(scoring_of(settings, 21), 10, round(settings.idle_seconds * 1000))
    found, length = [], settings.window_ms
    for number, one in enumerate(windows):
        if one is None:
            continue
        window = WindowId("t", T0 + number * length, T0 + (number + 1) * length)
        values = {
            "requests_per_second": one.requests * 1000 / length,
            "total_ms_p50": one.p50,
            "total_ms_p95": one.p95,
            "error_share": one.error_share,
        }
        effects, given = WindowEffects(), Effects()
        there = {name_of(KEY): SeriesWindow(KEY, one.requests, one.requests, values, {}, ())} if one.requests else {}
        book.score(window, there, True, effects)
        effects.into(given)
        changes = [json.loads(event.value) for event in given.events if event.topic == "alerts"]
        found.extend((number, change["status"], change["kind"]) for change in changes)
    return found, book


DAY = 1_440
"""Windows of a minute."""


def by_hour(windows, share=0.4):
    """Days and nights: latency goes so far up and down with the hour, slowest by day."""
    factors = [1.0 - share * math.cos(2 * math.pi * number / DAY) for number in range(len(windows))]
    return [replace(one, p50=f * one.p50, p95=f * one.p95) for one, f in zip(windows, factors, strict=True)]


@pytest.mark.parametrize("kind", ["steady", "stalls", "wandering"])
def test_latency_that_goes_up_by_day_and_down_by_night_alerts_nobody(kind):
    settings = JobSettings(window_seconds=60)
    for seed in range(2):
        windows, usual = service(seed, 3 * DAY, kind=kind, window_seconds=60)
        assert alerts_of(by_hour(windows), settings)[0] == [], f"seed {seed}, usually {usual:.0f} ms"


@pytest.mark.parametrize("hour", [0, 6, 12, 18])
def test_a_latency_drill_on_top_of_day_and_night_is_seen(hour):
    settings, failed = JobSettings(window_seconds=60), []
    for seed in range(4):
        start = 2 * DAY + 60 * hour
        windows, usual = service(seed, start + 40, window_seconds=60)
        slow = with_latency_drill(by_hour(windows), start, start + 20, seed, extra_ms=2.0 * usual)
        changes, _ = alerts_of(slow, settings)
        opened, ended = ([number for number, one, _ in changes if one == status] for status in ("open", "resolved"))
        good = {kind for _, _, kind in changes} == {"latency_shift"} and len(opened) == len(ended) == 1
        # What was slow for hours of each day is less of an exception: some incidents are resolved before their end.
        if not (good and start <= opened[0] < start + 3 and opened[0] < ended[0] < start + 26):
            failed.append((seed, round(usual), start, changes))
    assert failed == []


KINDS = ("steady", "regimes", "wandering", "stalls")
LENGTHS = (10, 1)


@pytest.mark.parametrize("window_seconds", LENGTHS)
@pytest.mark.parametrize("kind", KINDS)
def test_five_quiet_minutes_alert_nobody(kind, window_seconds):
    settings = JobSettings(window_seconds=window_seconds)
    for seed in range(40 if window_seconds == 10 else 8):
        count = 30 if window_seconds == 10 else 300
        windows, usual = service(seed, count, kind=kind, window_seconds=window_seconds)
        assert alerts_of(windows, settings)[0] == [], f"seed {seed}, usually {usual:.0f} ms"


@pytest.mark.parametrize("window_seconds", LENGTHS)
@pytest.mark.parametrize("kind", ["steady", "stalls", "regimes"])
def test_a_latency_drill_opens_one_alert_soon_and_resolves_it_soon_and_is_not_learnt(kind, window_seconds):
    settings = JobSettings(window_seconds=window_seconds)
    failed, runs = [], 40
    for seed in range(runs):
        rng = random.Random(seed)
        start = rng.randint(8, 25) + rng.random()
        end = start + rng.choice([3.0, 4.5, 6.0, 30.0])
        windows, usual = service(seed, math.ceil(end) + 10, kind=kind, window_seconds=window_seconds)
        changes, book = alerts_of(with_latency_drill(windows, start, end, seed), settings)
        opened = [number for number, status, _ in changes if status == "open"]
        resolved = [number for number, status, _ in changes if status == "resolved"]
        level = book.series(name_of(KEY)).metrics["total_ms_p95"].trigger.state()["level"]
        good = (
            {kind for _, _, kind in changes} == {"latency_shift"}
            and len(opened) == len(resolved) == 1
            and int(start) <= opened[0] < int(start) + 3
            and int(end) <= resolved[0] < int(end) + 6
            and level < 1.6 * usual
        )
        if not good:
            failed.append((seed, round(usual), start, end, changes))
    # A regime that rises while it is learnt hides a shift of its own size; nothing else may fail.
    assert len(failed) <= (2 if kind == "regimes" else 0), failed


@pytest.mark.parametrize("thin", [True, False])
@pytest.mark.parametrize("window_seconds", LENGTHS)
def test_a_gap_inside_an_incident_neither_ends_it_nor_makes_it_normal(window_seconds, thin):
    """However long the gap: what nobody saw is no sign that it is over. A thin one ends before it would be given up."""
    settings = JobSettings(window_seconds=window_seconds)
    failed = []
    for seed in range(40):
        rng = random.Random(seed)
        start, before, length = rng.randint(8, 25), rng.randint(3, 12), rng.choice([4, 5, 30, 50 if thin else 2_000])
        resumes = start + before + length
        end = resumes + rng.choice([0, 1, 3, 12])
        windows, usual = service(seed, end + 10, window_seconds=window_seconds)
        windows = with_gap(with_latency_drill(windows, start, end, seed), start + before, length, thin)
        changes, book = alerts_of(windows, settings)
        changes = [change[:2] for change in changes if change[2] == "latency_shift"]
        level = book.series(name_of(KEY)).metrics["total_ms_p95"].trigger.state()["level"]
        good = (
            [status for _, status in changes] == ["open", "resolved"]
            and changes[0][0] < start + 3
            and end <= changes[1][0] < end + 6
            and level < 1.6 * usual
        )
        if not good:
            failed.append((seed, round(usual), start, before, length, end, changes, round(level)))
    assert failed == []


def test_an_incident_of_a_service_with_hardly_any_traffic_left_is_given_up_in_bounded_time():
    settings = JobSettings()
    windows, _ = service(4, 120)
    windows = with_gap(with_latency_drill(windows, 15, 120, 4), 20, 100, thin=True)
    changes = [change for change in alerts_of(windows, settings)[0] if change[2] == "latency_shift"]
    assert [status for _, status, _ in changes] == ["open", "resolved"]
    assert changes[1][0] == 20 + settings.idle_seconds / settings.window_seconds


@pytest.mark.parametrize("window_seconds", LENGTHS)
def test_a_burst_of_errors_opens_an_alert_at_once(window_seconds):
    settings = JobSettings(window_seconds=window_seconds)
    windows, _ = service(1, 30, window_seconds=window_seconds)
    bad = [Window(w.requests, w.p50, w.p95, 0.6 if 15 <= n < 18 else 0.0) for n, w in enumerate(windows)]
    changes, _ = alerts_of(bad, settings)
    assert changes == [(15, "open", "error_burst"), (20, "resolved", "error_burst")]


def test_some_errors_are_usual():
    rng = random.Random(5)
    windows = [Window(w.requests, w.p50, w.p95, rng.uniform(0, 0.03)) for w in service(2, 60)[0]]
    assert alerts_of(windows, JobSettings())[0] == []


def test_a_service_that_stops_answering_is_a_fall_of_the_rate():
    windows, _ = service(3, 30)
    gone = [*windows[:20], *[Window(0, 0.0, 0.0)] * 8, *windows[20:]]
    changes, _ = alerts_of(gone, JobSettings())
    assert [change for change in changes if change[2] == "throughput_drop"] == [
        (23, "open", "throughput_drop"),
        (30, "resolved", "throughput_drop"),
    ]
    assert [change for change in changes if change[2] != "throughput_drop"] == []


def test_on_and_off_traffic_is_no_fall_of_the_rate():
    rng = random.Random(7)
    windows = [Window(rng.choice([0, 0, 300, 2_500, 4_000]), 40.0, 90.0) for _ in range(120)]
    assert alerts_of(windows, JobSettings())[0] == []


def test_windows_with_few_requests_are_not_judged_by_their_quantiles():
    rng = random.Random(9)
    windows = [Window(rng.randint(1, 12), 30.0, rng.choice([40.0, 900.0])) for _ in range(200)]
    assert [change for change in alerts_of(windows, JobSettings())[0] if change[2] == "latency_shift"] == []


def test_a_restart_with_what_was_learnt_before_alerts_nobody():
    settings = JobSettings()
    windows, _ = service(11, 30)
    _, book = alerts_of(windows, settings)
    again = SeriesBook(scoring_of(settings, 21), 10, 600_000)
    pages = [pack_entries(book.live.entries(group), book.live.states.columns) for group in book.live.groups()]
    again.live.restore(unpack_entries(page for of in pages for page in of))
    start = T0 + 3_600_000
    effects, given = WindowEffects(), Effects()
    for number, one in enumerate(service(12, 30)[0]):
        window = WindowId("t", start + number * 10_000, start + (number + 1) * 10_000)
        p95, p50 = (5_000.0, 3_000.0) if number < 2 else (windows[-1].p95, windows[-1].p50)
        values = {"requests_per_second": 250.0, "total_ms_p50": p50, "total_ms_p95": p95, "error_share": 0.0}
        again.score(window, {name_of(KEY): SeriesWindow(KEY, one.requests, 2_500, values, {}, ())}, True, effects)
    effects.into(given)
    assert [event for event in given.events if event.topic == "alerts"] == []
