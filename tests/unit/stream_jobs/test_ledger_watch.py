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
    assert watch.rows[-1]["anomalies_stored"]["score_kind"] == [anomaly.score.score_kind.value] == ["strength"]
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


class Site:
    """Workers with partitions, each with its backlog, seen once a second: who answers moves on, who hangs does not."""

    def __init__(self, watch, late_ms, **owners):
        """`owners`: partitions by worker. `late_ms`: how old is what they owe while they answer it."""
        self.watch, self.late_ms = watch, late_ms
        self.last = {number: (worker, watch.now) for worker, numbers in owners.items() for number in numbers}

    def second(self, *silent, owed=50):
        """A second in which all partitions but these are answered by who answered them last."""
        now = self.watch.now + SECOND
        for number, (worker, _) in self.last.items():
            if number not in silent:
                self.last[number] = (worker, now - 50)
        self.watch.hear(
            *(
                book(n, owed=owed, oldest_ms=max(T0 - 90_000, served - self.late_ms), served_ms=served, worker=worker)
                for n, (worker, served) in self.last.items()
            )
        )
        return self

    def run(self, seconds, *silent):
        for _ in range(seconds):
            self.second(*silent)
        return self

    def answers(self, worker, number):
        """From now on this worker answers the partition."""
        self.last[number] = (worker, self.watch.now)


def stalls(watch):
    return [alert for alert in watch.alerts if alert.kind.value == "stall"]


LATE = pytest.mark.parametrize("late_ms", [200, 12_000, 40_000, 80_000], ids=lambda ms: f"others are {ms} ms late")


@LATE
@pytest.mark.parametrize("phase_ms", range(0, WINDOW_MS, 700))
def test_a_hung_worker_is_called_out_within_two_windows_however_late_the_others_are(phase_ms, late_ms):
    watch = Watch()
    watch.now += phase_ms
    site = Site(watch, late_ms, a=[0, 1], b=[2, 3]).run(40)
    assert "stall" not in {kind for kind, _ in watch.told}
    hung = watch.now
    while not stalls(watch):
        site.second(2, 3)
        assert watch.now - hung <= 2 * WINDOW_MS
    assert watch.now - hung >= 14 * SECOND
    assert "worker b answers none of 100 owed requests of partitions 2, 3" in stalls(watch)[0].summary


@pytest.mark.parametrize("phase_ms", range(0, WINDOW_MS, 1_900))
def test_who_left_is_no_stall_while_the_others_are_late_and_their_turn_comes(phase_ms):
    """Its partitions went to another that has a backlog, and answers one after the other for the first time."""
    watch = Watch()
    watch.now += phase_ms
    site = Site(watch, 60_000, a=[0], b=[1, 2, 3]).run(40)
    site.run(6, 1, 2, 3).answers("a", 1)
    site.run(8, 2, 3).answers("a", 2)
    site.run(8, 3).answers("a", 3)
    site.run(40)
    assert stalls(watch) == []


@pytest.mark.parametrize("phase_ms", range(0, WINDOW_MS, 700))
def test_who_hangs_through_a_rebalance_is_called_out_within_two_windows_of_it(phase_ms):
    """One of its partitions went to another: where all are late the silence counts from there."""
    for late_ms, allowed_ms in ((60_000, 2 * WINDOW_MS + 10 * SECOND), (200, 2 * WINDOW_MS)):
        watch = Watch()
        watch.now += phase_ms
        site = Site(watch, late_ms, a=[0], b=[1, 2]).run(40)
        hung = watch.now
        site.run(10, 1, 2).answers("a", 1)
        while not stalls(watch):
            site.second(2)
            assert watch.now - hung <= allowed_ms, late_ms
        assert "worker b answers none" in stalls(watch)[0].summary


def test_however_often_partitions_move_a_hung_worker_is_called_out_within_three_windows_and_a_look():
    watch = Watch()
    site = Site(watch, 60_000, a=[0], b=[*range(1, 9)]).run(40)
    hung = watch.now
    for number in range(1, 8):  # another of its partitions moves every 5 s
        site.run(5, *range(number, 9)).answers("a", number)
    site.run(2, 8)
    (alert,) = stalls(watch)
    assert alert.opened_ms - hung <= 3 * WINDOW_MS + WINDOW_MS // 4


@pytest.mark.parametrize("phase_ms", range(0, WINDOW_MS, 700))
def test_who_never_answered_is_called_out_where_its_partitions_were_answered_by_a_prompt_one(phase_ms):
    """A new worker takes half of the partitions over and hangs from its first batch on."""
    watch = Watch()
    watch.now += phase_ms
    site = Site(watch, 200, a=[0, 1]).run(40)
    hung = watch.now
    while not stalls(watch):
        site.second(1)
        assert watch.now - hung <= 2 * WINDOW_MS
    assert "no worker answers any of 50 owed requests of partition 1" in stalls(watch)[0].summary
    assert watch.now - hung >= 14 * SECOND


def test_a_single_request_that_takes_long_is_no_sign_that_its_worker_lost_the_partition():
    watch = Watch()
    site = Site(watch, 200, a=[0, 1]).run(40)
    for _ in range(40):
        site.second(1, owed=3)
    assert stalls(watch) == []


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
