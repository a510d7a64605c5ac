"""The ledger's gauges: a sample for each scenario of the books that are here, and for no other."""

from types import SimpleNamespace

from infra.metrics import HELD, HELD_MAX, LEDGER_OLDEST_OWED_SECONDS, LEDGER_OWED_REQUESTS
from infra.ports import Record
from stream_jobs.ledger import partition_ledger
from stream_jobs.ledger.gauges import Unsaved, show
from tests.fakes import FakeClock


def book(**owed):
    rows = [SimpleNamespace(scenario=name, owed=count, oldest_ms=ms) for name, (count, ms) in owed.items()]
    return SimpleNamespace(scenarios=rows)


def shown(family):
    return {labels[0]: cell.read() for labels, cell in family.cells()}


def test_scenarios_are_summed_over_partitions_and_end_with_their_books():
    show([book(search=(3, 4_000), ads=(0, None)), book(search=(2, 1_000))], 6_000)
    assert shown(LEDGER_OWED_REQUESTS) == {"search": 5, "ads": 0}
    assert shown(LEDGER_OLDEST_OWED_SECONDS) == {"search": 5.0, "ads": 0.0}
    show([book(ads=(1, 7_000))], 8_000)
    assert shown(LEDGER_OWED_REQUESTS) == {"ads": 1}
    show((), 0)
    assert (shown(LEDGER_OWED_REQUESTS), shown(LEDGER_OLDEST_OWED_SECONDS)) == ({}, {})


def test_the_fullest_book_is_shown_beside_its_bound():
    show([book(search=(3, 4_000), ads=(4, 4_000)), book(search=(5, 1_000))], 6_000)
    assert HELD.labels("owed").read() == 7
    assert HELD_MAX.labels("owed").read() == partition_ledger.HELD_MAX
    show((), 0)
    assert HELD.labels("owed").read() == 0


def test_the_oldest_record_that_is_not_saved_has_an_age():
    clock = FakeClock()
    unsaved = Unsaved(clock)
    now = clock.now_ms()
    assert unsaved.seconds() == 0.0
    unsaved.took([])
    unsaved.took([Record("t", 0, offset, now - 1_000 * offset, None, b"") for offset in (1, 3, 2)])
    unsaved.took([Record("t", 0, 4, now, None, b"")])
    clock.advance(2.0)
    assert unsaved.seconds() == 5.0
    unsaved.saved()
    assert unsaved.seconds() == 0.0
