import pytest

from infra.up.supervision import ChildHistory, GiveUp, Restart, RestartPolicy, described

POLICY = RestartPolicy(first_seconds=0.5, longest_seconds=4.0, healthy_after_seconds=20.0)


def waits(history: ChildHistory, now: float, ends: int, ran: float) -> list[float]:
    found = []
    for _ in range(ends):
        history.started(now)
        decision = history.ended(now + ran, 70)
        assert isinstance(decision, Restart)
        found.append(decision.at - now - ran)
        now = decision.at
    return found


def test_waits_double_up_to_the_longest():
    assert waits(ChildHistory("worker", POLICY), 100.0, 6, ran=1.0) == [0.5, 1.0, 2.0, 4.0, 4.0, 4.0]


def test_a_child_that_ran_long_is_as_new():
    history = ChildHistory("worker", POLICY)
    assert waits(history, 0.0, 3, ran=1.0) == [0.5, 1.0, 2.0]
    assert waits(history, 100.0, 2, ran=60.0) == [0.5, 0.5]


def test_restarts_are_counted_from_the_second_start():
    history = ChildHistory("worker", POLICY)
    history.started(0.0)
    assert history.restarts == 0
    history.ended(1.0, -9)
    history.started(2.0)
    assert history.restarts == 1


@pytest.mark.parametrize("status", [78, 2])
def test_what_cannot_work_is_not_started_again(status):
    history = ChildHistory("worker", POLICY)
    history.started(0.0)
    decision = history.ended(0.4, status)
    assert isinstance(decision, GiveUp)
    assert str(status) in decision.say


def test_a_status_is_said_in_words():
    assert described(-9) == "killed by signal 9"
    assert described(75) == "exit code 75, try again"
    assert described(3) == "exit code 3"


def test_many_ends_do_not_overflow():
    assert RestartPolicy().wait_seconds(10_000) == 30.0
