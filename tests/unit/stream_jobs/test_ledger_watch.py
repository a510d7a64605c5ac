"""Stall and lag as stage 2 judges them: in time, by worker, and not where nothing is wrong."""

import json

import pytest

from schemas.alerts import ALERT_KINDS
from schemas.anomalies import ANOMALY_KINDS
from schemas.base import DecodeError, decode
from schemas.topics import ALERTS, ANOMALIES
from stream_jobs.settings import JobSettings
from stream_jobs.window_stage import WindowStage
from tests.ledger_records import T0, book, owed_record

WINDOW_MS = 10_000
SECOND = 1_000


class Watch:
    """A window stage that hears one report a second."""

    def __init__(self, **settings):
        self.settings = JobSettings(**settings)
        self.stage = self.new_stage()
        self.now, self.offset, self.alerts, self.anomalies, self.rows = T0, 0, [], [], []

    def new_stage(self):
        return WindowStage(self.settings, partition=0, source_topic_id="t", source_partitions=1)

    def hear(self, *books, seconds=1.0, topic_id="topic-1"):
        self.now += round(seconds * SECOND)
        effects = self.stage.apply(owed_record(self.offset, self.now, *books, topic_id=topic_id))
        self.offset += 1
        for event in effects.events:
            if event.topic == ALERTS.name:
                self.alerts.append(decode(event.headers, event.value, ALERT_KINDS).data)
            if event.topic == ANOMALIES.name:
                self.anomalies.append(decode(event.headers, event.value, ANOMALY_KINDS).data)
        self.rows.append(effects.rows)
        return self

    def healthy(self, seconds, **more):
        for _ in range(seconds):
            now = self.now + SECOND
            self.hear(book(owed=20, oldest_ms=now - 300, served_ms=now - 50, **more))
        return self

    @property
    def told(self):
        return [(alert.kind.value, alert.status.value) for alert in self.alerts]


@pytest.mark.parametrize("phase_ms", range(0, WINDOW_MS, 700))
def test_a_worker_that_stops_answering_is_called_out_within_two_windows(phase_ms):
    watch = Watch()
    watch.now += phase_ms
    watch.healthy(60, worker="w9")
    assert watch.alerts == []
    hung = watch.now
    while not watch.alerts:
        watch.hear(book(owed=(watch.now - hung) // 4, oldest_ms=hung, served_ms=hung - 50, worker="w9"))
        assert watch.now - hung <= 2 * WINDOW_MS
    (alert,) = watch.alerts
    assert watch.told == [("stall", "open")]
    assert watch.now - hung >= 15 * SECOND, "longer than the group takes to notice a dead worker"
    assert "worker w9 answers none of" in alert.summary
    assert (alert.series.scenario, alert.series.model) == ("search", "")
    (anomaly,) = watch.anomalies
    assert anomaly.anomaly_id == alert.anomaly_id
    assert anomaly.inputs[0].next_offset == 100_000
    assert watch.rows[-1]["anomalies_stored"]["kind"] == ["stall"]
    assert json.loads(watch.rows[-1]["anomalies_stored"]["state"][0])["books"][0][1] == "w9"
    watch.healthy(60)
    assert watch.told == [("stall", "open"), ("stall", "resolved")]


def test_idle_is_no_stall_nor_is_the_first_request_after_a_quiet_night():
    watch = Watch().healthy(20)
    served = watch.now
    for _ in range(2_000):
        watch.hear(book(served_ms=served), seconds=5)
    watch.hear(book(owed=1, oldest_ms=watch.now + 900, served_ms=served))
    watch.healthy(30)
    assert watch.alerts == []


def test_a_long_backlog_that_is_answered_is_lag_and_no_stall():
    watch = Watch()
    old = watch.now - 3_600 * SECOND
    for second in range(60):
        now = watch.now + SECOND
        watch.hear(book(owed=20_000, oldest_ms=old + second * 60 * SECOND, served_ms=now - 200))
    assert watch.told[0] == ("lag", "open")
    assert {kind for kind, _ in watch.told} == {"lag"}
    watch.healthy(60)
    assert watch.told[-1] == ("lag", "resolved")


def test_on_first_start_silence_counts_from_when_the_ledger_begins():
    watch = Watch()
    old, began = watch.now - 3_600 * SECOND, watch.now
    while not watch.alerts:
        watch.hear(book(owed=500, oldest_ms=old, worker=""))
    assert watch.told == [("stall", "open")]
    assert watch.now - began >= 15 * SECOND
    assert "no worker answers" in watch.alerts[0].summary


def test_what_cannot_be_read_is_no_series_of_its_own():
    watch = Watch()
    for _ in range(60):
        watch.hear(book(owed=500, oldest_ms=T0, served_ms=T0, scenario=""))
    assert watch.alerts == []


def test_silence_that_nobody_heard_does_not_count():
    """Kafka, the ledger or this job was away for minutes: the workers could not answer, or nobody knows."""
    watch = Watch().healthy(30)
    served = watch.now
    watch.hear(book(owed=8, oldest_ms=served + 100, served_ms=served), seconds=400)
    for _ in range(3):
        watch.hear(book(owed=8, oldest_ms=served + 100, served_ms=served))
    watch.healthy(30)
    assert "stall" not in {kind for kind, _ in watch.told}


def test_one_hung_worker_of_two_is_a_stall_of_its_partitions():
    watch = Watch()

    def hear(healthy, hung_at=None):
        now = watch.now + SECOND
        fine = book(0, owed=5, oldest_ms=now - 200, served_ms=now - 50, worker="a")
        other = (
            book(1, owed=5, oldest_ms=now - 200, served_ms=now - 60, worker="b")
            if healthy
            else book(1, owed=90, oldest_ms=hung_at, served_ms=hung_at - 60, worker="b")
        )
        watch.hear(fine, other)

    for _ in range(30):
        hear(True)
    hung_at = watch.now
    for _ in range(20):
        hear(False, hung_at)
    assert watch.told == [("stall", "open")]
    assert "worker b answers none of 90 owed requests of partition 1" in watch.alerts[0].summary


def test_a_partition_whose_turn_comes_late_is_no_stall_while_its_worker_answers_others():
    watch = Watch(lag_windows=100)
    turn = [watch.now, watch.now]
    for second in range(120):
        now = watch.now + SECOND
        turn[second // 20 % 2] = now - 100  # each partition is left alone for 20 s, as with small fetches
        watch.hear(*(book(n, owed=900, oldest_ms=T0 - 5_000, served_ms=turn[n]) for n in (0, 1)))
    assert watch.told == []


def test_who_answered_long_ago_may_have_left_and_a_late_turn_of_the_partition_is_no_stall():
    """A quiet partition's last worker is gone; its next request waits in the other's queue for 18 s."""
    watch = Watch()
    long_ago = watch.now
    for second in range(240):
        now = watch.now + SECOND
        fine = book(0, owed=50, oldest_ms=now - 18_000, served_ms=now - 50, worker="new")
        waits = second % 100 > 80
        quiet = book(
            1, owed=int(waits), oldest_ms=now - second % 100 % 20 * SECOND if waits else None, served_ms=long_ago
        )
        watch.hear(fine, quiet.model_copy(update={"worker": "gone"}))
    assert watch.alerts == []


def test_a_rebalance_of_workers_is_no_stall():
    """A worker dies; ten seconds later the group gives its partitions to the other, which answers at once."""
    watch = Watch().healthy(30)
    died = watch.now
    for _ in range(13):
        watch.hear(book(owed=60, oldest_ms=died, served_ms=died - 20))
    watch.healthy(30, worker="b")
    assert watch.alerts == []


def test_what_an_earlier_owner_of_the_book_still_says_is_ignored():
    watch = Watch().healthy(30, epoch=5)
    stale = watch.now
    for _ in range(30):
        now = watch.now + SECOND
        watch.hear(book(owed=5, oldest_ms=now - 100, served_ms=now - 50, epoch=5), seconds=0.5)
        watch.hear(book(owed=50, oldest_ms=stale, served_ms=stale, epoch=4), seconds=0.5)
    assert watch.alerts == []


def test_a_new_topic_begins_anew_and_ends_what_was_said_of_the_old():
    watch = Watch().healthy(5)
    hung = watch.now
    for _ in range(20):
        watch.hear(book(owed=9, oldest_ms=hung, served_ms=hung))
    assert watch.told == [("stall", "open")]
    for _ in range(60):
        watch.hear(book(epoch=1), topic_id="topic-2")
    assert watch.told == [("stall", "open"), ("stall", "resolved")]


def test_an_alert_of_which_nothing_is_heard_any_more_is_given_up():
    watch = Watch(idle_seconds=60).healthy(5)
    hung = watch.now
    for _ in range(20):
        watch.hear(book(owed=9, oldest_ms=hung, served_ms=hung))
    for _ in range(30):
        watch.hear(book(3, scenario="ads"), seconds=5)
    assert watch.told == [("stall", "open"), ("stall", "resolved")]
    assert "can no longer be judged" in watch.alerts[-1].summary


def test_a_restart_at_any_second_changes_nothing():
    def run(cut):
        watch = Watch().healthy(10)
        hung = watch.now
        for second in range(60):
            if second == cut:
                pages, watch.stage = watch.stage.all_pages(), watch.new_stage()
                watch.stage.restore(pages, watch.offset)
            served = hung if second < 30 else watch.now
            watch.hear(book(owed=50, oldest_ms=served, served_ms=served))
        return watch.alerts, watch.anomalies, watch.stage.all_pages()

    whole = run(None)
    assert {alert.status.value for alert in whole[0]} >= {"open", "resolved"}
    for cut in range(0, 60, 7):
        assert run(cut) == whole


def test_what_is_no_report_is_a_dead_letter():
    record = owed_record(0, T0)
    broken = type(record)(record.topic, 0, 0, T0, None, b'{"cluster_id": 1}', record.headers)
    with pytest.raises(DecodeError):
        Watch().stage.apply(broken)
