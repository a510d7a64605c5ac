import pytest

from benchmarks.figures import growth, paired_ratio, quantile, spread, steady_rate


def test_a_spread_is_the_median_with_least_and_most():
    found = spread([3.0, 1.0, 2.0])
    assert (found.median, found.least, found.most, found.values) == (2.0, 1.0, 3.0, (3.0, 1.0, 2.0))
    assert str(found) == "2 (median of 3; 1 to 3)"
    with pytest.raises(ValueError, match="no values"):
        spread([])


def test_a_spread_is_printed_with_as_many_digits_as_mean_something():
    assert spread([1234.5678]).as_json() == {"median": 1234.6, "least": 1234.6, "most": 1234.6, "values": [1234.6]}


def test_ratios_are_taken_within_a_round():
    assert paired_ratio([90.0, 45.0], [100.0, 50.0]).values == (0.9, 0.9)


def test_the_steady_rate_leaves_the_warm_part_out():
    slow_start = [0, 1_000, *range(2_000, 3_000, 10)]
    assert steady_rate(slow_start, 2 / 102) == pytest.approx(100.0)
    assert steady_rate(slow_start[::-1], 2 / 102) == pytest.approx(100.0)
    with pytest.raises(ValueError, match="no time"):
        steady_rate([5, 5, 5], 0.0)
    with pytest.raises(ValueError, match="no time"):
        steady_rate([], 0.2)


def test_a_quantile_is_an_observed_value():
    assert quantile([1, 2, 3, 100], 0.5) == 2.0
    assert quantile([1, 2, 3, 100], 0.99) == 100.0


def test_growth_is_between_the_warm_part_and_the_end():
    warms_up = [(done, min(done, 200)) for done in range(1_001)]
    assert growth(warms_up, 1_000) == 0
    leaks = [(done, done) for done in range(1_001)]
    assert growth(leaks, 1_000) == 650
    assert growth([(1_000, 5)], 1_000) is None
