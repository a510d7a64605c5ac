"""Laws of simulated traffic: the seed decides everything, time never goes back, shares and rates hold."""

import itertools
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.broken_requests import EXPECTED, BrokenKind, broken_record
from producers.sample_data import Arrival, Replay
from producers.simulator import TEXTS_MAX, TrafficPolicy, due_times, plan
from schemas.base import DecodeError, decode, encode
from schemas.requests import InferenceRequested

offsets = st.lists(st.integers(0, 10_000_000), min_size=2, max_size=40).map(sorted).filter(lambda o: o[-1] > o[0])
traces = offsets.map(lambda found: tuple(Arrival(offset, 100 * n, n) for n, offset in enumerate(found)))
shares = st.floats(0, 1)
policies = st.builds(
    TrafficPolicy,
    seed=st.integers(0, 2**63 - 1),
    rate=st.none() | st.floats(0.01, 10_000),
    speed=st.floats(0.01, 1_000),
    smooth=shares,
    broken_share=shares,
    recommendation_share=shares,
    users=st.integers(1, 1_000),
)
QUERIES = ("red shoes", "sofa", "été", "a \U0001f6cb")


def first(count, trace, policy):
    return list(itertools.islice(plan(Replay(QUERIES, trace), policy), count))


@given(traces, policies)
def test_the_same_seed_sends_the_same(trace, policy):
    assert first(60, trace, policy) == first(60, trace, policy)


@given(traces, policies)
def test_time_never_goes_back_across_rounds(trace, policy):
    due = [seconds for seconds, _ in itertools.islice(due_times(trace, policy), 3 * len(trace))]
    assert due[0] == 0
    assert all(b - a >= -1e-9 * b for a, b in itertools.pairwise(due))


@given(traces, policies, st.integers(1, 4))
def test_the_mean_rate_is_exact_over_whole_rounds(trace, policy, rounds):
    count = rounds * len(trace)
    due = [seconds for seconds, _ in itertools.islice(due_times(trace, policy), count + 1)]
    span = (trace[-1].offset_ms - trace[0].offset_ms) / 1000
    natural = (len(trace) - 1) / span
    wanted = natural * policy.speed if policy.rate is None else policy.rate
    assert count / due[-1] == pytest.approx(wanted, rel=1e-6)


@given(traces, st.integers(0, 2**32), shares)
def test_the_broken_share_is_about_right_and_changes_nothing_else(trace, seed, share):
    count = 400
    some = first(count, trace, TrafficPolicy(seed, broken_share=share))
    none = first(count, trace, TrafficPolicy(seed, broken_share=0))
    assert [(r.key, r.request, r.due_seconds) for r in some] == [(r.key, r.request, r.due_seconds) for r in none]
    assert not any(r.broken for r in none)
    broken = sum(r.broken is not None for r in some)
    assert abs(broken - share * count) <= 7 * (count * share * (1 - share)) ** 0.5 + 1e-9


@given(traces, policies)
def test_good_requests_are_good_and_sized_by_the_trace(trace, policy):
    for planned in first(80, trace, policy):
        again = decode((), encode(planned.request), (), plain=InferenceRequested).data
        assert again == planned.request
        assert 1 <= len(planned.request.inputs) <= TEXTS_MAX
        assert planned.request.scenario in ("search", "recommendation")


@pytest.mark.parametrize("kind", list(BrokenKind))
@given(text=st.sampled_from(QUERIES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=50))
def test_every_broken_request_is_refused_for_its_reason(kind, text):
    record = broken_record(kind, text, request_id="r", source="s", time=datetime(2026, 1, 1, tzinfo=UTC))
    with pytest.raises(DecodeError) as caught:
        decode(record.headers, record.value, (InferenceRequested,), plain=InferenceRequested)
    assert caught.value.reason is EXPECTED[kind]


@given(traces)
def test_even_traffic_is_even(trace):
    due = [s for s, _ in itertools.islice(due_times(trace, TrafficPolicy(1, rate=10, smooth=1)), 50)]
    assert due == pytest.approx([n / 10 for n in range(50)])
