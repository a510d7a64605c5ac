"""Stage 2 and the ledger where a broker's clock jumps: they go on, and nothing that is owed looks as if it were not."""

import pytest

from infra.log_clock import AGREEING_RECORDS, BEHIND_MS_MAX
from schemas.base import DecodeError
from stream_jobs.alert_budget import AlertBudget
from stream_jobs.ledger.partition_ledger import BookStart, PartitionLedger
from stream_jobs.window_stage import CLOCKS_APART_MS_MAX
from tests.ledger_records import CLUSTER, TOPIC, asked, book, predicted
from tests.telemetry_events import T0
from tests.unit.stream_jobs.test_broken_state import told
from tests.unit.stream_jobs.test_ledger_watch import Watch
from tests.unit.stream_jobs.test_window_stage import LENGTH, Reader, column, partial, series

YEAR = 365 * 86_400_000


def numbered(message, offset):
    return message.model_copy(update={"first_offset": offset, "next_offset": offset + 1})


def test_the_end_of_a_window_is_believed_where_what_comes_next_is_years_ahead():
    read = Reader(sources=1)
    ahead = partial(0, series()).model_copy(update={"closed_through_ms": T0 + YEAR})
    assert column(read(ahead, at_ms=T0 + LENGTH), "requests") == [100]
    assert read(ahead, at_ms=T0 + LENGTH).rows == {}, "a repeat"
    assert column(read(partial(1, series()), at_ms=T0 + 2 * LENGTH), "revision") == [0]
    with pytest.raises(DecodeError):
        read(partial(2, series()), at_ms=T0 + 3 * LENGTH - CLOCKS_APART_MS_MAX - 1)


def test_clocks_that_went_back_for_good_are_followed_and_series_learn_anew():
    read, ahead = Reader(sources=1), YEAR // LENGTH
    for window in range(20):
        read(numbered(partial(window, series()), window))
    for window in range(ahead, ahead + 10):
        read(numbered(partial(window, series()), window - ahead + 20))
    back = [read(numbered(partial(window, series()), window + 10)) for window in range(20, 60)]
    assert column(back[0], "revision") == [1], "who follows first is late"
    assert all(column(one, "revision") == [0] for one in back[1:])
    learning = [column(one, "learning", "window_scores_stored") for one in back[1:]]
    assert all(learning[0])
    assert not any(learning[-1])
    ((event,),) = [found for one in back if (found := told(one))]
    assert "the log's clock went back by 315" in event.reason


def test_an_open_incident_ends_when_the_clock_goes_back():
    read, ahead = Reader(sources=1), YEAR // LENGTH
    for window in range(20):
        read(numbered(partial(window, series()), window))
    opened = []
    for window in range(ahead, ahead + 6):
        slow = series(900.0 if window > ahead else 100.0)
        opened += read(numbered(partial(window, slow), window - ahead + 20)).events
    opened = [one for one in opened if one.topic == "alerts"]
    assert opened
    back = [read(numbered(partial(window, series()), window + 6)) for window in range(20, 24)]
    ended = [one for effects in back for one in effects.events if one.topic == "alerts"]
    assert len(ended) == len({one.key for one in opened})
    assert all(b"the log's clock went back" in one.value for one in ended)


def test_a_budget_is_as_old_as_it_was_when_the_clock_goes_back():
    moved, never = AlertBudget(2), AlertBudget(2)
    points = [("a", 0.0, 5.0), ("b", 0.3, 7.0), ("a", 3.0, 4.0), ("c", 9.5, 9.0), ("d", 30.0, 8.0)]
    for name, days, size in points:
        for budget, ahead_ms in ((moved, YEAR), (never, 0)):
            budget.admits(name, T0 + ahead_ms + round(days * 86_400_000), size)
    moved.go_back(T0 + 30 * 86_400_000)
    assert moved.entries() == never.entries()
    AlertBudget(2).restore(moved.entries())
    for budget in (moved, never):
        assert [budget.admits("e", T0 + n * 86_400_000, 50.0) for n in (31, 32, 33)] == [True, False, False]


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_a_record_of_the_windows_topic_years_off_hides_no_stall(jump):
    watch = Watch().healthy(60)
    watch.now += jump
    watch.healthy(1)
    watch.now -= jump
    hung = watch.now
    for _ in range(40):
        watch.hear(book(owed=20, oldest_ms=hung, served_ms=hung - 50))
    assert watch.told == [("stall", "open")]
    assert watch.now - hung < 60_000


def test_the_watch_on_the_ledger_follows_a_clock_that_was_set_back():
    watch = Watch().healthy(60)
    watch.now += YEAR
    watch.healthy(60)
    watch.now -= YEAR
    watch.healthy(60)
    assert watch.alerts == []
    hung = watch.now
    for _ in range(40):
        watch.hear(book(owed=20, oldest_ms=hung, served_ms=hung - 50))
    assert watch.told == [("stall", "open")]


@pytest.mark.parametrize("jump", [-YEAR, YEAR])
def test_one_answer_with_an_odd_time_is_no_last_sign_of_life_for_years(jump):
    ledger = PartitionLedger(CLUSTER, TOPIC, 0, BookStart(0, 0, 0))
    ledger.fold([asked(n, at_ms=T0) for n in range(30)])
    for number in range(10):
        ledger.fold([predicted(number, number, at_ms=T0 + number * 100 + (jump if number == 5 else 0))])
        again = PartitionLedger(CLUSTER, TOPIC, 0, BookStart(0, 0, 0))
        again.restore(ledger.pages())
        ledger = again
        assert ledger.told(1, 30).served_ms == T0 + (number - (number == 5)) * 100
    for number in range(10, 20):
        ledger.fold([predicted(number, number, at_ms=T0 + jump)])
    assert ledger.told(1, 30).served_ms == T0 + jump
    assert abs(jump) > BEHIND_MS_MAX * AGREEING_RECORDS
