"""What a book makes of odd records, bounds and broken state; the account itself is in the laws."""

import json
from dataclasses import replace

import pytest

from infra.offset_set import PAGE_OFFSETS
from infra.ports import Record
from schemas.owed import OTHER, SCENARIOS_MAX, UNREAD
from schemas.topics import PREDICTIONS, REQUESTS
from stream_jobs.ledger import partition_ledger
from stream_jobs.ledger.partition_ledger import BookStart, PartitionLedger
from tests.ledger_records import CLUSTER, T0, TOPIC, asked, dead_letter, predicted


def ledger(start=0):
    return PartitionLedger(CLUSTER, TOPIC, 0, BookStart(start, 0, 0))


def rows(one):
    return {row.scenario: row for row in one.told(1, one.next_offset).scenarios}


def test_an_answer_that_is_read_before_its_request_settles_it():
    one = ledger()
    one.fold([predicted(0, 1)])
    one.fold([asked(0), asked(1)])
    assert (rows(one)["search"].asked, rows(one)["search"].answered, rows(one)["search"].owed) == (2, 1, 1)
    assert rows(one)["search"].oldest_offset == 0


def test_answers_of_another_topic_id_partition_or_form_are_not_ours():
    one = ledger()
    odd = [b"", b"[]", b"\xff", b'{"request": 1}', b'{"request": {"offset": "0"}, "scenario": "search"}']
    headers = (("ce_type", b"inferwatch.inference.answered.v1"),)
    strange = [Record(PREDICTIONS.name, 0, 2 + n, T0, None, value, headers) for n, value in enumerate(odd)]
    unknown = Record(PREDICTIONS.name, 0, 7, T0, None, predicted(0, 0).value, (("ce_type", b"other"),))
    astray = replace(predicted(1, 0, partition=1), partition=0)
    one.fold([asked(0), predicted(0, 0, topic_id="older"), astray, *strange, unknown])
    assert rows(one)["search"].owed == 1
    assert one.positions[PREDICTIONS.name, 0] == 8
    one.fold([predicted(8, 0)])
    assert rows(one)["search"].owed == 0


def test_dead_letters_of_other_topics_and_partitions_are_not_ours():
    one = ledger()
    one.fold([asked(0), dead_letter(0, asked(0), topic="inference.telemetry"), dead_letter(1, asked(0), partition=2)])
    assert rows(one)["search"].owed == 1
    one.fold([dead_letter(2, asked(0))])
    assert rows(one)["search"].dead_lettered == 1


def test_a_dead_letter_of_a_topic_that_was_deleted_hides_no_request_of_the_one_made_anew():
    one = ledger()
    one.fold([asked(0), dead_letter(0, asked(0), topic_id="older")])
    assert rows(one)["search"].owed == 1
    one.fold([dead_letter(1, asked(0), topic_id=TOPIC)])
    assert (rows(one)["search"].dead_lettered, one.repeated) == (1, 0)


def test_an_answer_counts_before_a_dead_letter_whichever_is_read_first():
    for order in ([0, 1], [1, 0]):
        one, both = ledger(), [predicted(0, 0), dead_letter(0, asked(0))]
        one.fold([asked(0)])
        for at in order:
            one.fold([both[at]])
        row = rows(one)["search"]
        assert (row.answered, row.dead_lettered, one.repeated) == (1, 0, 1)


def test_only_what_was_computed_is_a_sign_of_life():
    one = ledger()
    one.fold([asked(n) for n in range(5)])
    quiet = [predicted(0, 0, outcome="shed", at_ms=T0 + 1), predicted(1, 1, cached=True, at_ms=T0 + 2)]
    one.fold([*quiet, dead_letter(0, asked(2), at_ms=T0 + 3)])
    assert one.served_ms is None
    one.fold([predicted(2, 3, outcome="failed", at_ms=T0 + 4, worker="w7")])
    assert (one.served_ms, one.worker) == (T0 + 4, "w7")
    one.fold([predicted(3, 4, at_ms=T0 + 5, worker="w8")])
    assert (one.served_ms, one.worker) == (T0 + 5, "w8")


def test_what_retention_takes_is_expired_and_what_never_was_is_absent():
    one = ledger()
    one.fold([asked(0), asked(1), asked(2, scenario="ads")])
    one.fold([asked(5)])  # 3 and 4: a transaction's markers
    assert one.absent == 2
    one.note_first_kept(9)
    one.fold([predicted(0, 0), predicted(1, 7)])  # 7 was answered, and deleted before its request was read
    one.fold([asked(10)])
    one.expire()
    found = rows(one)
    assert (found["search"].expired, found["ads"].expired) == (2, 1)  # 1, 5 and 2
    assert (found[UNREAD].asked, found[UNREAD].expired) == (3, 2)  # 6, 7 and 8, of which 7 has an answer
    assert (one.absent, found["search"].owed) == (3, 1)


def expired_book():
    """Of 0 and 1 retention took what was read and owed, of 2 and 3 what was not, before the book had read on."""
    one = ledger()
    one.fold([asked(0), asked(1)])
    one.note_first_kept(4)
    one.fold([asked(4)])
    one.expire()
    return one


@pytest.mark.parametrize("restarts", [False, True])
def test_what_expired_and_is_answered_after_all_is_answered_once(restarts):
    one = expired_book()
    assert (rows(one)["search"].expired, rows(one)[UNREAD].expired) == (2, 2)
    if restarts:
        one, before = ledger(), one
        one.restore(before.pages())
    one.fold([predicted(0, 1), predicted(1, 1), predicted(2, 1, outcome="shed")])
    found = rows(one)
    assert (found["search"].asked, found["search"].answered, found["search"].expired) == (3, 1, 1)
    one.fold([predicted(3, 2), predicted(4, 3)])
    assert sum(row.expired for row in rows(one).values()) == 1
    assert sum(row.answered for row in rows(one).values()) == 3
    assert sum(row.asked for row in rows(one).values()) == 5
    assert rows(one)["search"].owed == 1
    one.expire()
    assert sum(row.expired for row in rows(one).values()) == 1


def test_an_answer_that_names_another_scenario_ends_what_expired_too():
    one = expired_book()
    one.fold([predicted(0, 0, scenario="ads"), predicted(1, 1, scenario="ads"), predicted(2, 2), predicted(3, 3)])
    assert sum(row.expired for row in rows(one).values()) == 0
    assert {name: row.answered for name, row in rows(one).items()} == {"ads": 2, "search": 2, UNREAD: 0}


def test_what_is_there_again_after_it_expired_is_not_owed_again():
    one = expired_book()
    before = rows(one)
    one.fold([asked(1), asked(2)])
    assert rows(one) == before
    one.fold([predicted(0, 1)])
    assert rows(one)["search"].expired == 1


def test_which_requests_expired_is_forgotten_where_it_would_take_much(monkeypatch):
    monkeypatch.setattr(partition_ledger, "EXPIRED_PAGES_MAX", 3)
    one = expired_book()
    one.fold([predicted(n, n * PAGE_OFFSETS + 5) for n in range(2)])
    one.fold([predicted(2, 0)])
    assert rows(one)["search"].expired == 1
    one.fold([predicted(n, n * PAGE_OFFSETS + 5) for n in range(3, 6)])
    one.fold([predicted(9, 1)])  # too late to tell
    assert (rows(one)["search"].expired, one.given_up) == (1, 0)


def test_a_book_of_before_goes_on_expiring():
    one = ledger()
    one.fold([asked(0), asked(1), predicted(0, 0)])
    one.note_first_kept(4)
    pages = one.pages()
    book = json.loads(pages["book"])
    del book["expired_below"]
    other = ledger()
    other.restore(pages | {"book": json.dumps(book).encode()})
    other.expire()
    assert sum(row.expired for row in rows(other).values()) == 3
    assert sum(row.asked for row in rows(other).values()) == 4


def test_no_more_requests_are_read_while_too_many_wait(monkeypatch):
    monkeypatch.setattr(partition_ledger, "HELD_MAX", 3)
    one = ledger()
    one.fold([asked(n) for n in range(3)])
    assert one.is_full
    assert one.told(1, 10).unread == 7
    one.fold([predicted(0, 1)])
    assert not one.is_full


def test_more_scenarios_than_the_bound_share_one_account():
    one = ledger()
    count = SCENARIOS_MAX + 20
    one.fold([asked(n, scenario=f"s{n}") for n in range(count)])
    found = rows(one)
    assert len(found) < SCENARIOS_MAX
    assert sum(row.asked for row in found.values()) == count
    assert found[OTHER].owed > 20
    one.fold([predicted(n, n, scenario=f"s{n}") for n in range(count)])
    assert sum(row.answered for row in rows(one).values()) == count
    assert not any(row.owed for row in rows(one).values())


def test_settled_offsets_with_too_many_holes_are_bounded_and_said(monkeypatch):
    monkeypatch.setattr(partition_ledger, "SETTLED_BYTES_MAX", 3_500)
    one = ledger()
    one.fold([asked(n) for n in range(10)])
    one.fold([predicted(n, n * PAGE_OFFSETS + 5) for n in range(8)])
    assert one.given_up > 0
    assert len(one.pages()["settled"]) <= 3_500
    assert sum(row.owed for row in rows(one).values()) == 0


def test_a_book_is_small_whatever_is_owed():
    one = ledger()
    one.fold([asked(n, scenario=f"s{n % 100}") for n in range(30_000)])
    assert max(len(page) for page in one.pages().values()) <= 262_144


@pytest.mark.parametrize(
    "change", [lambda p: p.pop("book"), lambda p: p.update(book=b"{}"), lambda p: p.update(settled=b"x")]
)
def test_a_broken_state_is_a_value_error(change):
    one = ledger()
    one.fold([asked(0)])
    pages = one.pages()
    change(pages)
    with pytest.raises(ValueError):
        ledger().restore(pages)


def test_records_that_were_taken_already_change_nothing():
    one = ledger()
    records = [asked(0), asked(1), predicted(0, 0), dead_letter(0, asked(1))]
    one.fold(records)
    before = one.pages()
    one.fold(records)
    assert one.pages() == before
    assert one.positions[REQUESTS.name, 0] == 2
