"""Requests that move between versions: the move raises nothing, and a fall during and after it does."""

import json
from unittest.mock import patch

import pytest

from stream_jobs.detectors.forecast_residual import ForecastResidual, ResidualPolicy
from stream_jobs.moved_requests import VersionRate, move_usual
from stream_jobs.partial_events import target_of
from stream_jobs.settings import JobSettings
from stream_jobs.window_rows import RATE, name_of
from stream_jobs.window_stage import WindowStage
from tests.moved_versions import TOTAL, Versions, key_of

SEEDS = range(5)
WITHOUT = patch("stream_jobs.series_book.follow_moves", lambda *_: None)
"""Negative control: as if requests never moved."""


def shared(new):
    return {"1": 1.0 - new, "2": new}


def service(seed, shares, windows=80, **more):
    found = Versions(seed, **more)
    assert found.run(windows, shares) == []
    return found


def raised(seed, before, steps, windows):
    found = service(seed, shared(before))
    return found, [alert for new in steps for alert in found.run(windows, shared(new))]


MOVES = {
    "all at once, some stay": (0.0, (0.9,)),
    "step by step to the end": (0.0, (0.05, 0.25, 0.5, 0.9, 1.0)),
    "raised from little to most": (0.05, (0.95,)),
    "back from most": (0.9, (0.05, 0.0)),
    "back after a whole switch, step by step": (0.0, (1.0, 1.0, 0.9, 0.1, 0.0)),
    "to and fro": (0.5, (0.05, 0.95, 0.05, 0.95)),
}


@pytest.mark.parametrize("windows", [3, 40])
@pytest.mark.parametrize("move", MOVES)
def test_requests_that_move_between_versions_raise_nothing(move, windows):
    found = [raised(seed, *MOVES[move], windows) for seed in SEEDS]
    assert [alerts for _, alerts in found] == [[] for _ in SEEDS]
    assert not any(one.metrics[RATE].incident.is_open for versions, _ in found for one in versions.book.live.values())


@pytest.mark.parametrize("move", ["all at once, some stay", "raised from little to most", "to and fro"])
def test_they_would_if_what_is_usual_did_not_move_with_them(move):
    with WITHOUT:
        assert all(raised(seed, *MOVES[move], 12)[1] for seed in SEEDS)


@pytest.mark.parametrize("before", [0.0, 0.05])
@pytest.mark.parametrize("windows", [0, 1, 3, 8, 60])
def test_a_fall_of_all_versions_together_is_called_out_during_and_after_a_move(windows, before):
    for seed in SEEDS:
        versions = service(seed, shared(before))
        assert versions.run(windows, shared(0.9)) == []
        opened = versions.run(20, shared(0.9), total=0.05 * TOTAL)
        assert min(at for at, _ in opened) == 3, "as soon as that of one version: four windows in a row"
        assert len({version for _, version in opened}) == len(opened), "once a version"
        versions.run(4, shared(0.9))
        assert [status for *_, status in versions.alerts].count("resolved") == len(opened)


def test_it_would_be_missed_of_a_young_version_if_what_is_usual_did_not_move_with_the_requests():
    with WITHOUT:
        versions = service(1, shared(0.05))
        versions.run(8, shared(0.9))
        assert versions.run(20, shared(0.9), total=0.05 * TOTAL) == []


@pytest.mark.parametrize("share", [0.85, 0.5, 0.3, 0.15])
def test_a_version_that_dies_is_called_out_if_no_other_has_its_requests(share):
    for seed in SEEDS:
        versions = service(seed, {"1": share, "2": 1.0 - share}, noise=0.03)
        assert versions.run(8, {"2": 1.0 - share}) == [(3, "1")]
        assert not versions.book.series(name_of(key_of("1"))).at_rest


@pytest.mark.parametrize("share", [0.85, 0.5, 0.3])
def test_one_that_falls_silent_because_another_has_its_requests_is_at_rest(share):
    versions = service(2, {"1": share, "2": 1.0 - share})
    assert versions.run(4, {"2": 1.0}) == []
    assert versions.book.series(name_of(key_of("1"))).at_rest


def test_each_version_is_expected_its_new_share_at_once_and_a_later_fall_of_one_is_called_out():
    versions = service(3, shared(0.05))
    versions.run(2, shared(0.7))
    assert versions.expected("1") == pytest.approx(30.0, rel=0.25)
    assert versions.expected("2") == pytest.approx(70.0, rel=0.25)
    assert versions.run(200, shared(0.7)) == []
    assert versions.expected("1") == pytest.approx(30.0, rel=0.1)
    assert versions.run(8, {"1": 0.01, "2": 0.7}) == [(3, "1")]


def test_a_fall_soon_after_a_move_is_not_hidden_by_how_unusual_the_move_was():
    """A detector that has learnt long must agree that a fall is unusual, and a move is more so than any fall after."""
    versions = service(8, shared(0.0), windows=400)
    assert versions.run(20, shared(0.8)) == []
    assert versions.run(8, {"1": 0.008, "2": 0.8}) == [(3, "1")]


def test_an_incident_is_over_when_another_version_takes_over():
    versions = service(4, {"1": 1.0})
    assert versions.run(6, {"1": 0.05}) == [(3, "1")]
    assert versions.run(6, {"1": 0.05, "2": 0.95}) == []
    assert [status for *_, status in versions.alerts] == ["open", "resolved"]


def test_a_window_that_is_not_complete_moves_nothing():
    versions = service(5, shared(0.5))
    before = versions.expected("1")
    versions.run(1, shared(0.9), complete=False)
    assert versions.expected("1") == before


def test_a_restart_in_the_middle_of_a_move_changes_nothing():
    whole, restarted = (Versions(6) for _ in range(2))
    for new in (0.0, 0.05, 0.6, 1.0, 0.2):
        for _ in range(12):
            assert whole.run(2, shared(new)) == restarted.run(2, shared(new))
            restarted.restart()
    assert whole.rows == restarted.rows


def test_other_metrics_and_other_models_see_nothing_of_it():
    def of_others(versions):
        return [[row for row in zip(*one.values(), strict=True) if RATE not in row] for one in versions.rows]

    moved, _ = raised(7, 0.05, (0.5, 0.95), 12)
    with WITHOUT:
        control, _ = raised(7, 0.05, (0.5, 0.95), 12)
    assert of_others(moved) == of_others(control)
    assert moved.rows != control.rows


POLICY = ResidualPolicy(direction=-1, deviation_min=5.0, deviation_share_min=0.8, unit_min=1.0)


def rate_of(now, usual=None, rested=False):
    trigger = ForecastResidual(POLICY)
    for number in range(30 if usual else 0):
        trigger.learn(usual, 1_000 + number * 10_000)
    return VersionRate(now, trigger, rested)


@pytest.mark.parametrize(
    ("versions", "moved"),
    [
        ([rate_of(10.0, 100.0), rate_of(90.0)], True),
        ([rate_of(50.0, 90.0), rate_of(50.0, 10.0)], True),
        ([rate_of(10.0, 100.0), rate_of(60.0)], True),  # four tenths are missing at both
        ([rate_of(10.0, 100.0), rate_of(40.0)], False),  # most is gone
        ([rate_of(0.0, 60.0), rate_of(40.0, 40.0)], False),  # what another always answered is no answer for it
        ([rate_of(1.0, 9.0), rate_of(98.0, 91.0)], True),  # little, but out of the band and found
        ([rate_of(1.0, 9.0), rate_of(94.0, 91.0)], False),
        ([rate_of(90.0, 95.0), rate_of(10.0, 5.0)], False),  # in the band: noise, or learnt as it comes
        ([rate_of(1.0, 5.0), rate_of(5.0, 1.0)], False),  # so few that they alert nobody: noise, each other window
        ([rate_of(10.0, 100.0), rate_of(90.0, 100.0, rested=True)], True),
        ([rate_of(100.0, 100.0), rate_of(5.0)], False),
        ([rate_of(0.0, 100.0), rate_of(0.0, 10.0)], False),
    ],
)
def test_when_requests_have_moved(versions, moved):
    before = [one.usual for one in versions]
    rates = [one.rate for one in versions]
    assert move_usual(versions) is moved
    after = [one.trigger.usual for one in versions]
    if moved:
        assert after == pytest.approx([sum(before) * rate / sum(rates) for rate in rates])
    else:
        assert after == before


def test_of_a_version_that_comes_back_among_others_only_what_it_gets_is_expected():
    versions = [rate_of(92.0, 100.0), rate_of(8.0, 100.0, rested=True)]
    assert not move_usual(versions)
    assert [one.trigger.usual for one in versions] == [pytest.approx(100.0), 8.0]


def test_a_level_that_was_moved_is_judged_at_once_and_exact_through_json():
    trigger = ForecastResidual(POLICY)
    trigger.learn(3.0, 10_000)
    trigger.move(90.0)
    again = ForecastResidual(POLICY)
    again.restore(json.loads(json.dumps(trigger.state())))
    judged = again.judge(10.0, 20_000)
    assert judged == trigger.judge(10.0, 20_000)
    assert judged.anomalous
    assert judged.expected == 90.0


def test_all_versions_of_a_model_have_one_owner_and_models_are_spread():
    owners = {
        model: {target_of(key_of(version, model), 6) for version in ("1", "2", "10", "2024-05-01")}
        for model in map(str, range(40))
    }
    assert all(len(found) == 1 for found in owners.values())
    assert {owner for found in owners.values() for owner in found} == set(range(6))


def test_a_series_that_lies_elsewhere_by_now_is_at_rest_and_no_fault():
    """The state of a release that placed series otherwise is read, and what is owned by it still goes on."""
    versions = Versions(9)
    versions.run(40, shared(0.5))
    versions.run(6, {"2": 0.5})
    assert [status for *_, status in versions.alerts] == ["open"]
    versions.owns = lambda key: key.version == "3"
    versions.restart()
    assert versions.run(3, {"2": 0.5, "3": 0.5}) == []
    assert versions.run(8, {"3": 0.5}) == []
    assert [(version, status) for _, version, status in versions.alerts] == [("1", "open"), ("1", "resolved")]
    assert [versions.book.series(name_of(key_of(one))).at_rest for one in "123"] == [True, True, False]


def test_a_stage_knows_which_series_it_owns():
    key = key_of("1")
    owner = target_of(key, 6)
    owns = [
        WindowStage(JobSettings(), partition=one, source_topic_id="t", source_partitions=1, partitions=6)._book.owns(
            key
        )
        for one in range(6)
    ]
    assert [number for number, one in enumerate(owns) if one] == [owner]
    assert WindowStage(JobSettings(), partition=0, source_topic_id="t", source_partitions=1)._book.owns(key)
