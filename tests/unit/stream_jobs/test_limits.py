import asyncio
from collections import Counter
from types import SimpleNamespace

from infra.metrics import LIMITS_REACHED
from stream_jobs import limits
from stream_jobs.limits import MEANING, QUIET_SECONDS, TYPES_MAX, LimitLog
from stream_jobs.stage import Effects, Limit
from tests.fakes import FakeClock
from tests.unit.stream_jobs.test_score_job_shell import Shell


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


def test_what_a_stage_left_out_by_a_bound_is_counted_and_said_when_its_record_is_taken(caplog):
    given = {1: {Limit.ROW_MODELS: 3, Limit.OFFSET_HOLES: 1}, 2: {Limit.ROW_MODELS: 4}}
    before = {what: LIMITS_REACHED.labels(what.value).read() for what in Limit}

    async def run():
        async with Shell() as shell:
            stage, plainly = shell.stage, shell.stage.apply

            def apply(record):
                plain = plainly(record)
                return Effects(plain.rows, plain.events, limits=given.get(record.offset, {}))

            stage.apply = apply
            for offset in range(3):
                await shell.take(offset, b"1")
            assert shell.fatal == []

    asyncio.run(run())
    more = {what: LIMITS_REACHED.labels(what.value).read() - count for what, count in before.items()}
    assert {what: count for what, count in more.items() if count} == {Limit.ROW_MODELS: 7, Limit.OFFSET_HOLES: 1}
    said = [one.getMessage() for one in caplog.records if one.name == limits.__name__]
    assert [one.partition(" ")[0] for one in said] == ["in[0]@1:", "in[0]@1:"]
    assert f"3 {MEANING[Limit.ROW_MODELS]}" in said[0]
