"""Every difference of the books names its offsets: what is owed, said by one place alone, stored twice or not."""

import pytest

from infra.up.books import Books, Fate, in_words, ranges_of
from infra.up.differences import log_differences, owed_differences, row_differences
from infra.up.ledger_figures import ROWS_SHOWN_MAX, LedgerFigures
from schemas.base import Identity
from tests.ledger_records import T0, TOPIC, asked, book, owed_record


class Table:
    """A table of requests: how many rows readers see of each offset of partition 0."""

    def __init__(self, rows):
        self.rows = rows

    def query(self, sql, parameters=None):
        first, after = parameters["first"], parameters["after"]
        own = self.rows if parameters["partition"] == 0 else {}
        return ("offset", "count()"), [(o, n) for o, n in own.items() if first <= o < after]


def books(settled, observed, partitions=1):
    found = Books("c", "t", dict.fromkeys(range(partitions), 0))
    found.settle([Fate(0, offset, "answered") for offset in settled])
    found.observe([Fate(0, offset, "answered") for offset in observed])
    return found


def told(found):
    return [(one.kind, one.partition, one.count, one.ranges) for one in found]


def test_owed_requests_are_named_with_scenario_and_age():
    ours = books([0, 1, 3], [])

    def read(partition, first, after):
        return [asked(n, scenario="ads" if n == 5 else "search", at_ms=T0 + n) for n in range(first, after)]

    (one,) = owed_differences(ours, {0: 7}, read, T0 + 9_502, 5)
    assert (one.count, one.ranges) == (4, [(2, 3), (4, 7)])
    assert one.text == (
        "no answer and no dead letter for offsets 2, 4-6: 4 owed, the oldest (offset 2) for 9.5 s; "
        "the first of them: ads 1, search 3"
    )
    assert one.as_json(1)["offsets"] == [(2, 3)]
    assert (one.as_json(1)["oldest_offset"], one.as_json(1)["scenarios"]) == (2, {"ads": 1, "search": 3})


def test_owed_requests_that_retention_has_taken_meanwhile_are_still_counted():
    (one,) = owed_differences(books([], []), {0: 3}, lambda *place: [], T0, 5)
    assert one.text == "no answer and no dead letter for offsets 0-2: 3 owed"


def test_what_only_one_place_says_is_named():
    found = log_differences(books([0, 1, 2], [1, 2, 4]), {0: 5}, 5)
    assert told(found) == [("no_telemetry", 0, 1, [(0, 1)]), ("telemetry_without_answer", 0, 1, [(4, 5)])]


def test_what_was_answered_again_is_named_and_the_first_counts():
    ours = books([0, 1, 2, 1, 2, 2], [0, 1, 2])
    (one,) = log_differences(ours, {0: 3}, 5)
    assert told([one]) == [("answered_again", 0, 2, [(1, 3)])]
    assert ours.account({0: 3}, 3).balanced


def test_another_outcome_is_named():
    ours = books([0], [])
    ours.observe([Fate(0, 0, "failed")])
    (one,) = log_differences(ours, {0: 1}, 5)
    assert (one.kind, one.more) == ("other_outcome", {"predictions": {"answered": 1}, "telemetry": {"failed": 1}})


@pytest.mark.parametrize("at_once", [3, 1_000])
def test_rows_that_are_missing_alone_or_double_are_named(monkeypatch, at_once):
    monkeypatch.setattr("infra.up.differences.ROWS_AT_ONCE", at_once)
    ours = books([0, 1, 2, 3, 7], [0, 1, 2, 3, 7], partitions=2)
    found = row_differences(Table({0: 1, 2: 2, 5: 1}), ours, {0: 8, 1: 0}, 5)
    assert told(found) == [
        ("no_row", 0, 3, [(1, 2), (3, 4), (7, 8)]),
        ("row_without_answer", 0, 1, [(5, 6)]),
        ("row_twice", 0, 1, [(2, 3)]),
    ]


def test_a_table_that_agrees_has_no_difference():
    assert row_differences(Table(dict.fromkeys(range(4), 1)), books(range(4), range(4)), {0: 4}, 5) == []


def test_more_ranges_than_are_named_are_counted():
    assert in_words(ranges_of([1, 2, 5, 8, 9, 10]), 2) == "offsets 1-2, 5 and 3 more"
    assert Identity(cluster_id="c", topic_id="t", partition=0, offset=1).offset == 1


def figures(*records):
    found = LedgerFigures(TOPIC)
    found.fold(records)
    return found


def test_the_ledgers_newest_word_on_each_partition_and_scenario_counts():
    older = owed_record(0, T0, book(0, owed=9, oldest_ms=T0 - 9), book(1))
    newer = owed_record(1, T0 + 1_000, book(0, owed=3, oldest_ms=T0 - 4_000))
    zombie = owed_record(2, T0 + 2_000, book(0, owed=77, oldest_ms=T0, epoch=0))
    other = owed_record(3, T0 + 2_000, book(0, owed=66, oldest_ms=T0), topic_id="older")
    rows = figures(older, newer, zombie, other).as_json(T0 + 3_000)["partitions"]
    assert [(row["partition"], row["owed"], row["oldest_owed_seconds"]) for row in rows] == [(0, 3, 7.0), (1, 0, None)]
    assert rows[0]["oldest_owed_offset"] == 99_997


def test_what_is_no_report_is_passed_over():
    broken = owed_record(0, T0)
    broken = type(broken)(broken.topic, 0, 0, T0, None, b"{", broken.headers)
    assert figures(asked(0), broken).rows == {}


def test_the_ledgers_table_shows_what_owes_first():
    many = [book(n) for n in range(ROWS_SHOWN_MAX + 9)]
    lines = figures(owed_record(0, T0, *many, book(200, owed=5, oldest_ms=T0 - 1_500))).as_text(T0)
    assert "1.5 s (offset 99995)" in lines[-2]
    assert lines[-1] == "and 10 more rows, which --json shows"
