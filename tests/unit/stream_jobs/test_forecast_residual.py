import json
import math

import pytest

from stream_jobs.detectors.forecast_residual import BAND_SCORE, ForecastResidual, ResidualPolicy

POLICY = ResidualPolicy(direction=1, deviation_min=50.0, deviation_share_min=0.5, unit_min=10.0)
STEP_MS = 10_000


def fed(values, policy=POLICY, start=1):
    detector = ForecastResidual(policy)
    for number, value in enumerate(values, start):
        detector.learn_one({"value": value, "time_ms": number * STEP_MS})
    return detector, (start + len(values)) * STEP_MS


def test_it_only_watches_first_and_a_cold_start_does_not_spoil_the_level():
    detector = ForecastResidual(POLICY)
    for number, value in enumerate([9_000.0, 4_000.0, 3_000.0, 100.0, 105.0, 95.0], 1):
        judged = detector.judge(value, number * STEP_MS)
        assert judged.learning
        assert judged.confidence == 0.0
        assert detector.score_one({"value": value, "time_ms": number * STEP_MS}) == 0.0
        detector.learn_one({"value": value, "time_ms": number * STEP_MS})
    judged = detector.judge(100.0, 7 * STEP_MS)
    assert not judged.learning
    assert judged.expected == 105.0


def test_the_score_rises_with_the_deviation_and_is_half_at_the_bands_end():
    detector, now = fed([100.0, 102.0, 98.0, 101.0, 99.0, 100.0, 100.0, 101.0])
    judged = detector.judge(100.0, now)
    scores = [detector.score_one({"value": v, "time_ms": now}) for v in (0.0, 100.0, 120.0, 200.0, 400.0, 1e15)]
    assert scores == sorted(scores)
    assert scores[0] == 0.0  # faster than usual is no anomaly
    assert scores[-1] <= 1.0
    assert detector.score_one({"value": judged.upper, "time_ms": now}) == pytest.approx(BAND_SCORE)
    assert judged.lower <= judged.expected <= judged.upper


def test_confidence_rises_with_the_windows_learnt():
    few, now = fed([100.0] * 6)
    many, later = fed([100.0] * 60)
    assert 0.0 < few.judge(100.0, now).confidence < many.judge(100.0, later).confidence < 1.0


@pytest.mark.parametrize("bad", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_not_judged_and_not_learnt(bad):
    detector, now = fed([100.0] * 8)
    before = detector.state()
    assert detector.judge(bad, now) is None
    assert detector.score_one({"value": bad, "time_ms": now}) == 0.0
    detector.learn_one({"value": bad, "time_ms": now})
    detector.learn_one({"time_ms": now})
    assert detector.state() == before


def test_a_huge_value_ruins_nothing():
    detector, _ = fed([100.0, 1e308, 100.0, 101.0, 99.0, 100.0, 1e308, 100.0, 101.0, 99.0])
    assert all(math.isfinite(n) for n in detector.state().values() if isinstance(n, float))
    assert 90.0 < detector.judge(100.0, 11 * STEP_MS).expected < 110.0


def test_a_fault_is_not_learnt_however_long_a_drill_lasts():
    detector, now = fed([100.0] * 30 + [900.0] * 60)
    judged = detector.judge(900.0, now)
    assert judged.anomalous
    assert judged.expected == pytest.approx(100.0)


def test_a_lasting_shift_becomes_normal():
    detector, now = fed([100.0] * 30 + [900.0] * 182)
    judged = detector.judge(900.0, now)
    assert not judged.anomalous
    assert judged.expected == pytest.approx(900.0)


def test_the_level_follows_what_moves_slowly():
    detector, now = fed([100.0 + n / 2 for n in range(400)])
    judged = detector.judge(300.0, now)
    assert not judged.anomalous
    assert judged.expected > 250.0


def test_after_a_gap_a_slow_start_is_no_alarm_and_not_learnt():
    detector, now = fed([100.0] * 20)
    later = now + 3_600_000
    for number, value in enumerate([5_000.0, 900.0, 100.0]):
        assert not detector.judge(value, later + number * STEP_MS).anomalous
        detector.learn(value, later + number * STEP_MS)
    judged = detector.judge(900.0, later + 3 * STEP_MS)
    assert judged.anomalous
    assert judged.expected == pytest.approx(100.0)


def test_a_fault_does_not_become_normal_because_nobody_looked_for_long():
    detector, now = fed([100.0] * 30 + [900.0] * 3)
    later = now + 2 * 3_600_000
    for number in range(8):
        detector.learn(900.0, later + number * STEP_MS)
    judged = detector.judge(900.0, later + 8 * STEP_MS)
    assert judged.anomalous
    assert judged.expected == pytest.approx(100.0)
    for number in range(8, 185):  # seen for 30 minutes in all, it does
        detector.learn(900.0, later + number * STEP_MS)
    assert detector.judge(900.0, later + 185 * STEP_MS).expected == pytest.approx(900.0)


def test_one_value_after_a_long_gap_weighs_no_more_than_others():
    detector, now = fed([100.0, 102.0, 98.0, 110.0, 90.0] * 8)
    before = detector.judge(100.0, now)
    later = now + 3 * 86_400_000
    detector.learn(125.0, later)
    after = detector.judge(100.0, later + STEP_MS)
    assert after.expected < 105.0
    assert after.upper > 0.9 * before.upper


def test_a_fall_is_what_matters_with_the_other_direction():
    policy = ResidualPolicy(direction=-1, deviation_min=5.0, deviation_share_min=0.8, unit_min=1.0)
    detector, now = fed([100.0] * 20, policy)
    assert detector.judge(5.0, now).anomalous
    assert not detector.judge(1_000.0, now).anomalous


def test_a_time_is_learnt_once():
    detector, now = fed([100.0] * 10)
    before = detector.state()
    detector.learn(500.0, now - STEP_MS)
    assert detector.state() == before


@pytest.mark.parametrize("count", [0, 3, 6, 17, 18, 40])
def test_the_state_round_trips_through_json_to_the_bit(count):
    values = [100.0 + 17.3 * math.sin(n) for n in range(count)] + [900.0] * 3
    one, now = fed(values)
    other = ForecastResidual(POLICY)
    other.restore(json.loads(json.dumps(one.state())))
    for number in range(20):
        value = 100.0 + 31.7 * math.cos(number)
        assert one.judge(value, now + number * STEP_MS) == other.judge(value, now + number * STEP_MS)
        one.learn(value, now + number * STEP_MS)
        other.learn(value, now + number * STEP_MS)
    assert one.state() == other.state()


@pytest.mark.parametrize(
    "broken",
    [None, {}, {"first": 3}, {"first": [1.0], "level": "x"}, {"first": [], "count": 1.5}, {"first": [], "q": 1}],
)
def test_a_broken_state_is_refused(broken):
    with pytest.raises(ValueError, match="forecast residual"):
        ForecastResidual(POLICY).restore(broken)


def test_the_digest_names_the_configuration():
    assert POLICY.digest() == ResidualPolicy(1, 50.0, 0.5, 10.0).digest()
    assert POLICY.digest() != ResidualPolicy(1, 51.0, 0.5, 10.0).digest()
