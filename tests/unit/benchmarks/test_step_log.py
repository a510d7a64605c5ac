import pytest

from benchmarks.log_span import Answer
from benchmarks.step_log import StepLog


def step(requests, answers, order=("requests", "answers")):
    log = StepLog()
    for what in order:
        if what == "requests":
            for offset, appended in enumerate(requests):
                log.note_request((0, offset), offset, appended)
        else:
            for offset, appended in answers:
                log.note_answer(Answer(0, offset, appended, "answered"))
    return log


@pytest.mark.parametrize("order", [("requests", "answers"), ("answers", "requests")])
def test_requests_and_answers_meet_in_either_order(order):
    log = step([0, 10, 20], [(0, 5), (1, 18), (2, 29)], order)
    assert log.owed == 0
    found = log.measure(0)
    assert (found.p50_ms, found.max_ms, found.unanswered, found.sent) == (8.0, 9.0, 0, 3)
    assert found.outcomes == {"answered": 3, "failed": 0, "shed": 0}


def test_rates_are_of_the_log_s_own_time():
    log = step(range(0, 1_000, 10), [(offset, offset * 10 + 4) for offset in range(100)])
    found = log.measure(0)
    assert found.window_ms == (0, 990)
    assert found.sent_per_second == pytest.approx(100.0)
    assert found.throughput_per_second == pytest.approx(100.0, rel=0.02)
    assert found.kept_up_share == pytest.approx(1.0)
    assert found.owed_at_end == 1


def test_one_that_falls_behind_shows_what_it_can_do():
    log = step(range(0, 1_000, 10), [(offset, offset * 20 + 20) for offset in range(100)])
    found = log.measure(0)
    assert found.kept_up_share == pytest.approx(0.5, abs=0.02)
    assert found.throughput_per_second == pytest.approx(50.0)
    assert found.owed_at_end == 51


def test_the_warm_up_is_not_measured_but_owed():
    log = step([0, 10, 20, 30], [(0, 500), (1, 501), (2, 25), (3, 36)])
    found = log.measure(2)
    assert (found.sent, found.max_ms, found.owed_at_end) == (2, 6.0, 3)


def test_what_is_not_answered_counts_with_the_time_it_has_waited():
    found = step([0, 10, 20], [(2, 120)]).measure(0)
    assert found.unanswered == 2
    assert found.max_ms == 120.0
    assert found.outcomes["answered"] == 1


def test_only_the_first_answer_counts_and_other_people_s_do_not():
    log = step([0, 10], [(0, 5), (0, 90), (1, 15), (77, 1)])
    assert log.owed == 0
    assert log.measure(0).max_ms == 5.0


def test_too_few_to_measure_is_said():
    with pytest.raises(ValueError, match="1 requests were measured"):
        step([0, 10], []).measure(1)
