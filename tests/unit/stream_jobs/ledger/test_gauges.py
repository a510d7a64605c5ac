"""The ledger's gauges: a sample for each scenario of the books that are here, and for no other."""

from types import SimpleNamespace

from infra.metrics import LEDGER_OLDEST_OWED_SECONDS, LEDGER_OWED_REQUESTS
from stream_jobs.ledger.gauges import show


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
