"""What the drill benchmark makes of a run's alerts."""

from infra.up.drill_bench import Incident, measured

DRILL = (100_000, 160_000)


def test_a_run_as_it_should_be():
    found = measured([Incident("a", "latency_shift", 120_000, 190_000)], DRILL, 10_000)
    assert found == {
        "alerts_in_quiet": 0,
        "alerts_in_drill": 1,
        "other_alerts_after": 0,
        "opened_after_windows": 2.0,
        "resolved_after_windows": 3.0,
    }


def test_what_went_wrong_is_counted():
    found = measured(
        [
            Incident("a", "error_burst", 20_000, 50_000),
            Incident("b", "throughput_drop", 130_000, None),
            Incident("c", "latency_shift", 140_000, None),
        ],
        DRILL,
        10_000,
    )
    assert (found["alerts_in_quiet"], found["alerts_in_drill"], found["other_alerts_after"]) == (1, 1, 1)
    assert (found["opened_after_windows"], found["resolved_after_windows"]) == (4.0, None)


def test_no_alert_is_no_number():
    found = measured([], DRILL, 10_000)
    assert found["opened_after_windows"] is None
    assert found["resolved_after_windows"] is None
