import numpy as np
import pytest

from benchmarks.arrivals import due_seconds


def test_constant_arrivals_are_evenly_spaced():
    assert due_seconds("constant", 4, 1.0, 0).tolist() == [0.0, 0.25, 0.5, 0.75]


def test_poisson_arrivals_come_at_the_rate_and_vary_like_it():
    times = due_seconds("poisson", 200, 60.0, 7)
    gaps = np.diff(times)
    assert len(times) == pytest.approx(12_000, rel=0.03)
    assert gaps.mean() == pytest.approx(1 / 200, rel=0.03)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.05)
    assert times[0] > 0
    assert times[-1] < 60.0
    assert (gaps >= 0).all()


def test_a_seed_is_repeated():
    assert (due_seconds("poisson", 50, 3.0, 1) == due_seconds("poisson", 50, 3.0, 1)).all()
    assert len(due_seconds("poisson", 50, 3.0, 1)) != len(due_seconds("poisson", 50, 3.0, 2)) or not np.allclose(
        due_seconds("poisson", 50, 3.0, 1), due_seconds("poisson", 50, 3.0, 2)
    )


@pytest.mark.parametrize(("rate", "seconds"), [(0, 1), (-1, 1), (1, 0)])
def test_no_rate_and_no_time_are_refused(rate, seconds):
    with pytest.raises(ValueError, match="above 0"):
        due_seconds("constant", rate, seconds, 0)
