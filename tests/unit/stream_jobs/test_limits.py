from collections import Counter
from types import SimpleNamespace

from stream_jobs import limits
from stream_jobs.limits import MEANING, QUIET_SECONDS, TYPES_MAX, LimitLog
from stream_jobs.stage import Limit
from tests.fakes import FakeClock


def test_every_bound_is_explained():
    assert set(MEANING) == set(Limit)


def test_a_bound_that_is_reached_by_every_record_is_counted_each_time_and_said_now_and_then(caplog, monkeypatch):
    counted = Counter()
    metric = SimpleNamespace(labels=lambda what: SimpleNamespace(inc=lambda count: counted.update({what: count})))
    monkeypatch.setattr(limits, "LIMITS_REACHED", metric)
    clock = FakeClock()
    log = LimitLog(clock)
    for number in range(100):
        log.reached(Limit.ROW_MODELS, 3, f"t[0]@{number}")
        clock.advance(1.0)
    log.reached(Limit.WINDOW_SERIES, 1, "t[0]@100")
    assert counted == {"row_models": 300, "window_series": 1}
    said = [one.getMessage() for one in caplog.records]
    assert len(said) == 3
    assert said[0].startswith("t[0]@0: 3 requests are scored by the model that all above")
    assert said[1].startswith(f"t[0]@60: {3 * QUIET_SECONDS:.0f} requests")


def test_events_of_a_newer_release_are_counted_each_and_told_once_for_each_type(caplog, monkeypatch):
    counted = Counter()
    metric = SimpleNamespace(labels=lambda topic: SimpleNamespace(inc=lambda: counted.update([topic])))
    monkeypatch.setattr(limits, "NEWER_EVENTS", metric)
    log = LimitLog(FakeClock())
    for number in range(50):
        log.passed_over("t", f"inferwatch.moon.risen.v{1 + number % 2}", number)
    assert counted == {"t": 50}
    said = [one.getMessage() for one in caplog.records]
    assert [one.partition(":")[0] for one in said] == ["t@0", "t@1"]
    assert "inferwatch.moon.risen.v2 are passed over" in said[1]
    for number in range(2 * TYPES_MAX):
        log.passed_over("t", f"inferwatch.moon_{number}.v1", number)
    assert len(caplog.records) == TYPES_MAX
    assert counted == {"t": 50 + 2 * TYPES_MAX}
