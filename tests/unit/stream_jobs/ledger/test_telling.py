"""When the ledger tells whom what."""

from schemas.base import decode
from schemas.owed import OWED_KINDS, ScenarioOwed
from schemas.windows import SeriesKey
from stream_jobs.ledger import telling
from stream_jobs.ledger.telling import Pace, Telling
from stream_jobs.partial_events import target_of
from tests.ledger_records import T0, book

PACE = Pace(1.0, 5.0)


def heard(events):
    found = []
    for event in events:
        for one in decode(event.headers, event.value, OWED_KINDS).data.partitions:
            found.extend((event.partition, one.partition, row.scenario, row.owed) for row in one.scenarios)
    return found


def with_scenarios(number, names, owed=0):
    rows = [ScenarioOwed(scenario=name, owed=owed, oldest_ms=T0 if owed else None) for name in names]
    return book(number).model_copy(update={"scenarios": rows})


def test_each_scenario_goes_to_the_partition_that_owns_its_series():
    names = [f"s{n}" for n in range(30)]
    said = heard(Telling("c", "t", "me", 6, PACE).events([with_scenarios(0, names)], 0.0, T0))
    assert sorted(scenario for _, _, scenario, _ in said) == sorted(names)
    assert {target for target, *_ in said} == set(range(6))
    for target, _, scenario, _ in said:
        assert target == target_of(SeriesKey(model="", version="", scenario=scenario), 6)


def test_while_nothing_waits_it_tells_seldom_and_while_something_does_each_time():
    one = Telling("c", "t", "me", 1, PACE)
    told = []
    for second in range(30):
        waits = 10 <= second < 20
        said = [with_scenarios(0, ["search"], owed=4 if waits else 0)]
        if one.events(said, float(second), T0 + 60_000):
            told.append(second)
    assert told == [0, 5, *range(10, 21), 25]  # at 20 it says at once that it is over


def test_what_was_asked_just_now_does_not_wait():
    one = Telling("c", "t", "me", 1, PACE)
    fresh = [with_scenarios(0, ["search"], owed=4)]
    assert [bool(one.events(fresh, float(second), T0 + 1_900)) for second in range(4)] == [True, False, False, False]


def test_an_event_is_bounded(monkeypatch):
    monkeypatch.setattr(telling, "ROWS_PER_EVENT_MAX", 10)
    events = Telling("c", "t", "me", 1, PACE).events(
        [with_scenarios(n, ["a", "b", "c", "d"]) for n in range(9)], 0.0, T0
    )
    assert len(events) == 5
    assert len(heard(events)) == 36
    assert len({dict(event.headers)["ce_id"] for event in events}) == 5
