import json

import pytest

from schemas.alerts import AlertStatus
from schemas.anomalies import AnomalyKind
from schemas.windows import SeriesKey
from stream_jobs.decide import AlertPolicy, IncidentState, Observation, observe, unjudged
from stream_jobs.detectors.forecast_residual import Judgement

KEY = SeriesKey(model="m", version="1", scenario="s")
POLICY = AlertPolicy(
    kind=AnomalyKind.LATENCY_SHIFT,
    metric="total_ms_p95",
    open_windows=2,
    unconfirmed_windows=4,
    extreme_score=0.95,
    resolve_windows=3,
    unjudged_ms=50_000,
    update_ms=60_000,
    cool_down_ms=30_000,
)


def observed(scores, policy=POLICY, state=None, confirmed=True, start=0, learning=False):
    """The changes that windows with these scores make; each window is 10 s. A score of None: it is not judged."""
    state = IncidentState() if state is None else state
    changes = []
    for number, score in enumerate(scores, start):
        if score is None:
            change = unjudged(state, policy, KEY, number * 10_000, (number + 1) * 10_000)
            changes += [] if change is None else [(number, change)]
            continue
        judgement = Judgement(score, 0.9, 100.0, 0.0, 200.0, learning)
        seen = Observation(KEY, number * 10_000, (number + 1) * 10_000, 300.0, judgement, f"a{number}", confirmed)
        change = observe(state, policy, seen)
        if change is not None:
            changes.append((number, change))
    return changes, state


def statuses(changes):
    return [(number, change.status.value) for number, change in changes]


def test_it_opens_after_windows_in_a_row_and_resolves_after_normal_ones():
    changes, state = observed([0.1, 0.7, 0.1, 0.7, 0.8, 0.7, 0.1, 0.1, 0.7, 0.1, 0.1, 0.1, 0.1])
    assert statuses(changes) == [(4, "open"), (11, "resolved")]
    opened, resolved = changes[0][1], changes[1][1]
    assert opened.onset_ms == 30_000
    assert opened.opened_ms == 50_000
    assert opened.windows == 2
    assert opened.anomaly_id == "a4"
    assert resolved.incident_id == opened.incident_id
    assert (opened.sequence, resolved.sequence) == (0, 1)
    assert resolved.resolved_ms == 120_000
    assert resolved.peak_score == 0.8
    assert resolved.windows == 4
    assert not state.is_open


def test_one_extreme_window_is_enough():
    assert statuses(observed([0.1, 0.96, 0.1])[0]) == [(1, "open")]


def test_without_confirmation_it_takes_longer():
    assert statuses(observed([0.7] * 5, confirmed=False)[0]) == [(3, "open")]


def test_a_few_slow_requests_do_not_keep_an_incident_of_most_open():
    _, state = observed([0.7, 0.7])
    changes, _ = observed([0.7, 0.7, 0.7], state=state, confirmed=False, start=2)
    assert statuses(changes) == [(4, "resolved")]


def test_what_is_said_while_learning_does_not_end_an_incident():
    _, state = observed([0.7, 0.7])
    assert observed([0.0] * 4, state=state, start=2, learning=True)[0] == []
    assert statuses(observed([0.1] * 3, state=state, start=6)[0]) == [(8, "resolved")]


def test_an_incident_that_cannot_be_judged_any_more_ends_in_bounded_time_and_says_so():
    changes, state = observed([0.7, 0.7, *[None] * 5, 0.7, *[None] * 6, 0.1])
    assert statuses(changes) == [(1, "open"), (13, "resolved")]
    assert changes[1][1].summary == "total_ms_p95 of s/m/1 can no longer be judged: its windows hold too little."
    _, state = observed([0.7, 0.7])
    changes, _ = observed([0.0] * 6, state=state, start=2, learning=True)
    assert statuses(changes) == [(7, "resolved")]


def test_updates_are_told_when_it_gets_twice_as_bad_and_not_too_often():
    changes, _ = observed([0.6, 0.6, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.9, 0.94, 0.99])
    assert statuses(changes) == [(1, "open"), (7, "updated")]
    assert changes[1][1].status is AlertStatus.UPDATED
    later, _ = observed([0.6, 0.6] + [0.6] * 10 + [0.95])
    assert statuses(later) == [(1, "open"), (12, "updated")]


def test_soon_after_an_incident_the_next_takes_twice_the_windows():
    changes, state = observed([0.7, 0.7, 0.1, 0.1, 0.1, 0.97, 0.7, 0.7, 0.7])
    assert statuses(changes) == [(1, "open"), (4, "resolved"), (8, "open")]
    assert changes[0][1].incident_id != changes[2][1].incident_id
    calm, _ = observed([0.7, 0.7, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.7, 0.7])
    assert statuses(calm) == [(1, "open"), (4, "resolved"), (10, "open")]
    assert state.is_open


def test_a_quiet_metric_has_nothing_to_remember():
    assert observed([0.1] * 5)[1].is_blank
    assert observed([0.7, 0.1])[1].is_blank


def test_the_state_round_trips_and_a_broken_one_is_refused():
    _, state = observed([0.7, 0.7, 0.9])
    text = json.dumps(state.state())
    assert IncidentState.restored(json.loads(text)) == state
    for broken in (None, [], {"sequence": 1.5}, {"unknown": 1}, {"incident_id": 3}):
        with pytest.raises(ValueError, match="incident"):
            IncidentState.restored(broken)


def test_replays_name_incidents_alike():
    one, other = observed([0.7, 0.7])[0], observed([0.7, 0.7])[0]
    assert one[0][1] == other[0][1]
