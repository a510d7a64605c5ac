import json

from tests.chaos.recovery import Work, recovery, report_times, seconds_after
from tests.chaos.servers import Message

ANSWERS = {0: [(900, 950), (1_100, 4_000), (1_200, 3_500)], 1: [(1_050, 1_060)]}


def work(last_asked_ms, answers=ANSWERS, windows=ANSWERS):
    return Work(answers, windows, {0: [(1_500, 1_500)]}, last_asked_ms)


def test_recovery_is_the_first_work_of_the_last_partition_that_began_after_the_kill():
    assert seconds_after(1_000, ANSWERS, [0, 1]) == 2.5
    assert seconds_after(2_000, ANSWERS, [0, 1]) is None
    assert seconds_after(1_000, ANSWERS, [0, 1, 2]) is None, "a partition that never did anything"


def test_a_kill_after_which_nothing_was_asked_says_nothing():
    told, never = recovery([("worker", 1_000), ("worker", 2_000)], work({0: 1_200, 1: 1_050}))
    assert (told, never) == ({"worker": {"kills": 1, "median": 2.5, "worst": 2.5}}, [])


def test_a_kill_after_which_a_partition_was_asked_and_gave_nothing_never_recovered():
    told, never = recovery([("worker", 1_000), ("job, the last one", 1_060)], work({0: 1_200, 1: 1_070}))
    assert told == {"worker": {"kills": 1, "median": 2.5, "worst": 2.5}}
    assert never == ["job, the last one killed at 1060"]


def test_only_partitions_that_were_asked_since_count():
    told, never = recovery([("worker", 1_060)], work({0: 1_200, 1: 1_050}))
    assert (told["worker"]["worst"], never) == (2.4, [])


def test_a_server_has_recovered_when_workers_and_jobs_have():
    told, never = recovery([("kafka", 1_000)], work({0: 1_200, 1: 1_050}, windows={0: [(1_100, 5_000)]}))
    assert (told, never) == ({}, ["kafka killed at 1000"])


def test_the_ledger_has_recovered_with_its_next_report():
    told, never = recovery([("ledger", 1_000)], work({0: 1_200}))
    assert (told["ledger"]["worst"], never) == (0.5, [])


def test_reports_are_what_the_ledger_says_of_its_partitions():
    owed = json.dumps({"partitions": [{"partition": 1}, {"partition": 3}]}).encode()
    messages = [
        Message(0, 0, 70, None, owed, {"ce_type": b"inferwatch.requests.owed.v1"}),
        Message(0, 1, 80, None, b"{", {"ce_type": b"inferwatch.windows.partial_closed.v1"}),
    ]
    assert report_times(messages) == {1: [(70, 70)], 3: [(70, 70)]}
