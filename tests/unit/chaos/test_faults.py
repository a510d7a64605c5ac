"""What faults do to processes, seen on processes that are none."""

import signal
from random import Random

import pytest

from schemas import topics
from tests.chaos import faults as f
from tests.chaos import topic_faults as t
from tests.chaos.checker import Deleted, Sent
from tests.chaos.cluster import SESSION_MS


class Process:
    def __init__(self, name):
        self.name, self.alive, self.works, self.wanted = name, True, True, True
        self.facts = {"java_pid": 77} if name == "kafka" else None
        self.signals, self.stands_still = [], False
        self.said = "is ended and started again ... assigned"

    def kill(self):
        self.alive = False

    def start(self):
        self.alive = True

    def stop(self, seconds=0.0):
        self.alive = self.wanted = False

    def signal(self, number, pid=None):
        self.signals.append((number, pid))

    def log(self):
        return self.said


class Cluster:
    """Started again are those that were killed, whenever time passes."""

    def __init__(self, folder):
        self.folder, self.environment = folder, {"CHAOS_PATCHES": "some"}
        self.workers, self.jobs, self.ledgers = ([Process(f"{kind}-{n}") for n in (1, 2)] for kind in ("w", "j", "l"))
        self.kafka, self.clickhouse = Process("kafka"), Process("clickhouse")
        self.armed, self.given, self.zombies_write = [], {}, True
        self.takes_over = "taken over at"

    def wait(self, seconds):
        for one in [*self.workers, *self.jobs, *self.ledgers]:
            one.start()
        for one in self.jobs:
            one.said += f", {self.takes_over}"

    def until(self, condition, what, seconds):
        self.wait(seconds)
        assert condition(), what

    def arm(self, name):
        self.armed.append(name)

    def disarm(self, name):
        self.armed.remove(name)

    def is_marked(self, name):
        return name in self.armed

    def continue_stopped(self):
        if self.zombies_write:
            (self.folder / "zombie-wrote").touch()
        return lambda: not self.zombies_write

    def new_worker(self, number, **more):
        return Process(f"w-{number}")

    def new_job(self, number):
        return Process(f"j-{number}")

    def watched_worker(self, number, **more):
        self.given = more
        return Process(f"watched-{number}")


@pytest.fixture
def run(tmp_path):
    return f.Run(Cluster(tmp_path), None, Random(1))


def killed(run, fault):
    fault.start(run)
    fault.heal(run)
    return [kind for kind, _ in run.kills]


@pytest.mark.parametrize("kind", ["worker", "job", "ledger", "clickhouse"])
def test_a_kill_is_noted_with_its_time(run, kind):
    assert killed(run, f.Kill(kind)) == [kind]


def test_what_is_killed_of_kafka_is_the_process_that_serves(run):
    assert killed(run, f.Kill("kafka")) == ["kafka"]
    assert run.cluster.kafka.signals == [(signal.SIGKILL, 77)]


def test_kills_inside_other_faults_are_noted_too(run):
    assert killed(run, f.KillTwo()) == ["worker", "job"]
    run.kills.clear()
    run.cluster.wait(1.0)
    assert killed(run, f.ZombieBeforeManifest()) == ["every job"] * 2


def test_a_zombie_that_ends_and_does_not_write_is_over_too(run):
    run.cluster.wait(1.0)
    run.cluster.zombies_write = False
    assert killed(run, f.ZombieBeforeManifest()) == ["every job"] * 2


def test_a_zombie_that_nobody_takes_the_place_of_is_continued_all_the_same(run, tmp_path):
    run.cluster.takes_over = "nothing"
    with pytest.raises(AssertionError, match="another job owns"):
        f.ZombieBeforeManifest().start(run)
    assert (tmp_path / "zombie-wrote").exists()
    assert run.cluster.armed == []


@pytest.mark.parametrize("kind", ["worker", "job", "ledger"])
def test_a_zombie_is_stopped_for_longer_than_its_session_continued_and_not_killed(run, kind):
    fault = f.Zombie(kind)
    assert fault.seconds * 1000 > SESSION_MS
    assert killed(run, fault) == []
    assert fault.one in {"worker": run.cluster.workers, "job": run.cluster.jobs, "ledger": run.cluster.ledgers}[kind]
    assert fault.one.signals == [(signal.SIGSTOP, None), (signal.SIGCONT, None)]


def test_a_storm_kills_three_pairs_and_leaves_as_many_processes_as_before(run):
    assert killed(run, f.Storm()) == ["worker", "job"] * 3
    assert [len(run.cluster.workers), len(run.cluster.jobs)] == [2, 2]
    assert [one.name for one in run.cluster.workers] == ["w-1", "w-2"]


def test_a_kill_that_leaves_no_peer_is_counted_apart(run):
    run.cluster.workers[1].works = False
    run.kill("worker", run.cluster.workers[0])
    assert [kind for kind, _ in run.kills] == ["worker, the last one"]


def test_who_is_dead_is_not_killed_again(run):
    run.cluster.workers[0].alive = False
    run.kill("worker", run.cluster.workers[0])
    assert run.kills == []


def test_a_frozen_server_goes_on_afterwards(run):
    fault = f.Frozen("kafka", 70.0)
    fault.start(run)
    fault.heal(run)
    assert run.cluster.kafka.signals == [(signal.SIGSTOP, 77), (signal.SIGCONT, 77)]
    assert run.kills == []


def test_a_hung_engine_is_that_of_a_third_worker_alone_which_leaves_afterwards(run):
    fault = f.HungEngine()
    fault.start(run)
    assert [one.name for one in run.cluster.workers] == ["w-1", "w-2", "watched-3"]
    assert run.cluster.given == {"CHAOS_PATCHES": "some hang_for_good"}
    assert run.cluster.armed == ["hang_for_good"]
    fault.heal(run)
    assert [one.name for one in run.cluster.workers] == ["w-1", "w-2"]
    assert not fault.watched.alive


def test_poison_goes_to_all_that_workers_and_jobs_read_but_requests_which_are_in_the_traffic():
    worked_on = {topic.name for topic in topics.DECLARED if topic.processed and not topic.name.endswith("letters")}
    assert worked_on - set(t.READ) == {"inference.requests"}


class Workload:
    bootstrap, topic_id, expected_gone = "nowhere", "T", 0

    def __init__(self, deleted, acknowledged=()):
        self.deleted, self.acknowledged = deleted, acknowledged
        self.paused, self.calls = False, []

    def flush(self):
        self.calls.append("flush")

    def send(self):
        self.calls.append("send")

    def ask_topic_id(self):
        self.topic_id = "U"


class Servers:
    """Kafka, of which only what a fault asks and does is there."""

    def __init__(self, bootstrap, clickhouse):
        pass

    def committed(self, group, topic, topic_id):
        return {0: 5, 1: 7}


class Admin:
    deleted = []

    def __init__(self, config):
        pass

    def delete_topics(self, names, operation_timeout):
        self.deleted.append(names)
        return {}

    def delete_records(self, places):
        self.deleted.append([(one.topic, one.partition, one.offset) for one in places])
        return {}


@pytest.fixture
def kafka(monkeypatch):
    monkeypatch.setattr(t, "Servers", Servers)
    monkeypatch.setattr(t, "AdminClient", Admin)
    monkeypatch.setattr(Admin, "deleted", [])
    return Admin.deleted


def test_before_the_topic_is_deleted_it_is_noted_how_far_the_workers_came(run, kafka):
    run.workload = Workload(Deleted())
    run.cluster.inferwatch = lambda *given: kafka.append(given)
    t.TopicMadeAnew(3).start(run)
    assert run.workload.calls == ["send"] * 3 + ["flush"]
    assert kafka == [["inference.requests"], ("topics", "apply")]
    assert [run.workload.deleted.may_expire(("T", 0, offset)) for offset in (4, 5, 999)] == [False, True, True]
    assert not run.workload.deleted.may_expire(("U", 0, 5))
    assert (run.workload.topic_id, run.workload.paused) == ("U", False)


def test_retention_takes_what_is_above_the_commits_and_keeps_the_last(run, kafka):
    run.workload = Workload(Deleted(), [Sent("T", 0, offset, "") for offset in range(20)] + [Sent("S", 0, 99, "")])
    fault = t.RetentionPasses()
    fault.start(run)
    assert not any(one.alive for one in run.cluster.workers)
    fault.heal(run)
    assert kafka == [[("inference.requests", 0, 16)]]
    assert [run.workload.deleted.may_expire(("T", 0, offset)) for offset in (4, 5, 15, 16)] == [0, 1, 1, 0]
    assert run.workload.expected_gone == 11
    assert all(one.wanted for one in run.cluster.workers)
