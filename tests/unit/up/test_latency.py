import numpy as np
import pytest

from infra.up.latency import LatencyHistogram, RecentLatency


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_quantiles_are_within_one_percent(q):
    values = np.random.default_rng(7).lognormal(3.0, 1.2, 20_000)
    histogram = LatencyHistogram()
    for part in np.array_split(values, 13):
        histogram.add(part)
    exact = float(np.sort(values)[int(np.ceil(q * len(values))) - 1])
    assert histogram.quantile(q) == pytest.approx(exact, rel=0.011)


def test_nothing_has_no_quantile():
    assert LatencyHistogram().quantile(0.5) is None
    assert RecentLatency().quantile(0.5, 100.0) is None


def test_extremes_stay_inside():
    histogram = LatencyHistogram()
    histogram.add([0.0, 1e300])
    assert histogram.counts.sum() == 2


def test_what_is_old_is_forgotten():
    recent = RecentLatency(seconds=30.0, slices=6)
    recent.add([1_000.0], now=0.0)
    recent.add([10.0], now=20.0)
    assert recent.quantile(0.99, now=21.0) == pytest.approx(1_000.0, rel=0.02)
    assert recent.quantile(0.99, now=40.0) == pytest.approx(10.0, rel=0.02)
    assert recent.quantile(0.99, now=80.0) is None
