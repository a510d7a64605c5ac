"""The watchdog's looks over fakes: Kafka that goes away, alerts that are told later, processes told once."""

import os

from infra.kafka.group_members import GroupSeen
from infra.metrics import HELD, HELD_MAX, WATCHDOG_ALERTS_DROPPED
from infra.ports import Fatal, InvalidRecord, RetryLater
from infra.up.group_sight import GroupSight
from infra.up.guard import Guard, Target
from infra.up.lag_alert import LagAlert, LagPolicy
from infra.up.teller import PENDING_MAX, Teller
from infra.up.watchdog import Health, WatchdogPolicy
from tests.fakes import FakeBroker, FakeClock, FakeRangeReader

POLICY = WatchdogPolicy(stalled_looks=3, silent_looks=2, dead_looks=2)


class Cluster:
    """One topic of two partitions; a group of one member per client id."""

    def __init__(self, **client_ids):
        self.client_ids, self.assignments = client_ids, {}
        self.commits = {("t", 0): 5, ("t", 1): 5}
        self.end, self.away = 10, False
        self.log = FakeBroker()
        for number in range(2 * 1_000):
            self.log.append("t", b"x", partition=number % 2)

    def group(self, group):
        if self.away:
            raise RetryLater("away")
        return GroupSeen(False, self.client_ids, self.assignments)

    def committed_all(self, group):
        return dict(self.commits)

    def ranges(self, topic):
        return {0: (0, self.end), 1: (0, self.end)}


class Outside:
    """A publisher and a table that can be away."""

    def __init__(self):
        self.away, self.events, self.rows = False, [], []

    def publish(self, topic, value, *, key=None, partition=None, headers=(), on_delivery=None):
        if self.away:
            raise RetryLater("away")
        self.events.append((topic, key))
        on_delivery(1, None)

    def flush(self, timeout_seconds):
        return 0

    def insert(self, table, columns, *, token):
        if self.away:
            raise RetryLater("away")
        self.rows.append((table, columns.get("status", columns["kind"])[0], token))


class Watched:
    def __init__(self, cluster, waiting_for=""):
        self.clock, self.cluster, self.outside = FakeClock(), cluster, Outside()
        self.health = Health(True, "", waiting_for)
        self.target = Target("jobs", os.getpid(), "http://127.0.0.1:1")
        self.sight = GroupSight(cluster, FakeRangeReader(cluster.log), "g", self.clock, lambda url: self.health)
        teller = Teller(self.outside, self.outside)
        alert = LagAlert(LagPolicy(30.0, 2), "g")
        self.guard = Guard(self.sight, lambda: [self.target], POLICY, alert, teller, self.clock)

    def looks(self, count):
        found = []
        for _ in range(count):
            self.clock.advance(10.0)
            self.guard.look()
            found.append([one.why for one in self.guard.due()])
        return found


def ours(sight_host):
    return f"inferwatch-jobs-{sight_host}-{os.getpid()}"


def member():
    import socket

    cluster = Cluster(a=ours(socket.gethostname()), b=ours("elsewhere"))
    cluster.assignments = {"a": frozenset({("t", 0)}), "b": frozenset({("t", 1)})}
    return cluster


def test_only_its_own_partitions_count_and_it_is_told_once():
    watched = Watched(member())
    said = []
    for _ in range(5):
        watched.cluster.commits["t", 1] += 1  # the other one works
        said += watched.looks(1)
    assert said[:3] == [[], [], []]
    assert said[3] == ["5 records wait and it has committed nothing, in 3 looks in which Kafka answered"]
    assert said[4] == []


def test_while_kafka_is_away_nothing_is_said_of_anybody():
    watched = Watched(member())
    watched.looks(3)
    watched.cluster.away = True
    assert watched.looks(20) == [[]] * 20
    watched.cluster.away = False
    assert watched.looks(2) == [[], []]


def test_a_process_that_the_group_has_forgotten_is_told_and_one_that_cannot_be_told_apart_is_not():
    strangers = Cluster(b=ours("elsewhere"))
    strangers.assignments = {"b": frozenset({("t", 0), ("t", 1)})}
    strangers.end = 5  # nothing is behind
    assert any("it is not in the group" in why for due in Watched(strangers).looks(4) for why in due)
    nameless = Cluster(b="somebody")
    nameless.end = 5
    assert Watched(nameless).looks(10) == [[]] * 10


def test_a_new_process_of_the_name_begins_anew():
    watched = Watched(member())
    watched.looks(3)
    watched.target = Target("jobs", 2**30, watched.target.url)
    watched.cluster.client_ids = {"a": f"x-{watched.guard._sight._host}-{2**30}"}
    assert watched.looks(3) == [[], [], []]


def test_an_alert_is_told_when_the_servers_are_back_and_not_twice():
    watched = Watched(member(), "clickhouse")
    watched.outside.away = True
    watched.looks(6)
    assert watched.outside.events == []
    watched.outside.away = False
    watched.looks(1)
    assert [topic for topic, _ in watched.outside.events] == ["anomaly.events", "alerts"]
    assert [row[:2] for row in watched.outside.rows] == [("anomalies_stored", "lag"), ("alerts_stored", "open")]
    watched.cluster.commits = {("t", 0): 10, ("t", 1): 10}
    watched.looks(3)
    assert [row[1] for row in watched.outside.rows] == ["lag", "open", "resolved"]
    assert len({row[2] for row in watched.outside.rows}) == 3, "a token each"


def test_a_publisher_that_is_broken_for_good_keeps_no_alert_from_the_table():
    watched = Watched(member(), "clickhouse")
    watched.outside.publish = broken
    watched.looks(6)
    assert [row[:2] for row in watched.outside.rows] == [("anomalies_stored", "lag"), ("alerts_stored", "open")]


def broken(*_, **__):
    raise Fatal("fenced")


def changes(count):
    """An alert that is told again and again, ever worse."""
    alert = LagAlert(LagPolicy(1.0, 1), "g")
    return [alert.look(1, 4.0 * 3.0**number, "", False, 1_000_000 + 10_000 * number) for number in range(count)]


def dropped(what, reason):
    return WATCHDOG_ALERTS_DROPPED.labels(what, reason).read() or 0.0


def test_what_nobody_takes_is_bounded_and_what_is_dropped_is_counted():
    outside = Outside()
    outside.away = True
    teller = Teller(outside, outside)
    before = dropped("alert_events", "too_many"), dropped("alert_rows", "too_many")
    for told in changes(30) * 5:
        teller.tell(told)
    assert HELD.labels("alert_events").read() == PENDING_MAX == HELD_MAX.labels("alert_events").read()
    gone = 2 * 30 * 5 - PENDING_MAX
    after = dropped("alert_events", "too_many"), dropped("alert_rows", "too_many")
    assert after == (before[0] + gone, before[1] + gone)
    outside.away = False
    teller.tell(None)
    assert len(outside.events) == len(outside.rows) == PENDING_MAX
    assert HELD.labels("alert_rows").read() == 0


def test_what_is_refused_is_counted_and_holds_up_nothing_behind_it():
    outside = Outside()
    teller, take = Teller(outside, outside), outside.insert
    before = dropped("alert_rows", "refused")

    def insert(table, columns, *, token):
        if table == "anomalies_stored":
            raise InvalidRecord("no such column")
        take(table, columns, token=token)

    outside.insert = insert
    teller.tell(changes(1)[0])
    assert [row[0] for row in outside.rows] == ["alerts_stored"]
    assert dropped("alert_rows", "refused") == before + 1


def test_offsets_that_hold_no_record_are_nothing_to_be_behind_of():
    """What a transaction leaves behind its records: nobody gets it, so nobody commits it."""
    watched = Watched(member())
    for number in (0, 1):
        for offset in range(5, 10):
            watched.cluster.log.delete("t", number, offset)
    assert watched.looks(20) == [[]] * 20
    assert (watched.sight.behind, watched.sight.lag_seconds) == (0, 0.0)
    assert watched.outside.events == []
