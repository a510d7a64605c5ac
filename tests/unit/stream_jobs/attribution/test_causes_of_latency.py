"""The causes of latency against what is known to be true, a closed form and River; bad values; words for people."""

import math
from dataclasses import replace

import numpy as np
import pytest
from river import linear_model, optim, preprocessing

from schemas.windows import FACTORS, LatencySums
from stream_jobs.attribution.factors import NUMBER_MAX, vectors_of
from stream_jobs.attribution.regression import CAUSES, LEARNING_WINDOWS, LatencyCauses, LatencyRegression
from stream_jobs.attribution.sentence import contributors, effects, sentence
from tests.latency_windows import MS_PER, Work, learnt


@pytest.fixture(scope="module")
def usual():
    """What the usual work teaches, and the time of the last window."""
    model = LatencyRegression()
    return model, learnt(model, np.random.default_rng(1))


def after(usual, seed=9, **changes):
    model, time_ms = usual
    found = model.explain(Work(**changes).sums(np.random.default_rng(seed)), time_ms + 10_000)
    assert found is not None
    return found


def test_the_coefficients_are_what_latency_was_made_of(usual):
    found = after(usual).coefficients
    assert {name: pytest.approx(value, rel=0.02, abs=1e-6) for name, value in MS_PER.items()} == found


@pytest.mark.parametrize(
    ("changes", "cause", "rise"),
    [
        ({"queue": 140.0}, "queue", 120.0),
        ({"tokens": 300.0}, "tokens", 40.0),
        ({"size": 120}, "batch_size", 22.0),
        ({"cached": 0.0}, "cache", 15.0),
        ({"slow": 50.0}, "unexplained", 50.0),
        ({"slower": (("b", 200.0),)}, "worker", 100.0),
        ({"workers": ("a", "new"), "slower": (("new", 200.0),)}, "worker", 100.0),
        ({"workers": ("a", "b", "c", "d"), "slower": (("d", 400.0),)}, "worker", 100.0),
    ],
)
def test_a_rise_is_laid_to_what_made_it(usual, changes, cause, rise):
    found = after(usual, **changes)
    assert found.parts_ms[cause] == pytest.approx(rise, rel=0.15)
    assert next(iter(found.shares)) == cause
    assert found.shares[cause] > 0.8
    assert math.fsum(found.shares.values()) == pytest.approx(1.0)
    assert math.fsum(found.parts_ms.values()) == pytest.approx(found.actual_ms - found.usual_ms)


def test_two_causes_share_the_rise_as_they_made_it(usual):
    found = after(usual, queue=100.0, tokens=200.0)
    assert found.parts_ms["queue"] == pytest.approx(80.0, rel=0.15)
    assert found.parts_ms["tokens"] == pytest.approx(20.0, rel=0.15)
    assert sentence(found).startswith("queue +")
    assert " %), tokens +" in sentence(found)


def test_a_worker_that_is_always_slower_is_usual_and_more_of_its_work_is_not():
    model, rng = LatencyRegression(), np.random.default_rng(2)
    work = Work(slower=(("b", 60.0),))
    time_ms = learnt(model, rng, 400, work) + 10_000
    same = model.explain(work.sums(rng), time_ms)
    assert abs(same.parts_ms["worker"]) < 4.0
    alone = model.explain(replace(work, workers=("b",)).sums(rng), time_ms)
    assert alone.parts_ms["worker"] == pytest.approx(30.0, rel=0.3)
    assert alone.slowest_worker == "b"


def test_it_is_the_ridge_regression_of_all_requests_in_closed_form():
    """Windows with the weight of all requests alike, and a ridge that so many do not feel."""
    rng, model, rows = np.random.default_rng(3), LatencyRegression(), []
    for number in range(LEARNING_WINDOWS):
        state = rng.bit_generator.state
        columns = Work(workers=("a",)).columns(rng, "a")
        rng.bit_generator.state = state
        rows.append(np.column_stack([columns["total_ms"], *factors(columns)]))
        model.explain_then_learn(Work(workers=("a",)).sums(rng), 1_000 * (number + 1))
    table = np.vstack(rows)
    x = np.column_stack([table[:, 1:-1], np.ones(len(table))])
    exact, *_ = np.linalg.lstsq(x, table[:, 0], rcond=None)
    found = model.explain(Work().sums(rng), 10**6).coefficients
    for name, value in zip(FACTORS[:-1], exact, strict=False):
        assert found[name] == pytest.approx(value, rel=0.03), name


def test_rivers_linear_regression_comes_to_the_same_coefficients(usual):
    rng, scaler = np.random.default_rng(4), preprocessing.StandardScaler()
    model = linear_model.LinearRegression(optim.SGD(0.01), intercept_lr=0.05)
    for _ in range(40):
        columns = Work(workers=("a",)).columns(rng, "a")
        for row in zip(*factors(columns), columns["total_ms"], strict=True):
            x = dict(zip(FACTORS[:-1], row[:-2], strict=True))
            scaler.learn_one(x)
            model.learn_one(scaler.transform_one(x), row[-1])
    ours = after(usual).coefficients
    for name in FACTORS[:-1]:
        theirs = model.weights[name] / math.sqrt(scaler.vars[name])
        assert theirs == pytest.approx(ours[name], rel=0.15), name


def factors(columns):
    padding = columns["batch_padded_tokens"] - columns["batch_tokens"]
    names = ("queue_ms", "batch_tokens", "batch_size", "cached", "memory_bytes")
    queue, tokens, size, cached, memory = (columns[name] for name in names)
    return queue, tokens, padding, size, cached, memory


def test_before_anything_varied_waiting_is_known_to_be_latency_and_the_rest_is_not_explained():
    """Constant columns, from a series' first windows on."""
    model = LatencyRegression()
    for number in range(30):
        model.explain_then_learn(constant(100.0, 20.0, 50.0), 10_000 * (number + 1))
    found = model.explain(constant(250.0, 140.0, 50.0), 10**6)
    assert found.parts_ms["queue"] == pytest.approx(120.0)
    assert found.parts_ms["unexplained"] == pytest.approx(30.0)
    found = model.explain(constant(130.0, 20.0, 80.0), 10**6)
    assert found.parts_ms["tokens"] == 0.0
    assert found.parts_ms["unexplained"] == pytest.approx(30.0)


def constant(total, queue, tokens, n=20):
    columns = (total, queue, tokens, tokens, 4.0, 0.0, 1e9)
    vectors = vectors_of(*(np.full(n, value) for value in columns))
    sums = vectors.sum(axis=1)
    products = [int(vectors[a] @ vectors[b]) for a in range(7) for b in range(a, 7)]
    return LatencySums(workers=["a"], counts=[n], sums=[sums.tolist()], products=products)


def test_factors_that_move_together_share_and_nothing_grows_beyond_bounds():
    rng, model = np.random.default_rng(5), LatencyRegression()
    for number in range(80):
        tokens = rng.integers(10, 200, 100).astype(float)
        columns = (5 + 0.4 * tokens, np.zeros(100), tokens, 2 * tokens, tokens, np.zeros(100), np.full(100, 1e9))
        model.explain_then_learn(sums_of(vectors_of(*columns)), 10_000 * (number + 1))
    columns = (165.0, 0.0, 400.0, 800.0, 400.0, 0.0, 1e9)
    found = model.explain(sums_of(vectors_of(*(np.full(50, value) for value in columns))), 10**7)
    three = [found.parts_ms[name] for name in ("tokens", "padding", "batch_size")]
    assert sum(three) == pytest.approx(found.actual_ms - found.usual_ms, rel=0.03)
    assert all(part > 0.1 * sum(three) for part in three)


def sums_of(vectors):
    products = [int(vectors[a] @ vectors[b]) for a in range(7) for b in range(a, 7)]
    count = vectors.shape[1]
    return LatencySums(workers=["a"], counts=[count], sums=[vectors.sum(axis=1).tolist()], products=products)


def test_one_wild_window_hardly_moves_what_is_usual():
    rng, model, wild = np.random.default_rng(6), LatencyRegression(), LatencyRegression()
    time_ms = learnt(model, rng, 100)
    wild.restore(model.state())
    columns = Work().columns(rng, "a")
    columns["total_ms"][:5] = 1e308
    assert vectors_of(**columns).max() == NUMBER_MAX
    wild.explain_then_learn(sums_of(vectors_of(**columns)), time_ms + 10_000)
    before, then = (
        one.explain(Work(queue=90.0).sums(np.random.default_rng(7)), time_ms + 20_000) for one in (model, wild)
    )
    for name in CAUSES:
        assert then.parts_ms[name] == pytest.approx(before.parts_ms[name], abs=3.0), name


def test_numbers_that_are_none_count_as_nothing():
    columns = [np.array([math.nan, -1.0, math.inf, -math.inf, 1e308, 3.0]) for _ in range(7)]
    vectors = vectors_of(*columns)
    assert vectors[0].tolist() == [0, 0, NUMBER_MAX, 0, NUMBER_MAX, 48]
    assert vectors[2].tolist() == [0, 0, NUMBER_MAX, 0, NUMBER_MAX, 3]
    assert vectors[3].tolist() == [0] * 6


def causes(**parts):
    return LatencyCauses(150.0, 50.0, {name: parts.get(name, 0.0) for name in CAUSES}, {}, False, "w3", 300.0)


def test_the_sentence_names_the_largest_causes_and_the_worker():
    found = causes(queue=71.0, worker=20.0, unexplained=9.0)
    assert sentence(found) == "queue +71 ms (71 %), worker w3 +20 ms (20 %), the same work taking longer +9.0 ms (9 %)"
    assert contributors(found) == pytest.approx({"queue": 0.71, "worker": 0.2, "unexplained": 0.09})
    assert effects(found)["rise_ms"] == 100.0


def test_what_makes_up_for_others_has_no_share_and_what_is_learning_says_nothing():
    found = causes(queue=130.0, cache=-30.0)
    assert sentence(found) == "queue +130 ms (100 %)"
    assert effects(found)["cache_ms"] == -30.0
    for nothing in (None, replace(found, learning=True)):
        assert (sentence(nothing), contributors(nothing), effects(nothing)) == ("", {}, {})
    assert sentence(causes(queue=-5.0)) == ""
