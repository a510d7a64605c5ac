"""Detectors by row say what each would say on its own, and give back exactly what they learnt."""

import numpy as np
import pytest

from stream_jobs.detector_bank import bank_named
from stream_jobs.detectors.borrowed_scale import FIRST_MIN
from stream_jobs.detectors.registry import detector_named, names

T0 = 1_700_000_000_000
FAST = ("two_heads", "fixed_threshold", "gaussian_scorer", "page_hinkley")


def points(seed, series, count):
    rng = np.random.default_rng(seed)
    values = rng.lognormal(4.0, 0.2, (count, series))
    values[rng.random((count, series)) < 0.1] = np.nan
    return values


def same(one, other):
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=True) for name in one.__dataclass_fields__
    )


@pytest.mark.parametrize("name", FAST)
def test_a_bank_scores_as_each_detector_on_its_own(name):
    bank, values = bank_named(name), points(1, 5, 150)
    rows = np.array([bank.new() for _ in range(5)])
    alone = [detector_named(name) for _ in range(5)]
    for number, window in enumerate(values):
        times = np.full(5, T0 + number * 10_000)
        said = bank.run(rows, times, window)
        for at in range(5):
            expected = alone[at].run(times[at : at + 1], window[at : at + 1, None])
            assert said.severity[at] == expected.severity[0] or np.isnan(window[at])
            assert same(type(said)(*(getattr(said, one)[at : at + 1] for one in said.__dataclass_fields__)), expected)
    assert [bank.state(row) for row in rows] == [one.state() for one in alone]
    assert bank.digest == alone[0].digest()


@pytest.mark.parametrize("name", FAST)
def test_a_row_goes_on_exactly_from_its_state(name):
    first, second, values = bank_named(name), bank_named(name), points(2, 1, 200)[:, 0]
    times = T0 + 10_000 * np.arange(200)
    one = first.new()
    first.run(np.zeros(120, dtype=np.int64) + one, times[:120], values[:120])
    second.new()
    other = second.new()
    second.restore(other, first.state(one))
    rest = np.zeros(80, dtype=np.int64)
    assert same(first.run(rest + one, times[120:], values[120:]), second.run(rest + other, times[120:], values[120:]))
    assert first.state(one) == second.state(other)


@pytest.mark.parametrize("name", FAST)
def test_a_state_that_is_cut_altered_or_another_detector_s_is_refused_and_changes_nothing(name):
    bank, row = bank_named(name), 0
    assert bank.new() == row
    bank.run(np.zeros(90, dtype=np.int64), T0 + 10_000 * np.arange(90), points(3, 1, 90)[:, 0])
    good = bank.state(row)
    altered = bytearray(good)
    altered[len(good) // 2] ^= 1
    others = bank_named("loda")
    for broken in (b"", good[:-1], good[:40], bytes(altered), good + b"x", others.state(others.new())):
        with pytest.raises(ValueError, match=r"\w"):
            bank.restore(row, broken)
        assert bank.state(row) == good


@pytest.mark.parametrize("name", FAST)
def test_numbers_without_a_record_of_their_own_come_back_exact_or_are_refused(name):
    bank, other = bank_named(name), bank_named(name)
    one, row = bank.new(), other.new()
    bank.run(np.full(90, one), T0 + 10_000 * np.arange(90), points(5, 1, 90)[:, 0])
    good = bank.numbers(one)
    other.take_numbers(row, good)
    assert other.state(row) == bank.state(one)
    for broken in (b"", good[:-8], good[:-1], good + b"x", b"\xff" * len(good)):
        with pytest.raises(ValueError, match=r"\w"):
            other.take_numbers(row, broken)
        assert other.numbers(row) == good


def test_a_row_that_was_given_back_begins_anew():
    for name in FAST:
        bank = bank_named(name)
        row, fresh = bank.new(), bank.state(bank.new())
        bank.run(np.full(50, row), T0 + 10_000 * np.arange(50), points(4, 1, 50)[:, 0])
        bank.drop(row)
        assert bank.new() == row
        assert bank.state(row) == fresh


def versions(name, level, past=600, seed=5):
    """A bank in which a version has learnt `past` values around 50, and its successor 12 around `level`, beside it."""
    bank, rng = bank_named(name), np.random.default_rng(seed)
    elder, heir = bank.new(), bank.new()
    for number in range(past + FIRST_MIN):
        begun = number >= past
        rows = np.array([elder, heir] if begun else [elder])
        values = rng.normal([50.0, level] if begun else [50.0], 3.0)
        bank.run(rows, np.full(len(rows), T0 + number * 10_000), values)
    times = T0 + 10_000 * np.arange(past, past + FIRST_MIN)
    return bank, elder, heir, times, rng.normal(level, 3.0, FIRST_MIN)


def next_score(bank, row, times, value):
    said = bank.run(np.array([row]), times[-1:] + 10_000, np.array([value]))
    return float(said.score[0]), float(said.confidence[0])


OTHERS = [name for name in names() if name != "two_heads"]  # which has laws of its own


@pytest.mark.parametrize("name", [name for name in OTHERS if name not in ("adwin", "kswin")])
def test_a_new_version_like_the_old_one_is_judged_by_what_that_learnt(name):
    bank, elder, heir, times, first = versions(name, 50.0)
    lent = bank.state(elder)
    assert bank.borrow(heir, elder, times, first)
    assert bank.state(elder) == lent
    usual, sure = next_score(bank, heir, times, 50.5)
    assert sure > 0.0
    assert usual < 0.9
    assert next_score(bank, heir, times + 10_000, 400.0)[0] > max(0.8, usual)


@pytest.mark.parametrize("name", OTHERS)
def test_of_a_version_at_another_level_nothing_is_borrowed_and_its_own_is_kept(name):
    bank, elder, heir, times, first = versions(name, 400.0)
    own = bank.state(heir)
    assert not bank.borrow(heir, elder, times, first)
    assert bank.state(heir) == own


@pytest.mark.parametrize("name", OTHERS)
def test_a_version_that_is_learning_itself_has_nothing_to_lend(name):
    bank, elder, heir, times, first = versions(name, 50.0, past=20)
    own = bank.state(heir)
    assert not bank.borrow(heir, elder, times, first)
    assert bank.state(heir) == own


def test_no_points_are_no_scores_and_every_detector_has_a_bank():
    none = np.zeros(0, dtype=np.int64)
    for name in names():
        bank = bank_named(name)
        assert len(bank.run(none, none, np.zeros(0)).severity) == 0
        assert len(bank.state(bank.new())) <= 16_384
