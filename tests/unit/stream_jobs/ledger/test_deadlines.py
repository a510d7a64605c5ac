"""Answers after the deadline of their request are counted as late, in whatever order the topics are read."""

import orjson
import pytest

from stream_jobs.ledger import deadlines
from stream_jobs.ledger.deadlines import Deadlines
from stream_jobs.ledger.partition_ledger import BookStart, PartitionLedger
from tests.ledger_records import CLUSTER, T0, TOPIC, asked, dead_letter, predicted


def ledger():
    return PartitionLedger(CLUSTER, TOPIC, 0, BookStart(0, 0, 0))


def restarted(one):
    pages = one.pages()
    again = ledger()
    again.restore(pages)
    return again


def late(one):
    (row,) = one.told(1, one.next_offset).scenarios
    return row.late, row.answered


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["request first", "answer first"])
@pytest.mark.parametrize("restarts", [False, True])
@pytest.mark.parametrize(("waited_ms", "count"), [(99, 0), (100, 0), (101, 1)])
def test_an_answer_after_the_deadline_is_late(order, restarts, waited_ms, count):
    both = [asked(0, timeout_ms=100), predicted(0, 0, at_ms=T0 + waited_ms)]
    one = ledger()
    for at in order:
        one.fold([both[at]])
        one = restarted(one) if restarts else one
    one.fold([predicted(1, 0, at_ms=T0 + 900)])  # again: the first counts
    assert late(one) == (count, 1)


@pytest.mark.parametrize("timeout", [{}, {"timeout_ms": 0}, {"timeout_ms": True}, {"timeout_ms": "9"}])
def test_without_a_deadline_nothing_is_late(timeout):
    one = ledger()
    one.fold([asked(0, **timeout), predicted(0, 0, at_ms=T0 + 10**9)])
    assert late(one) == (0, 1)


@pytest.mark.parametrize("outcome", ["failed", "shed", "dead_lettered"])
def test_what_is_no_answer_is_not_late(outcome):
    one, request = ledger(), asked(0, timeout_ms=100)
    told = dead_letter(0, request, at_ms=T0 + 900) if outcome == "dead_lettered" else None
    one.fold([request, told or predicted(0, 0, outcome=outcome, at_ms=T0 + 900)])
    assert late(one) == (0, 0)


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (0, 2, 1), (2, 1, 0), (1, 2, 0), (2, 0, 1)])
@pytest.mark.parametrize("restarts", [False, True])
def test_an_answer_beside_a_dead_letter_is_late_in_any_order(order, restarts):
    request = asked(0, timeout_ms=100)
    records = [request, dead_letter(0, request), predicted(0, 0, at_ms=T0 + 101)]
    one = ledger()
    for at in order:
        one.fold([records[at]])
        one = restarted(one) if restarts else one
    assert late(one) == (1, 1)


def test_a_book_of_before_is_gone_on_with():
    one = ledger()
    one.fold([asked(0), asked(1, timeout_ms=100), predicted(0, 0)])
    pages = one.pages()
    del pages["deadlines"]
    book = orjson.loads(pages["book"])
    book["accounts"] = {name: row[:-1] for name, row in book["accounts"].items()}
    again = ledger()
    again.restore(pages | {"book": orjson.dumps(book)})
    again.fold([predicted(1, 1, at_ms=T0 + 900), asked(2, timeout_ms=100), predicted(2, 2, at_ms=T0 + 900)])
    assert late(again) == (1, 3), "the deadline of what the old book held is not known"


def test_nothing_is_kept_of_what_has_an_end_or_is_expired():
    one = ledger()
    one.fold([asked(n, timeout_ms=100) for n in range(6)])
    one.fold([predicted(n, n, outcome=how) for n, how in enumerate(("answered", "failed", "shed"))])
    one.fold([predicted(3, 9)])
    assert (list(one._deadlines._due), list(one._deadlines._early)) == ([3, 4, 5], [9])
    one.note_first_kept(20)
    one.expire()
    assert (one._deadlines._due, one._deadlines._early) == ({}, {})


def test_answers_that_wait_for_their_requests_are_bounded_and_their_state_is_small(monkeypatch):
    monkeypatch.setattr(deadlines, "EARLY_MAX", 3)
    one = Deadlines()
    for n in range(5):
        one.note_early(n, 100)
    assert [one.was_late(n, 50) for n in range(5)] == [False, False, True, True, True]
    monkeypatch.undo()
    full = Deadlines()
    for n in range(10**12, 10**12 + 2 * deadlines.EARLY_MAX):
        full.note_early(n, T0)
        full.expect(n, T0)
    assert len(full.to_bytes(range(10**12, 10**12 + 3_000))) <= 262_144


@pytest.mark.parametrize("raw", [b"[]", b"{", b'{"due": 1, "early": []}', b'{"due": [[1]], "early": []}'])
def test_a_broken_state_is_a_value_error(raw):
    with pytest.raises(ValueError):
        Deadlines.from_bytes(raw)
