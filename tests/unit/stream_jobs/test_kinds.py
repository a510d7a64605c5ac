"""Every kind has a trigger; each fires on a made fault within its windows, and not on what is nearly one."""

import json
import re

import numpy as np
import pytest
from river.drift import ADWIN, KSWIN

from schemas.anomalies import AnomalyKind
from schemas.tables import WINDOWS
from schemas.windows import PartialSeries
from stream_jobs.kinds import KINDS
from stream_jobs.kinds_page import page
from stream_jobs.metrics import metrics_of
from stream_jobs.settings import JobSettings
from stream_jobs.window_rows import SeriesWindow, Share, WindowId, merged
from stream_jobs.window_triggers import NEVER_OPEN
from tests.kind_windows import KEY, MIB, NOBODY, Watch, service

LEARNT = 20
"""Windows after which a detector of shares has learnt."""
REFERENCE = 61


def test_every_kind_is_there_once():
    assert sorted(about.kind for about in KINDS) == sorted(AnomalyKind)


def test_every_kind_is_explained():
    for about in KINDS:
        assert min(map(len, (about.trigger, about.series, about.policy, about.quiet))) > 5, about.kind
        assert about.direction in ("up", "down", "both")
        assert about.first
        assert about.reads


def test_the_metrics_are_those_of_the_kinds():
    metrics = metrics_of(JobSettings())
    alerting = [one.alert.kind for one in metrics if one.alert.open_windows < NEVER_OPEN]
    assert alerting == [about.kind for about in KINDS if about.metric is not None]
    assert [one.name for one in metrics if one.alert.open_windows >= NEVER_OPEN] == ["latency_residual_ms"]
    assert len({one.name for one in metrics}) == len(metrics) == 12
    assert all(one.alert.metric == one.name for one in metrics)


def test_what_is_scored_is_what_the_registry_says_is_read():
    for about in KINDS:
        if about.metric is not None:
            metric = about.metric(JobSettings())
            assert set(metric.histograms or {metric.column or metric.name}) <= set(about.reads), about.kind


def test_what_the_registry_reads_of_windows_is_there():
    known = {column.name for column in WINDOWS.columns}
    for about in KINDS:
        if about.metric is not None:
            assert set(about.reads) <= known, about.kind


def test_the_settings_that_the_page_names_are_settings():
    text = page("A note.")
    assert [line[3:] for line in text.splitlines() if line.startswith("## ")] == [kind.value for kind in AnomalyKind]
    named = set(re.findall(r"`([a-z]+(?:_[a-z]+)*_(?:min|windows|seconds))`", text))
    assert len(named) >= 12
    assert named <= JobSettings.model_fields.keys()


@pytest.mark.parametrize(
    ("kind", "share"),
    [
        ("timeout", {"timed_out": 0.2}),
        ("empty_result", {"empty": 0.2}),
        ("duplicate", {"repeated": 0.4}),
    ],
)
def test_a_share_that_rises_opens_and_resolves_one_alert(kind, share):
    for seed in range(5):
        healthy, ill = service(seed), service(seed + 100, shares=share)
        watch = Watch().run(healthy, LEARNT).run(ill, 8).run(healthy, 10)
        assert watch.kinds == {kind}, f"seed {seed}"
        (opened,), (resolved,) = watch.opened(kind), watch.resolved(kind)
        assert LEARNT <= opened < LEARNT + 4
        assert LEARNT + 8 <= resolved < LEARNT + 8 + 4


@pytest.mark.parametrize("name", ["timed_out", "empty", "repeated"])
def test_a_share_below_the_least_and_a_single_window_are_none(name):
    low, high = service(7, shares={name: 0.02}), service(8, shares={name: 0.08 if name != "repeated" else 0.3})
    watch = Watch().run(low, 300)
    watch.run(high, 1).run(low, 30)
    assert watch.changes == []
    metric = {"timed_out": "timeout_share", "empty": "empty_share", "repeated": "repeated_share"}[name]
    assert sum(metric in scores for scores in watch.scores) > 200, "it was scored"


def test_a_share_that_is_always_there_is_usual_but_twice_as_much_again_is_not():
    usual, worse = service(1, shares={"timed_out": 0.12}), service(2, shares={"timed_out": 0.6})
    watch = Watch(scale_seconds=2_000).run(usual, 400)
    settled = watch.number
    before = list(watch.changes)
    watch.run(usual, 200)
    assert watch.changes == before, "what is usual alerts nobody any more"
    watch.run(worse, 4)
    assert [number for number in watch.opened("timeout") if number >= settled + 200]


def test_a_new_series_says_nothing_of_shares_while_it_learns():
    watch = Watch().run(service(3, shares={"timed_out": 0.5}), 6)
    assert watch.changes == []


def test_windows_with_few_requests_do_not_say_that_a_share_rose():
    watch = Watch().run(service(4, requests=8, shares={"timed_out": 0.2, "empty": 0.2, "repeated": 0.2}), 200)
    assert watch.kinds <= {"throughput_drop"}


def test_running_out_of_memory_is_told_from_the_first_windows_on():
    watch = Watch().run(service(5, counts={"out_of_memory": 1}), 3)
    assert watch.opened("oom") == [1]
    first = Watch().run(service(7, counts={"out_of_memory": 5, "timed_out": 50}), 1)
    assert (first.opened("oom"), first.kinds) == ([0], {"oom"})  # what others watch at first is no alert yet
    at_once = Watch().run(service(5), 3).run(service(6, counts={"out_of_memory": 5}), 1)
    assert at_once.opened("oom") == [3]


def test_one_request_that_ran_out_of_memory_is_no_alert():
    watch = Watch().run(service(5), 10).run(service(5, counts={"out_of_memory": 1}), 1).run(service(5), 10)
    assert watch.changes == []
    assert [message["kind"] for _, message in watch.events] == ["oom"]


def broken(count, of):
    return service(1, key=NOBODY, requests=count, counts={"schema_broken": count, "of_requests": of}).window()


def test_a_producer_that_sends_what_the_topic_does_not_carry():
    watch, healthy = Watch(), service(9)
    for _ in range(LEARNT):
        watch(healthy.window(), broken(3, 300))
    assert watch.changes == []
    for _ in range(5):
        watch(healthy.window(), broken(60, 300))
    watch.run(healthy, 8)  # nothing is broken any more: the series without labels is not there
    assert watch.kinds == {"schema_break"}
    assert LEARNT < watch.opened("schema_break")[0] < LEARNT + 3
    assert watch.resolved("schema_break")[0] == LEARNT + 5 + 2


def test_a_few_broken_records_among_few_requests_are_chance():
    """One in a hundred is broken, of some thirty requests a window: often none, now and then three at once."""
    for seed in range(5):
        watch, healthy = Watch(), service(seed, requests=30)
        for _ in range(400):
            cases = int(healthy.rng.binomial(30, 0.01))
            watch(healthy.window(), *([broken(cases, 30)] if cases else []))
        assert watch.changes == [], f"seed {seed}"
        assert len(watch.events) == 0


def test_all_that_an_idle_topic_gets_being_broken_is_too_few_to_say():
    watch, healthy = Watch(), service(9)
    for _ in range(60):
        watch(healthy.window(), broken(3, 10))
    assert watch.changes == []


def grown(watch, windows, bytes_a_window, seed=1, start=900 * MIB, noise=5 * MIB):
    one = service(seed)
    for number in range(windows):
        one.memory = start + number * bytes_a_window + abs(one.rng.normal(0, noise))
        watch(one.window())
    return watch


HOUR = 60
"""Windows of a minute in an hour."""


def test_memory_that_grows_for_hours_is_a_leak():
    watch = grown(Watch(window_seconds=60), 5 * HOUR, 100 * MIB / HOUR)
    assert watch.kinds == {"memory_leak"}
    assert 2 * HOUR <= watch.opened("memory_leak")[0] <= 2.5 * HOUR
    slope = watch.events[-1][1]["score"]["actual"]
    assert slope == pytest.approx(100 * MIB, rel=0.05), "bytes an hour"


def test_a_restart_ends_what_is_known_of_a_leak():
    watch = grown(Watch(window_seconds=60), 4 * HOUR, 200 * MIB / HOUR)
    assert watch.opened("memory_leak")
    grown(watch, 3 * HOUR, 0)
    assert len(watch.resolved("memory_leak")) == 1
    assert len(watch.opened("memory_leak")) == 1


@pytest.mark.parametrize(
    "memory",
    [
        pytest.param(lambda n, rng: 900 + (600 if n > 150 else 0), id="a step: another model was loaded"),
        pytest.param(lambda n, rng: 900 + 700 * (1 - 0.98**n), id="a cache that fills"),
        pytest.param(lambda n, rng: 900 + 8 * (n % 45), id="a saw: the collector gives back"),
        pytest.param(lambda n, rng: 900 + rng.normal(0, 150), id="noise without direction"),
        pytest.param(lambda n, rng: 900 + 0.2 * n, id="72 MiB in six hours"),
        pytest.param(lambda n, rng: 900 + 200 * (n // 120 % 2), id="to and fro in hours"),
    ],
)
def test_memory_that_is_nearly_a_leak_is_none(memory):
    watch, one = Watch(window_seconds=60), service(3)
    for number in range(6 * HOUR):
        one.memory = max(1.0, memory(number, one.rng)) * MIB
        watch(one.window())
    assert watch.changes == []


@pytest.mark.parametrize(
    ("kind", "changed", "histogram", "sign"),
    [
        ("input_drift", {"length": 30.0}, "token_bins", 1),
        ("input_drift", {"length": 5.0}, "token_bins", -1),
        ("input_drift", {"unknown": 0.25}, "unknown_bins", 1),
        ("input_drift", {"fertility": 0.3}, "fertility_bins", 1),
        ("input_drift", {"fertility": 0.14}, "fertility_bins", -1),
        ("score_drift", {"sure": (3.0, 3.0)}, "confidence_bins", -1),
        ("score_drift", {"norm": 8.0}, "norm_bins", 1),
    ],
)
def test_a_distribution_that_is_another_is_drift_and_says_by_how_much(kind, changed, histogram, sign):
    watch = Watch().run(service(1), REFERENCE + 60)
    start = watch.number
    watch.run(service(2, **changed), 60)
    assert watch.kinds == {kind}
    assert start < watch.opened(kind)[0] <= start + 3 * 13
    _, event = watch.events[-1]
    assert event["effects"][f"{histogram}_psi"] > 0.25
    assert sign * event["effects"][f"{histogram}_delta"] > 0.15
    assert max(event["contributors"], key=event["contributors"].get) == histogram
    assert sum(event["contributors"].values()) == pytest.approx(1.0)
    watch.run(service(3), 60)
    assert len(watch.resolved(kind)) == 1


@pytest.mark.parametrize(
    ("kind", "changed", "histogram"),
    [
        pytest.param("input_drift", {"scripts": (0.0, 0.2, 0.8)}, "script_bins", id="another language"),
        pytest.param("input_drift", {"scripts": (0.0, 0.55, 0.06, 0, 0.04, 0.35)}, "script_bins", id="one more"),
        pytest.param("score_drift", {"lean": 4.0}, "direction_bins", id="embeddings point elsewhere"),
    ],
)
def test_a_mix_that_is_another_is_drift_and_says_how_much_of_it_moved(kind, changed, histogram):
    watch = Watch().run(service(1), REFERENCE + 60)
    start = watch.number
    watch.run(service(2, **changed), 60)
    assert watch.kinds == {kind}
    assert start < watch.opened(kind)[0] <= start + 3 * 13
    _, event = watch.events[-1]
    assert event["effects"][f"{histogram}_psi"] > 0.25
    assert 0.15 < event["effects"][f"{histogram}_moved"] <= 1.0
    assert f"{histogram}_delta" not in event["effects"]
    assert max(event["contributors"], key=event["contributors"].get) == histogram
    watch.run(service(3), 60)
    assert len(watch.resolved(kind)) == 1


@pytest.mark.parametrize("length", [5.0, 12.0])
def test_a_versions_inputs_are_compared_with_its_own_reference(length):
    """What version 1 was used to get is drift for version 2, which never got it."""
    watch = Watch().run(service(1), REFERENCE + 60)
    newer = KEY.model_copy(update={"version": "2"})
    watch.run(service(2, key=newer, length=30.0), REFERENCE + 60)
    assert watch.opened("input_drift") == []
    start = watch.number
    watch.run(service(3, key=newer, length=length), 60)
    (opened,) = watch.opened("input_drift")
    assert start < opened <= start + 3 * 13
    _, event = watch.events[-1]
    assert (event["kind"], event["series"]["version"]) == ("input_drift", "2")
    assert event["effects"]["token_bins_delta"] < -0.15


def test_languages_that_change_with_the_hour_and_nights_with_fewer_requests_are_no_drift():
    watch, one = Watch(window_seconds=60), service(1)
    for number in range(3 * 1_440):
        night = 0.5 - 0.5 * np.cos(2 * np.pi * number / 1_440)
        one.scripts = (0.0, 0.9 - 0.12 * night, 0.06 + 0.1 * night, 0.0, 0.04 + 0.02 * night)
        one.requests, one.lean = int(250 - 200 * night), 0.8 * night
        watch(one.window())
    assert watch.kinds == set()


def test_what_workers_of_before_did_not_tell_is_no_drift_when_they_begin_to():
    watch, one = Watch(), service(1)
    for _ in range(REFERENCE + 30):
        watch(one.window().model_copy(update={"script_bins": [], "direction_bins": [], "fertility_bins": []}))
    watch.run(one, 100)
    assert watch.changes == []


@pytest.mark.parametrize(
    "changed", [{"length": 13.0}, {"unknown": 0.025}, {"fertility": 0.21}, {"sure": (7.5, 3.0)}, {"norm": 5.1}]
)
def test_a_small_change_of_a_distribution_is_none(changed):
    watch = Watch().run(service(1), REFERENCE + 30).run(service(2, **changed), 300)
    assert watch.changes == []


def test_a_short_burst_of_other_inputs_is_no_drift():
    watch = Watch().run(service(1), REFERENCE + 30).run(service(2, length=40.0), 6).run(service(3), 60)
    assert watch.changes == []


def test_a_metric_whose_column_a_window_lacks_is_not_judged():
    window = SeriesWindow(NOBODY, 100, 100, {"error_share": 0.0}, {}, ())
    values = {one.name: one.value_of(window) for one in metrics_of(JobSettings())}
    assert {name for name, value in values.items() if value is not None} == {"error_share"}


def test_a_busy_series_of_which_everything_is_known_is_still_small():
    watch, one = Watch(window_seconds=60), service(1, requests=3_000, unknown=0.1)
    one.shares = {"timed_out": 0.003, "empty": 0.002, "repeated": 0.001}
    for number in range(260):
        one.memory = (20_000 + one.rng.normal(0, 300)) * MIB
        one.counts = {"out_of_memory": int(number % 97 == 0)}
        watch(one.window())
    (entry,) = watch.book.live.entries(0)
    numbers = dict(entry.numbers)
    assert len(entry.plain["detectors"]["memory_bytes_per_hour"][2]) == 23
    assert len(numbers.pop("counts")) <= 8 * 300
    assert len(numbers.pop("latency")) <= 384
    assert set(numbers) == set(entry.plain["scores"]) == {"total_ms_p95", "error_share", "requests_per_second"}
    assert all(len(one) <= 1_408 for one in numbers.values())
    assert len(json.dumps(entry.plain, separators=(",", ":"))) <= 1_536


@pytest.mark.parametrize(("changed", "found"), [({"length": 30.0}, True), ({"length": 12.0}, False)])
def test_river_sees_in_the_single_values_what_the_histograms_see(changed, found):
    """ADWIN and KSWIN on the lengths themselves, one request at a time."""
    rng, adwin, kswin = np.random.default_rng(4), ADWIN(delta=1e-6), KSWIN(alpha=1e-7, seed=1)
    seen = set()
    for length in (12.0, changed["length"]):
        for value in np.log(rng.lognormal(np.log(length), 0.5, 1_500)):
            for name, detector in (("adwin", adwin), ("kswin", kswin)):
                detector.update(float(value))
                if detector.drift_detected:
                    seen.add(name)
    assert seen == ({"adwin", "kswin"} if found else set())
    watch = Watch().run(service(4), REFERENCE + 30).run(service(5, **changed), 60)
    assert bool(watch.opened("input_drift")) is found


def test_a_partial_of_an_older_job_is_merged_with_a_newer_one_and_what_a_newest_adds_is_kept():
    newer = service(1).window()
    older = {name: value for name, value in newer.model_dump().items() if name in OLD_FIELDS}
    taken = PartialSeries.model_validate({**older, "from_the_future": 7})
    assert (taken.timed_out, taken.token_bins, taken.model_extra) == (0, [], {"from_the_future": 7})
    shares = {number: Share(0, 1, {"n": one}) for number, one in enumerate((taken, newer))}
    window = merged(WindowId("t", 0, 10_000), "n", shares, 0)
    assert window.requests == 2 * newer.answered
    assert window.histograms["token_bins"] == newer.token_bins


OLD_FIELDS = {
    *("key", "answered", "failed", "shed", "dead_lettered", "inputs", "tokens", "padded_tokens", "truncated"),
    *("unknown_share_sum", "row_score_sum", "row_score_max", "queue_depth_max", "memory_bytes_max"),
    *("total_ms", "queue_ms", "compute_ms"),
}
"""Those of `PartialSeries` 1.0."""
