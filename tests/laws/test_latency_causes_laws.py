"""Laws of the causes of latency: sums add up in any order, batches are loops, states come back exact, bounds hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.windows import WORKERS_PER_SERIES_MAX, LatencySums
from stream_jobs.attribution.factors import NUMBER_MAX, vectors_of
from stream_jobs.attribution.regression import (
    LatencyRegression,
    explain_many,
    explain_together,
    merged_sums,
    new_states,
)
from stream_jobs.attribution.window_sums import WindowSums
from stream_jobs.detectors.clock import FAR_MS
from tests.latency_windows import Work, add

ANY = st.one_of(st.floats(0.0, 500.0), st.floats(), st.just(0.0))
ROWS = st.lists(st.tuples(st.sampled_from("abcdefghijkl"), st.tuples(*[ANY] * 7)), min_size=1, max_size=30)


def summed(rows, one_by_one=False):
    found = WindowSums()
    by_worker = {}
    for worker, row in rows:
        if one_by_one:
            add(found, worker, vectors_of(*np.array(row).reshape(7, 1)))
        by_worker.setdefault(worker, []).append(row)
    if not one_by_one:
        for worker, some in by_worker.items():
            add(found, worker, vectors_of(*np.array(some).T))
    return found.cut([0])[0]


@given(ROWS)
@settings(deadline=None)
def test_sums_are_valid_bounded_and_the_same_one_by_one(rows):
    found = summed(rows)
    assert found.model_dump() == summed(rows, one_by_one=True).model_dump()
    assert LatencySums.model_validate_json(found.model_dump_json()) == LatencySums.model_validate(found.model_dump())
    assert len([name for name in found.workers if name]) <= WORKERS_PER_SERIES_MAX
    assert sum(found.counts) == len(rows)
    assert max(map(max, found.sums)) <= NUMBER_MAX * len(rows)


@given(st.lists(ROWS, min_size=1, max_size=5), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_partitions_add_up_in_any_order(parts, random):
    each = [summed(rows) for rows in parts]
    shuffled = random.sample(each, len(each))
    assert merged_sums(each).model_dump() == merged_sums(shuffled).model_dump()
    assert sum(merged_sums(each).counts) == sum(map(len, parts))


@given(ROWS)
@settings(deadline=None)
def test_an_open_window_takes_its_sums_over_exactly(rows):
    found, other = summed(rows), WindowSums()
    other.load(0, found)
    assert other.cut([0, 1])[0].model_dump() == found.model_dump()
    assert other.cut([1])[0].workers == []


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 40), ROWS), max_size=12), st.integers(0, 12))
@settings(deadline=None, max_examples=60)
def test_a_batch_of_many_series_is_the_loop_and_a_state_comes_back_exact(windows, cut):
    models = [LatencyRegression() for _ in range(3)]
    alone = []
    for number, (series, time, rows) in enumerate(windows):
        if number == cut:
            for position, model in enumerate(models):
                restored = LatencyRegression()
                restored.restore(model.state())
                assert restored.state() == model.state()
                models[position] = restored
        alone.append(models[series].explain_then_learn(summed(rows), time * 10_000))
    states = new_states(3)
    rows_of = [series for series, _, _ in windows]
    times = [time * 10_000 for _, time, _ in windows]
    together = explain_many(states, rows_of, times, [summed(rows) for *_, rows in windows], learn=True)
    assert repr(together) == repr(alone)
    assert all(state.tobytes() == model._states[0].tobytes() for state, model in zip(states, models, strict=True))
    assert np.isfinite(states).all()
    assert all(len(model.state()) <= 384 for model in models)  # and 33 more where the clock has something to tell


JUMP = st.one_of(st.integers(FAR_MS + 10**7, 100 * 366 * 86_400_000), st.just(3_653 * 86_400_000))


def minutes(model, count, since_ms=10**13, seed=1):
    """What is said of usual windows, a minute apart."""
    rng = np.random.default_rng(seed)
    return [model.explain_then_learn(Work().sums(rng), since_ms + 60_000 * number) for number in range(count)]


@given(st.lists(st.tuples(JUMP, st.sampled_from([1, -1])), min_size=1, max_size=2), ROWS)
@settings(deadline=None, max_examples=30)
def test_a_clock_that_jumps_for_a_moment_is_as_if_it_had_never_come(jumps, rows):
    plain, moment = LatencyRegression(), LatencyRegression()
    minutes(plain, 20)
    minutes(moment, 20)
    for jump, sign in jumps:
        assert moment.explain_then_learn(summed(rows), 10**13 + sign * jump) is None
        restored = LatencyRegression()
        restored.restore(moment.state())
        assert restored.state() == moment.state() != plain.state()
        moment = restored
    after = 10**13 + 60_000 * 20
    assert repr(minutes(moment, 5, after, seed=2)) == repr(minutes(plain, 5, after, seed=2))
    assert moment.state() == plain.state()


@given(JUMP, st.sampled_from([1, -1]))
@settings(deadline=None, max_examples=30)
def test_a_clock_that_jumps_for_good_costs_two_windows(jump, sign):
    model = LatencyRegression()
    minutes(model, 20)
    found = minutes(model, 6, 10**13 + sign * jump, seed=2)
    assert [one is None for one in found] == [True, True, False, False, False, False]
    assert not any(one.learning for one in found[2:])
    assert found[2].usual_ms == pytest.approx(found[2].actual_ms, rel=0.2), "what was learnt is known on"


@given(st.lists(ROWS, min_size=1, max_size=4))
@settings(deadline=None)
def test_series_explained_together_are_those_alone_and_explaining_learns_nothing(windows):
    alone = [LatencyRegression() for _ in windows]
    together = [LatencyRegression() for _ in windows]
    for time_ms in (1_000, 2_000, 3_000):
        sums = [summed(rows) for rows in windows]
        before = [one.state() for one in alone]
        asked = [one.explain(window, time_ms) for one, window in zip(alone, sums, strict=True)]
        assert [one.state() for one in alone] == before
        found = [one.explain_then_learn(window, time_ms) for one, window in zip(alone, sums, strict=True)]
        assert repr(explain_together(together, time_ms, sums)) == repr(found)
        assert [one.parts_ms if one else None for one in asked] == [one.parts_ms if one else None for one in found]
    assert [one.state() for one in alone] == [one.state() for one in together]


@given(ROWS, st.integers(-5, 5))
@settings(deadline=None)
def test_a_window_that_is_not_after_the_last_or_has_no_requests_is_as_if_it_had_never_come(rows, back):
    model = LatencyRegression()
    model.explain_then_learn(summed(rows), 10_000)
    before = model.state()
    assert model.explain_then_learn(summed(rows), 10_000 - abs(back)) is None
    assert model.explain_then_learn(LatencySums(), 20_000) is None
    assert model.state() == before


@pytest.mark.parametrize(
    "broken",
    [None, 7, b"", b"\x01", b"\0" * 12 + b"\x01", b"\0" * 3, "AAAAAAAA", b"\0" * 6 + b"\xf8\x7f", b"\0" * 600, [0.0]],
)
def test_a_broken_state_is_refused_and_changes_nothing(broken):
    model = LatencyRegression()
    model.explain_then_learn(summed([("a", (1.0,) * 7)]), 1_000)
    before = model.state()
    with pytest.raises(ValueError, match="latency regression"):
        model.restore(broken)
    assert model.state() == before


def test_the_workers_remembered_are_those_that_were_there_last():
    model = LatencyRegression()
    for number in range(40):
        rows = [(f"w{number // 2}", (100.0, 1.0, 10.0, 10.0, 1.0, 0.0, 1e9))] * 5
        model.explain_then_learn(summed(rows + [("stays", rows[0][1])] * 5), 10_000 * (number + 1))
    assert len(model.state()) <= 384
    slow = summed([("stays", (100.0, 1.0, 10.0, 10.0, 1.0, 0.0, 1e9))] * 5)
    assert model.explain(slow, 10**6).parts_ms["worker"] == 0.0
