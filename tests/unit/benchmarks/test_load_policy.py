from dataclasses import replace

import pytest

from benchmarks.load_policy import LoadPolicy, LoadStep, Verdict, judge, next_rate, saturation
from benchmarks.step_log import StepMeasure

GOOD = StepMeasure(
    window_ms=(0, 1_000),
    sent=100,
    sent_per_second=100.0,
    kept_up_share=1.0,
    throughput_per_second=100.0,
    outcomes={"answered": 100, "failed": 0, "shed": 0},
    unanswered=0,
    p50_ms=10.0,
    p95_ms=20.0,
    p99_ms=40.0,
    max_ms=50.0,
    owed_at_end=1,
)
POLICY = LoadPolicy(100.0, 1_600.0, 5, refinements=2)


def step(rate, verdict=Verdict.SUSTAINED, throughput=None):
    measure = replace(GOOD, throughput_per_second=throughput or rate, sent_per_second=rate)
    return LoadStep(rate, measure, 0.0, 0, False, verdict)


def verdict_of(measure, calmest=GOOD.p99_ms, **facts):
    return judge(measure, calmest, **({"late_seconds_max": 0.0, "refused": 0, "cut_short": False} | facts))


def test_a_step_that_keeps_up_is_sustained():
    assert verdict_of(GOOD) is Verdict.SUSTAINED
    assert verdict_of(GOOD, None) is Verdict.SUSTAINED


def test_a_step_that_owes_more_and_more_falls_behind():
    assert verdict_of(replace(GOOD, kept_up_share=0.9, owed_at_end=10)) is Verdict.FALLS_BEHIND
    assert verdict_of(replace(GOOD, kept_up_share=0.9, owed_at_end=2)) is Verdict.SUSTAINED
    assert verdict_of(GOOD, cut_short=True) is Verdict.FALLS_BEHIND


def test_p99_explodes_above_ten_times_the_calmest_and_what_is_noticed():
    assert verdict_of(replace(GOOD, p99_ms=401.0)) is Verdict.TOO_SLOW
    assert verdict_of(replace(GOOD, p99_ms=399.0)) is Verdict.SUSTAINED
    assert verdict_of(replace(GOOD, p99_ms=200.0), 2.0) is Verdict.SUSTAINED
    assert verdict_of(replace(GOOD, unanswered=1)) is Verdict.TOO_SLOW


def test_failures_are_no_service_however_fast_they_come():
    failing = replace(GOOD, outcomes={"answered": 98, "failed": 1, "shed": 1})
    assert verdict_of(failing) is Verdict.NOT_ANSWERED
    assert verdict_of(replace(GOOD, outcomes={"answered": 99, "failed": 1, "shed": 0})) is Verdict.SUSTAINED
    found = saturation([step(100.0), LoadStep(200.0, failing, 0.0, 0, False, Verdict.NOT_ANSWERED)])
    assert (found.sustained_per_second, found.saturates_at_per_second) == (100.0, 200.0)
    assert "1 failed and 1 shed of 100" in found.reason


def test_a_sender_that_is_late_is_not_the_server_s_fault():
    assert verdict_of(GOOD, late_seconds_max=1.5) is Verdict.SENDER_LIMITED
    assert verdict_of(GOOD, refused=3) is Verdict.SENDER_LIMITED
    assert not Verdict.SENDER_LIMITED.saturated


def test_rates_rise_to_the_most_and_no_further():
    done, rates = [], []
    while (rate := next_rate(POLICY, done)) is not None:
        rates.append(rate)
        done.append(step(rate))
    assert rates == pytest.approx([100, 200, 400, 800, 1_600])
    found = saturation(done)
    assert (found.sustained_per_second, found.saturates_at_per_second) == (pytest.approx(1_600), None)
    assert "it held" in found.reason


def test_a_single_step_is_the_lowest_rate():
    policy = LoadPolicy(50.0, 500.0, 1)
    assert next_rate(policy, []) == 50.0
    assert next_rate(policy, [step(50.0)]) is None


@pytest.mark.parametrize("limit", [150.0, 500.0, 790.0, 1_500.0])
def test_after_the_first_that_saturates_the_limit_is_looked_at_more_closely(limit):
    done = []
    while (rate := next_rate(POLICY, done)) is not None:
        done.append(step(rate, Verdict.SUSTAINED if rate <= limit else Verdict.FALLS_BEHIND, min(rate, limit)))
    found = saturation(done)
    assert found.sustained_per_second <= limit < found.saturates_at_per_second
    assert found.saturates_at_per_second / found.sustained_per_second == pytest.approx(2 ** (1 / 4))
    assert found.capacity_per_second == limit
    assert max(one.offered_per_second for one in done) <= POLICY.rate_max


def test_when_the_lowest_rate_is_too_much_it_ends():
    done = [step(100.0, Verdict.FALLS_BEHIND, 30.0)]
    assert next_rate(POLICY, done) is None
    found = saturation(done)
    assert (found.sustained_per_second, found.saturates_at_per_second) == (None, 100.0)


def test_when_the_sender_cannot_send_more_it_ends_and_says_so():
    done = [step(100.0), step(200.0, Verdict.SENDER_LIMITED)]
    assert next_rate(POLICY, done) is None
    assert "this sender" in saturation(done).reason


def test_nothing_measured_is_said():
    assert saturation([]).reason == "nothing was measured"
    assert (
        "p99 5000 ms"
        in saturation([step(1.0), replace(step(2.0, Verdict.TOO_SLOW), measure=replace(GOOD, p99_ms=5_000.0))]).reason
    )
