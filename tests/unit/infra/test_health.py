"""Ready means: has answered lately, or owes nothing. Never: the port is open."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.health import Code, HealthPolicy, Phase, Readiness, Together
from infra.settings import HealthSettings, SettingsError, load

POLICY = HealthPolicy(stalled_seconds=30, turn_seconds=60, hung_seconds=300)


def serving(now=0.0):
    readiness = Readiness(POLICY, now)
    readiness.loaded()
    readiness.joined(now)
    return readiness


def test_nothing_is_ready_before_the_model_is_checked_and_the_group_joined():
    readiness = Readiness(POLICY, 0.0)
    assert readiness.ready(0.0).code is Code.STARTING
    readiness.starting("loading the model")
    assert readiness.ready(500.0).words == "not serving yet: loading the model"
    assert readiness.live(5_000.0).good  # loading may take long
    readiness.loaded()
    assert (readiness.ready(501.0).good, readiness.ready(501.0).code) == (False, Code.JOINING)
    readiness.joined(502.0)
    assert (readiness.ready(502.0).good, readiness.ready(502.0).code) == (True, Code.IDLE)


def test_who_is_out_of_the_group_is_not_ready_until_it_has_joined_again():
    readiness = serving()
    readiness.left()
    readiness.turn(70.0)
    assert (readiness.ready(70.0).good, readiness.ready(70.0).code) == (False, Code.JOINING)
    assert readiness.live(70.0).good
    assert not readiness.live(131.0).good, "a loop that is stuck is stuck all the same"
    readiness.published(3, 0, 100.0)
    readiness.turn(131.0)
    assert readiness.ready(131.0).code is Code.UNDELIVERED, "Kafka is away: that is the cause"
    readiness.published(0, 3, 131.0)
    readiness.joined(131.0)
    assert readiness.ready(131.0).good
    readiness.stopping()
    readiness.left()
    assert readiness.ready(131.0).code is Code.STOPPING


def test_a_process_of_parts_is_as_well_as_the_worst_of_them():
    one, two = serving(), serving()
    together = Together({"one": one, "two": two})
    assert together.ready(1.0) == one.ready(1.0)
    assert together.live(1.0) == one.live(1.0)
    two.broken("no room")
    verdict = together.ready(1.0)
    assert (verdict.good, verdict.code, verdict.words) == (False, Code.BROKEN, "two: no room")
    assert together.live(1.0).good
    one.turn(70.0)
    assert (together.live(75.0).code, together.live(75.0).good) == (Code.LOOP_STUCK, False)
    assert together.live(75.0).words.startswith("two: ")


def test_it_is_not_ready_while_it_stops():
    readiness = serving()
    readiness.owed(3, 1.0, 1.0)
    readiness.stopping()
    readiness.joined(1.0)  # a rebalance on the way out makes it no server again
    verdict = readiness.ready(1.0)
    assert (verdict.good, verdict.code) == (False, Code.STOPPING)
    assert "3 requests" in verdict.words
    assert readiness.live(1.0).good


def test_a_broken_worker_says_why_until_it_is_whole():
    readiness = serving()
    readiness.broken("the golden samples of all-MiniLM-L6-v2 differ")
    assert readiness.ready(0.0).words == "the golden samples of all-MiniLM-L6-v2 differ"
    readiness.broken(None)
    assert readiness.ready(0.0).good


def turn(readiness, now, owed=0, oldest=None, undelivered=0, delivered=0):
    readiness.turn(now)
    readiness.owed(owed, oldest, now)
    readiness.published(undelivered, delivered, now)


def test_a_model_that_hangs_makes_the_worker_not_ready_although_the_loop_turns():
    readiness = serving()
    for second in range(1, 400):
        turn(readiness, float(second), owed=0 if second < 100 else 7, oldest=max(0.0, second - 100.0))
        verdict = readiness.ready(float(second))
        assert verdict.good == (second <= 130), second
    assert verdict.code is Code.STALLED
    assert verdict.words == "owes 7 requests, the oldest for 299 s, and the model has answered none for 299 s"
    # Much later a new process is the only thing that helps: its partitions go to another.
    assert readiness.live(400.0).good
    assert not readiness.live(401.0).good
    readiness.answered(402.0)
    assert readiness.ready(402.0).good
    assert readiness.live(402.0).good


def test_a_request_after_a_quiet_hour_has_not_waited_for_an_hour():
    readiness = serving()
    readiness.answered(1.0)
    turn(readiness, 3_600.0)
    turn(readiness, 3_601.0, owed=1, oldest=0.0)
    assert readiness.ready(3_601.0).good


def test_a_slow_worker_with_a_long_queue_is_ready_while_it_answers():
    readiness = serving()
    for second in range(0, 2_000, 20):
        turn(readiness, float(second), owed=2_000, oldest=900.0)
        readiness.answered(float(second))
        assert readiness.ready(second + 19.0).good


def test_answers_that_do_not_reach_kafka_make_it_not_ready_and_are_named_as_the_cause():
    readiness = serving()
    turn(readiness, 0.0, owed=1, undelivered=5, delivered=10)
    for second in range(1, 1_000):
        turn(readiness, float(second), owed=1, oldest=float(second), undelivered=5, delivered=10)
    verdict = readiness.ready(999.0)
    assert (verdict.good, verdict.code) == (False, Code.UNDELIVERED)
    assert "5 records" in verdict.words
    assert readiness.live(999.0).good  # a restart brings no broker back
    turn(readiness, 1_000.0, owed=1, undelivered=4, delivered=11)
    readiness.answered(1_000.0)
    assert readiness.ready(1_000.0).good


def test_a_loop_that_does_not_turn_is_neither_ready_nor_alive():
    readiness = serving()
    turn(readiness, 10.0)
    assert readiness.ready(40.0).good
    assert readiness.ready(41.0).code is Code.LOOP_STUCK
    assert readiness.live(70.0).good
    verdict = readiness.live(71.0)
    assert (verdict.good, verdict.words) == (False, "the loop has not come round for 61 s")


@given(
    st.lists(
        st.tuples(st.sampled_from(["owe", "free", "answer", "wait"]), st.floats(0.01, 40.0)), min_size=1, max_size=40
    )
)
def test_ready_is_exactly_answered_lately_or_owes_nothing(steps):
    readiness, now, owed, quiet_since = serving(), 0.0, 0, 0.0
    for what, seconds in steps:
        now += seconds
        if what == "owe":
            quiet_since = quiet_since if owed else now
            owed += 1
        elif what == "free":
            owed = 0
        elif what == "answer":
            quiet_since = now
        turn(readiness, now, owed=owed)
        if what == "answer":
            readiness.answered(now)
        assert readiness.ready(now).good == (owed == 0 or now - quiet_since <= 30.0)


def test_phases_are_a_closed_list():
    assert [one.value for one in Phase] == ["starting", "loaded", "serving", "stopping"]


def test_settings_that_contradict_are_refused():
    assert load(HealthSettings).policy == POLICY
    with pytest.raises(SettingsError, match="INFERWATCH_HEALTH_HUNG_SECONDS"):
        load(HealthSettings, hung_seconds=10, stalled_seconds=20)
