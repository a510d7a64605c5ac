import pytest

from tests.chaos.accounts import account, check_audit, check_books, is_whole
from tests.chaos.checker import Log, Verdict


@pytest.fixture
def log():
    """Six requests of partition 0: 0 and 1 are deleted, 1 expired; and one of a topic that was deleted."""
    final = {("T", 0, number): (outcome, "") for number, outcome in ((0, "answered"), (2, "shed"), (3, "failed"))}
    final |= {("T", 0, 4): ("dead_lettered", ""), ("T", 0, 5): ("answered", ""), ("S", 0, 1): ("answered", "")}
    return Log("T", {0: 2}, {}, final)


def told(**changed):
    """What `inferwatch books --json` says when it is right."""
    row = {"partition": 0, "scenario": "a", "first_offset": 0, "asked": 6, "answered": 2, "failed": 1, "shed": 1}
    row |= {"dead_lettered": 1, "expired": 1, "owed": 0}
    books = {"sent": 4, "answered": 1, "failed": 1, "shed": 1, "dead_lettered": 1, "owed": 0, "ranges": {"0": [2, 6]}}
    return books | {"ledger": {"partitions": [row]}} | changed


def differences(books, log):
    verdict = Verdict()
    check_books(books, log, {0: 6}, verdict)
    return verdict.books_differ


def test_what_is_gone_without_an_end_is_expired_and_what_is_there_without_one_is_owed(log):
    assert account(log, 0, 0, 8)["expired"] == 1
    assert account(log, 0, 0, 8)["owed"] == 2
    assert +account(log, 0, 2, 6) == {"asked": 4, "shed": 1, "failed": 1, "dead_lettered": 1, "answered": 1}


def test_books_that_are_right_differ_in_nothing(log):
    assert differences(told(), log) == 0


def test_what_was_deleted_and_is_there_again_is_expired_for_the_ledger_and_owed_for_the_books(log):
    again = told(sent=6, answered=2, owed=1, ranges={"0": [0, 6]})
    assert differences(again, log) == 0
    assert differences(again | {"owed": 0}, log) == 1
    assert differences(again | {"sent": 5}, log) == 1


def test_scenarios_are_added_up(log):
    (row,) = told()["ledger"]["partitions"]
    other = dict.fromkeys(("asked", "answered", "failed", "shed", "dead_lettered", "expired", "owed"), 0)
    first, second = row | {"asked": 5, "shed": 0}, row | other | {"scenario": "b", "asked": 1, "shed": 1}
    assert differences(told(ledger={"partitions": [first, second]}), log) == 0


@pytest.mark.parametrize("name", ["asked", "answered", "failed", "shed", "dead_lettered", "expired", "owed"])
def test_each_count_of_the_ledger_is_compared(log, name):
    books = told()
    books["ledger"]["partitions"][0][name] += 1
    assert differences(books, log) == 1


@pytest.mark.parametrize("name", ["sent", "answered", "failed", "shed", "dead_lettered", "owed"])
def test_each_count_of_the_books_is_compared(log, name):
    assert differences(told(**{name: told()[name] + 1}), log) == 1


def test_a_ledger_that_says_nothing_differs(log):
    assert differences(told(ledger=None), log) == 1
    assert not is_whole(told(ledger=None), {0: 6})


def test_books_are_whole_when_all_is_counted_and_nothing_owed():
    assert is_whole(told(), {0: 6})
    assert not is_whole(told(), {0: 7})
    assert not is_whole(told(), {0: 6, 1: 0})


def audited(**changed):
    audit = {"agrees": True, "rows_matched": 5, "windows_matched": 2, "owed": 0, "differences": []} | changed
    verdict = Verdict(figures={"rows_of_the_topic": 5})
    check_audit(audit, verdict)
    return verdict


def test_the_audit_agrees_when_it_says_so_of_as_many_rows_as_were_seen():
    assert audited().is_clean
    assert not audited(rows_matched=4).is_clean
    difference = {"kind": "doubled", "partition": 1, "count": 3}
    verdict = audited(agrees=False, differences=[difference])
    assert (verdict.audit_agrees, verdict.is_clean) == (False, False)
    assert "doubled in partition 1: 3" in verdict.named["audit"]
