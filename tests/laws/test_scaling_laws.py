"""What the wanted number of workers must satisfy for any load, and any history of it."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from inference_workers.scaling.policy import Demand, Reason, ScalingPolicy, ScalingState

LAGS = st.one_of(st.none(), st.integers(0, 10**9))
RATES = st.one_of(st.none(), st.floats(0, 1e6))
POLICIES = st.builds(
    ScalingPolicy,
    target_seconds=st.floats(0.01, 1_000),
    workers_min=st.integers(1, 5),
    workers_max=st.integers(5, 50),
    utilisation=st.floats(0.1, 1.0),
    tolerance=st.floats(0, 0.5),
    grow_seconds=st.floats(0, 60),
    shrink_seconds=st.floats(0, 300),
)
DEMANDS = st.builds(
    Demand,
    lag=LAGS,
    arrivals=RATES,
    service=st.one_of(st.none(), st.floats(0.01, 1e5)),
    workers=st.integers(1, 60),
    partitions=st.integers(1, 60),
)
HISTORIES = st.lists(st.tuples(DEMANDS, st.floats(0, 100)), max_size=30)


def replay(policy, history):
    state, now, found = ScalingState(policy), 0.0, []
    for demand, seconds in history:
        now += seconds
        found.append((now, demand, state.update(demand, now)))
    return state, now, found


@given(POLICIES, HISTORIES)
def test_it_is_bounded_and_says_why(policy, history):
    for _, demand, wanted in replay(policy, history)[2]:
        largest = min(policy.workers_max, demand.partitions)
        assert min(policy.workers_min, largest) <= wanted.workers <= largest
        assert wanted.words.startswith(str(wanted.workers))
        assert wanted.reason in Reason


@given(POLICIES, HISTORIES, DEMANDS, st.integers(0, 10**6), st.integers(0, 10**6), st.floats(0, 60))
def test_more_lag_never_wants_fewer(policy, history, demand, lag, more, seconds):
    answers = []
    for one in (lag, lag + more):
        state, now, _ = replay(policy, history)
        last = Demand(one, demand.arrivals, demand.service, demand.workers, demand.partitions)
        answers.append(state.update(last, now + seconds).workers)
    assert answers[0] <= answers[1]


@given(POLICIES, HISTORIES, DEMANDS, st.floats(0, 1e5), st.floats(0, 1e5), st.floats(0, 60))
def test_more_arrivals_never_want_fewer_while_nothing_waits(policy, history, demand, arrivals, more, seconds):
    answers = []
    for one in (arrivals, arrivals + more):
        state, now, _ = replay(policy, history)
        answers.append(
            state.update(Demand(0, one, demand.service, demand.workers, demand.partitions), now + seconds).workers
        )
    assert answers[0] <= answers[1]


def needed(policy, demand):
    """What it would say without a memory."""
    state = ScalingState(replace(policy, grow_seconds=0.0, shrink_seconds=0.0))
    state.update(demand, 0.0)
    return state.update(demand, 1.0).workers


@given(POLICIES, st.lists(st.tuples(st.integers(0, 10**6), st.floats(0, 1e4)), min_size=2, max_size=60))
def test_it_does_not_flap(policy, loads):
    """It grows to what every look of `grow_seconds` needed, and shrinks to what none of `shrink_seconds` exceeded."""
    demands = [Demand(lag, arrivals, 100.0, 1, 40) for lag, arrivals in loads]
    looks = [(5.0 * number, needed(policy, demand)) for number, demand in enumerate(demands)]
    state, before = ScalingState(policy), None
    for (now, _), demand in zip(looks, demands, strict=True):
        wanted = state.update(demand, now).workers
        if before is not None and wanted > before:
            assert wanted <= min(count for at, count in looks if now - policy.grow_seconds <= at <= now)
        if before is not None and wanted < before:
            assert wanted >= max(count for at, count in looks if now - policy.shrink_seconds <= at <= now)
        before = wanted
