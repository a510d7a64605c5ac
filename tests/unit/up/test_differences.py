"""Every difference of the books names its offsets: what is owed, said by one place alone, stored twice or not."""

import pytest

from infra.ports import RetryLater, TryAgain
from infra.up.books import Books, Fate
from infra.up.differences import log_differences, owed_differences, row_differences
from infra.up.ledger_figures import ROWS_SHOWN_MAX, LedgerFigures
from infra.up.outcomes import FirstWords
from infra.up.ranges import in_words, ranges_of
from infra.up.table_sight import TableSight
from schemas.base import Identity
from tests.ledger_records import T0, TOPIC, asked, book, owed_record


class Table:
    """A table of requests: how many rows readers see of each offset of partition 0, and of which outcome."""

    def __init__(self, rows, **outcomes):
        self.rows = rows
        self.outcomes = {int(name[1:]): outcome for name, outcome in outcomes.items()}

    def query(self, sql, parameters=None):
        own = {o: (n, self.outcomes.get(o, "answered")) for o, n in self.rows.items()}
        if "starts" in parameters:
            counts = {}
            for times, outcome in own.values():
                counts[outcome] = counts.get(outcome, 0) + times
            return (), [(0, outcome, times) for outcome, times in counts.items()]
        first, after = parameters["first"], parameters["after"]
        return (), [(o, *one) for o, one in own.items() if first <= o < after and parameters["partition"] == 0]


def books(settled, observed, partitions=1):
    return books_and_words(settled, observed, partitions)[0]


def books_and_words(settled, observed, partitions=1):
    words = FirstWords()
    found = Books("c", "t", dict.fromkeys(range(partitions), 0), heard=words.take)
    found.settle([Fate(0, offset, "answered") for offset in settled])
    found.observe([Fate(0, offset, "answered") for offset in observed])
    return found, words


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
    assert ours.account({0: 3}, {0: {"answered": 3}}).balanced


def test_other_outcomes_are_named_with_their_offsets_beside_other_differences():
    ours = books([*range(12)], [0, 1])
    ours.observe([Fate(0, offset, "shed") for offset in (9, 3, 4, 5)])
    ours.observe([Fate(0, 7, "failed")])
    found = {one.kind: [] for one in log_differences(ours, {0: 12}, 5)}
    for one in log_differences(ours, {0: 12}, 5):
        found[one.kind].append((one.count, one.ranges, one.more))
    assert found == {
        "no_telemetry": [(5, [(2, 3), (6, 7), (8, 9), (10, 12)], None)],
        "other_outcome": [
            (1, [(7, 8)], {"first_answer": "answered", "telemetry": "failed"}),
            (4, [(3, 6), (9, 10)], {"first_answer": "answered", "telemetry": "shed"}),
        ],
    }


@pytest.mark.parametrize("at_once", [3, 1_000])
def test_rows_that_are_missing_alone_or_double_are_named(monkeypatch, at_once):
    monkeypatch.setattr("infra.up.differences.ROWS_AT_ONCE", at_once)
    ours, words = books_and_words([0, 1, 2, 3, 7], [0, 1, 2, 3, 7], partitions=2)
    found = row_differences(Table({0: 1, 2: 2, 5: 1}), ours, words, {0: 8, 1: 0}, 5)
    assert sorted(told(found)) == [
        ("no_row", 0, 3, [(1, 2), (3, 4), (7, 8)]),
        ("row_twice", 0, 1, [(2, 3)]),
        ("row_without_answer", 0, 1, [(5, 6)]),
    ]


@pytest.mark.parametrize("at_once", [3, 1_000])
def test_a_row_of_another_outcome_than_the_first_answer_is_named_though_the_counts_agree(monkeypatch, at_once):
    """Decision 0016's fault: the caller saw an answer, and the row says shed."""
    monkeypatch.setattr("infra.up.differences.ROWS_AT_ONCE", at_once)
    ours, words = books_and_words([0, 1, 2], [0, 1, 2])
    ours.settle([Fate(0, 4, "shed"), Fate(0, 3, "shed")])
    ours.observe([Fate(0, 4, "shed"), Fate(0, 3, "shed")])
    sight = TableSight(Table(dict.fromkeys(range(5), 1), _1="shed", _4="shed"), ours, {0: 5})
    assert ours.account({0: 5}, sight.rows()).balanced
    found = sight.differences(words, 5)
    assert [(one.kind, one.ranges, one.more) for one in found] == [
        ("row_other_outcome", [(1, 2)], {"first_answer": "answered", "row": "shed"}),
        ("row_other_outcome", [(3, 4)], {"first_answer": "shed", "row": "answered"}),
    ]
    assert found[0].text == "answered by the first answer and shed in the table: offsets 1: 1"
    assert sight.notes == []


def test_a_table_that_agrees_has_no_difference():
    ours, words = books_and_words(range(4), range(4))
    assert row_differences(Table(dict.fromkeys(range(4), 1)), ours, words, {0: 4}, 5) == []


@pytest.mark.parametrize("fault", [RetryLater("it is away"), TryAgain("none"), ValueError("wrong password")])
def test_a_table_that_is_away_is_said_once_and_not_asked_again(fault):
    asked = []

    class Away:
        def query(self, sql, parameters=None):
            asked.append(sql)
            raise fault

    ours, words = books_and_words(range(4), range(4))
    sight = TableSight(Away(), ours, {0: 4})
    assert (sight.rows(), sight.rows(), sight.differences(words, 5)) == (None, None, [])
    assert sight.notes == [f"the table could not be asked, this is the account of Kafka alone: {fault}"]
    assert len(asked) == 1


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
