from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.up.commit_lag import CommitLag
from infra.up.lag_alert import LagAlert, LagPolicy
from infra.up.watchdog import Health, Seen, State, Watchdog, WatchdogPolicy
from schemas.alerts import AlertStatus
from schemas.anomalies import AnomalyKind, ScoreKind, anomaly_row
from schemas.tables import ANOMALIES

POLICY = WatchdogPolicy(stalled_looks=5, silent_looks=3, dead_looks=2)
WELL = Health(is_live=True)
BEHIND = Seen({("t", 0): 7}, 10, 30.0, True, False, WELL)
"""Work is there, and the commit stands where it stood."""


def states(*seen):
    dog = Watchdog(POLICY)
    return [dog.look(one).state for one in seen]


def test_behind_with_nothing_committed_ends_it_after_so_many_looks():
    dog = Watchdog(POLICY)
    said = [dog.look(BEHIND) for _ in range(6)]
    # The first look only says where it stands.
    assert [one.state for one in said] == [State.WORKING, *[State.SUSPECT] * 4, State.RESTART]
    assert said[-1].words == "10 records wait and it has committed nothing, in 5 looks in which Kafka answered"


def test_a_process_that_is_not_in_the_group_is_ended_although_others_commit():
    out = [replace(BEHIND, committed={("t", 0): number}, is_member=False) for number in range(5)]
    assert states(*out)[-1] is State.RESTART


def test_a_health_port_that_falls_silent_ends_it_sooner_but_one_that_never_answered_does_not():
    silent = replace(BEHIND, behind=0, health=None)
    assert states(replace(BEHIND, behind=0), *[silent] * 3)[-1] is State.RESTART
    assert set(states(*[silent] * 30)) == {State.IDLE}


def test_a_process_that_says_it_does_not_live_is_ended():
    dead = replace(BEHIND, behind=0, health=Health(False, "the loop has not come round for 61 s"))
    said = states(dead, dead)
    assert said[-1] is State.RESTART


@pytest.mark.parametrize(
    "seen",
    [
        [replace(BEHIND, behind=0)] * 40,  # idle
        [replace(BEHIND, committed={("t", 0): number}) for number in range(40)],  # slow, but it works
        [replace(BEHIND, health=Health(True, "", "clickhouse"))] * 40,  # ClickHouse is away: it only lags
        [None] * 40,  # Kafka is away
        [BEHIND, None] * 40,  # Kafka comes and goes
        [replace(BEHIND, is_member=False, is_rebalancing=True, behind=0)] * 40,  # the group is being dealt anew
        ([BEHIND] * 5 + [replace(BEHIND, committed={("t", 0): 8}, behind=0)]) * 3,
    ],
)
def test_any_other_process_goes_on(seen):
    assert State.RESTART not in states(*seen)


def test_waiting_for_kafka_is_no_excuse_while_kafka_answers():
    assert states(*[replace(BEHIND, health=Health(True, "", "kafka"))] * 6)[-1] is State.RESTART


def test_a_new_process_begins_with_nothing_against_it():
    dog = Watchdog(POLICY)
    for _ in range(5):
        dog.look(BEHIND)
    dog.started()
    assert [dog.look(replace(BEHIND, health=None)).state for _ in range(5)][-1] is State.SUSPECT


ends = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=60)


@given(ends)
def test_lag_is_the_age_of_the_oldest_record_seen_and_not_committed(steps):
    """Against a model that remembers when every single record was first seen."""
    lag, seen_at, end, done = CommitLag(), {}, 0, 0
    for now, (more, commits) in enumerate(steps):
        seen_at |= dict.fromkeys(range(end, end + more), now)
        end, done = end + more, min(end + more, done + commits)
        behind, age = lag.look({("t", 0): done}, {("t", 0): (0, end)}, float(now))
        assert behind == end - done
        assert age == (now - seen_at[done] if done < end else 0)


def test_what_retention_removed_does_not_wait_any_more():
    lag = CommitLag()
    assert lag.look({}, {("t", 0): (0, 10)}, 0.0) == (10, 0.0)
    assert lag.look({}, {("t", 0): (10, 10)}, 60.0) == (0, 0.0)
    assert lag.look({}, {("t", 0): (10, 12)}, 70.0) == (2, 0.0)
    assert lag.look({}, {("t", 0): (0, 1)}, 80.0) == (1, 0.0)  # made anew


def test_samples_are_bounded_and_the_age_stays_right():
    lag = CommitLag(samples_max=10)
    for now in range(1_000):
        behind, age = lag.look({}, {("t", 0): (0, now + 1)}, float(now))
    assert (behind, age) == (1_000, 999.0)
    assert len(lag._ends["t", 0]) <= 11


def test_the_pipeline_alerts_when_it_falls_behind_and_when_it_has_caught_up():
    alert = LagAlert(LagPolicy(60.0, 2), "jobs")
    assert alert.look(5, 12.0, "", False, 1_000_000) is None
    assert alert.look(500, 61.0, "waits for clickhouse", False, 1_010_000) is None
    told = alert.look(600, 71.0, "waits for clickhouse", False, 1_020_000)
    opened = told.change
    assert (opened.status, opened.kind, opened.sequence) == (AlertStatus.OPEN, AnomalyKind.LAG, 0)
    assert opened.onset_ms == 1_010_000 - 61_000
    assert opened.summary == ("Consumer group jobs is 600 records behind, the oldest for 71 s: waits for clickhouse.")
    assert opened.series.scenario == "(pipeline)"
    assert alert.look(700, 90.0, "", False, 1_040_000) is None  # not twice as bad
    updated = alert.look(900, 150.0, "", False, 1_050_000)
    assert updated.change.status is AlertStatus.UPDATED
    assert updated.anomaly.anomaly_id == updated.change.anomaly_id != told.anomaly.anomaly_id
    assert alert.look(10, 20.0, "", False, 1_060_000) is None
    last = alert.look(0, 0.0, "", False, 1_070_000)
    over = last.change
    assert (last.anomaly, over.anomaly_id) == (None, updated.anomaly.anomaly_id)
    assert (over.status, over.sequence, over.incident_id) == (AlertStatus.RESOLVED, 2, opened.incident_id)
    assert over.peak_score == pytest.approx(150 / 210)
    assert alert.look(0, 0.0, "", False, 1_080_000) is None


def test_a_restart_is_told_at_once():
    alert = LagAlert(LagPolicy(60.0, 2), "jobs")
    assert alert.look(0, 0.0, "", False, 990_000) is None
    told = alert.look(5, 30.0, "its health port has not answered in 6 looks", True, 1_000_000)
    assert (told.change.status, told.change.kind) == (AlertStatus.OPEN, AnomalyKind.STALL)
    assert (told.anomaly.kind, told.anomaly.window_start_ms) == (AnomalyKind.STALL, 990_000)


def test_what_it_saw_is_an_anomaly_as_any_other():
    alert = LagAlert(LagPolicy(60.0, 2), "jobs")
    alert.look(500, 61.0, "", False, 1_010_000)
    told = alert.look(600, 71.0, "", False, 1_020_000)
    anomaly, change = told.anomaly, told.change
    assert (anomaly.kind, anomaly.series, anomaly.metric) == (AnomalyKind.LAG, change.series, "commit_lag_seconds")
    assert (anomaly.window_start_ms, anomaly.window_end_ms) == (1_010_000, 1_020_000)
    assert anomaly.onset_ms == change.onset_ms
    assert (anomaly.score.actual, anomaly.score.upper, anomaly.strength) == (71.0, 60.0, pytest.approx(71 / 131))
    row = anomaly_row(anomaly)
    assert set(row) == set(ANOMALIES.column_names)
    assert (anomaly.score.score_kind, row["score_kind"]) == (ScoreKind.STRENGTH, "strength")
    assert anomaly.score.score == anomaly.strength
    # A replay finds the anomalies of an alert by these.
    assert change.onset_ms <= row["window_start"] <= row["window_end"] <= change.changed_ms
