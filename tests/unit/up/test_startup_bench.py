"""What the start-up benchmark prints."""

from infra.up.startup_bench import spread


def test_programs_find_the_median_under_its_name():
    assert spread([7.0, 5.0, 6.12345]) == {
        "first_prediction_seconds": 6.123,
        "least_seconds": 5.0,
        "most_seconds": 7.0,
        "seconds": [7.0, 5.0, 6.123],
    }
