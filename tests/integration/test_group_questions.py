"""Questions about groups, asked all the time while Kafka stops and comes back: an answer or a refusal, and no crash.

librdkafka's admin client answers them with a null pointer when a broker says that it is not, or not yet, the group's
coordinator (SIGSEGV), and with a failed assertion when the answer comes after it was given up (SIGABRT): the process
that asked was gone, as the worker's scaling watch was after some outages.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.kafka import KafkaCluster, KafkaLog, KafkaPublisher, KafkaTail
from infra.kafka.connection import REQUEST_SECONDS
from infra.kafka.group_members import GroupSeen
from infra.kafka.log import LAST_SECONDS
from infra.kafka.topic_admin import KafkaTopicAdmin
from infra.ports import RetryLater
from infra.settings import KafkaSettings
from infra.topic_plan import CreateTopic
from schemas.topics import Topic
from tests.parts import takes_long

ROOT = Path(__file__).resolve().parents[2]
RESTARTS, STANDSTILLS = 3, 2
ANSWER_SECONDS = 60.0
ASKING = """
import faulthandler, signal, sys, time
from infra.kafka import KafkaCluster
from infra.ports import RetryLater
from infra.settings import KafkaSettings

faulthandler.register(signal.SIGUSR1, file=sys.stdout)
cluster = KafkaCluster(KafkaSettings(bootstrap_servers=sys.argv[1]))
while True:
    try:
        print("answer", cluster.committed("a-group", "asked"), cluster.members("a-group"), flush=True)
    except RetryLater as error:
        print("later", error, flush=True)
    time.sleep(0.02)
"""


class Broker:
    """An embedded Kafka that is stopped and started on one folder."""

    def __init__(self, folder):
        self.folder, self.port = folder, 0
        self.start()

    def start(self):
        command = [sys.executable, "-m", "infra.embedded.broker", "--data", str(self.folder), "--port", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.facts = json.loads(self.process.stdout.readline())
        self.servers = self.facts["bootstrap_servers"]
        self.port = int(self.servers.rpartition(":")[2])

    def stop(self):
        self.process.terminate()
        self.process.wait(30)
        self.process.stdout.close()


@pytest.fixture
def broker(tmp_path, kafka):  # with `kafka`: the jars are there, or it is said that they are not
    made = Broker(tmp_path)
    yield made
    made.stop()


def test_who_asks_for_committed_offsets_lives_through_restarts_of_kafka(tmp_path, until, request):
    takes_long("restarts and standstills of Kafka under questions about groups")
    broker = request.getfixturevalue("broker")
    admin = AdminClient({"bootstrap.servers": broker.servers})
    admin.create_topics([NewTopic("asked", 2, 1)])["asked"].result(20)
    member = Consumer({"bootstrap.servers": broker.servers, "group.id": "a-group"})
    until(lambda: commits(member, TopicPartition("asked", 1, 7)), "an offset is committed")
    member.close()
    told = tmp_path / "told"
    with told.open("wb") as out:
        asking = subprocess.Popen([sys.executable, "-c", ASKING, broker.servers], cwd=ROOT, stdout=out)
    try:
        until(lambda: b"answer {1: 7}" in told.read_bytes(), "the first answer")
        for _ in range(RESTARTS):
            broker.stop()
            time.sleep(1.0)  # not for luck: an outage that it asks in
            broker.start()
            before = told.stat().st_size
            answers_again(asking, told, before, "the outage")
        for _ in range(STANDSTILLS):
            os.kill(broker.facts["java_pid"], signal.SIGSTOP)
            time.sleep(REQUEST_SECONDS + 1.0)  # not for luck: questions are given up meanwhile
            before = told.stat().st_size
            os.kill(broker.facts["java_pid"], signal.SIGCONT)
            answers_again(asking, told, before, "the standstill")
    finally:
        asking.kill()
        asking.wait(10)


def answers_again(asking, told, before, after_what):
    """Waits for the next answer; else says where the asking process is and all that it told since."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while b"answer {1: 7}" not in told.read_bytes()[before:]:
        assert asking.poll() is None, f"it ended with {asking.returncode}: {told.read_bytes()[-500:]}"
        if time.monotonic() > deadline:
            asking.send_signal(signal.SIGUSR1)
            time.sleep(1.0)  # not for luck: its stack is being written
            since = told.read_bytes()[before:].decode()
            pytest.fail(f"no answer within {ANSWER_SECONDS} s after {after_what}:\n{since}")
        time.sleep(0.05)


def test_a_member_leaves_in_time_though_the_broker_stands_still(until, request):
    takes_long("a broker of its own that stands still")
    broker = request.getfixturevalue("broker")
    settings = KafkaSettings(bootstrap_servers=broker.servers)
    cluster = KafkaCluster(settings)
    topic = Topic("left", "A topic of this test.", (), "none", retention_ms=3_600_000, retention_bytes=2**20)
    KafkaTopicAdmin(cluster).carry_out(CreateTopic(topic, 2, 1, topic.config()))
    publisher = KafkaPublisher(settings, client_id="t")
    publisher.publish("left", b"x", partition=0)
    assert publisher.flush(30) == 0
    log, seen = KafkaLog(settings, group="a-group", topics=["left"], client_id="t"), []
    until(lambda: seen.extend(log.poll(10, 0.1)) or seen, "the record", 60)
    os.kill(broker.facts["java_pid"], signal.SIGSTOP)
    try:
        began = time.monotonic()
        log.store("left", 0, 1)
        with pytest.raises(RetryLater, match="commit: no answer"):
            log.commit()
        log.close()
        assert time.monotonic() - began < 4 * LAST_SECONDS
    finally:
        os.kill(broker.facts["java_pid"], signal.SIGCONT)
    publisher.close()


def test_a_member_is_told_that_its_session_is_over_and_when_it_has_partitions_again(until, request):
    takes_long("a broker of its own that stands still for a session")
    broker = request.getfixturevalue("broker")
    settings = KafkaSettings(bootstrap_servers=broker.servers, session_timeout_ms=6_000)
    topic = Topic("lost", "A topic of this test.", (), "none", retention_ms=3_600_000, retention_bytes=2**20)
    KafkaTopicAdmin(KafkaCluster(settings)).carry_out(CreateTopic(topic, 2, 1, topic.config()))
    said = []
    log = KafkaLog(
        settings,
        group="a-group",
        topics=["lost"],
        client_id="t",
        on_assigned=lambda places: said.append("assigned"),
        on_revoked=lambda places: said.append("revoked"),
        on_lost=lambda: said.append("lost"),
    )
    until(lambda: log.poll(10, 0.1) or said == ["assigned"], "the partitions", 60)
    os.kill(broker.facts["java_pid"], signal.SIGSTOP)
    try:
        until(lambda: log.poll(10, 0.1) or len(said) > 1, "that they are lost", 60)
    finally:
        os.kill(broker.facts["java_pid"], signal.SIGCONT)
    assert said == ["assigned", "lost", "revoked"]
    until(lambda: log.poll(10, 0.1) or said[-1] == "assigned", "partitions again", 60)
    log.close()


def test_members_and_their_partitions_are_told(kafka, unique, until):
    cluster, group = KafkaCluster(kafka), f"{unique}-group"
    topic = Topic(unique, "A topic of this test.", (), "none", retention_ms=3_600_000, retention_bytes=2**20)
    KafkaTopicAdmin(cluster).carry_out(CreateTopic(topic, 3, 1, topic.config()))
    until(lambda: cluster.partitions(unique) == 3, "the topic")
    assert cluster.group(group) == GroupSeen(False, {}, {})
    log = KafkaLog(kafka, group=group, topics=[unique], client_id="a-member")
    until(lambda: log.poll(10, 0.1) or log_owns(cluster, group), "the partitions are assigned")
    seen = cluster.group(group)
    assert not seen.is_rebalancing
    assert list(seen.client_ids.values()) == ["a-member"]
    assert list(seen.assignments.values()) == [frozenset((unique, number) for number in range(3))]
    log.close()
    until(lambda: cluster.members(group) == 0, "the member is gone")


def log_owns(cluster, group):
    return any(cluster.group(group).assignments.values())


def commits(member, place):
    try:
        member.commit(offsets=[place], asynchronous=False)
    except Exception:  # a fresh group's coordinator answers "not coordinator" for a moment
        return False
    return True


def test_where_a_partition_stood_at_a_time_is_told_by_append_time(kafka, unique, until):
    cluster = KafkaCluster(kafka)
    topic = Topic(unique, "A topic of this test.", (), "none", retention_ms=3_600_000, retention_bytes=2**20)
    KafkaTopicAdmin(cluster).carry_out(CreateTopic(topic, 2, 1, topic.config()))
    until(lambda: cluster.partitions(unique) == 2, "the topic")
    publisher = KafkaPublisher(kafka, client_id="t")
    for _ in range(3):
        publisher.publish(unique, b"x", partition=0)
        assert publisher.flush(30) == 0
        time.sleep(0.01)  # not for luck: each record is to have a time of its own
    tail, records = KafkaTail(kafka, [unique], start="beginning"), []
    until(lambda: len(records) == 3 or records.extend(tail.poll(10, 0.1)), "all records")
    tail.close()
    publisher.close()
    at_ms = [one.timestamp_ms for one in records]
    assert at_ms[0] < at_ms[1] < at_ms[2]
    assert cluster.since(unique, {0: at_ms[1], 1: at_ms[1]}) == {0: (1, 3), 1: (0, 0)}
    assert cluster.since(unique, {0: at_ms[2] + 1}) == {0: (3, 3)}
    assert cluster.since(unique, {0: at_ms[0]}) == {0: (0, 3)}
    assert cluster.offsets_at(unique, at_ms[1]) == {0: 1, 1: 0}
    assert cluster.offsets_at(unique, at_ms[2] + 1) == {0: 3, 1: 0}


def test_an_offset_of_a_deleted_topic_is_no_place_to_begin_at(kafka, unique, until):
    """A member that has not seen that the topic was made anew commits where it was in the old one."""
    cluster, group = KafkaCluster(kafka), f"{unique}-group"
    topic = Topic(unique, "A topic of this test.", (), "none", retention_ms=3_600_000, retention_bytes=2**20)
    admin, publisher = KafkaTopicAdmin(cluster), KafkaPublisher(kafka, client_id="t")

    def made_with(count):
        until(lambda: carried_out(admin, CreateTopic(topic, 1, 1, topic.config())), "the topic")
        made = KafkaPublisher(kafka, client_id="t")
        for number in range(count):
            made.publish(unique, b"%d" % number, partition=0)
        assert made.flush(30) == 0
        made.close()

    def carried_out(admin, change):
        admin.carry_out(change)
        return cluster.partitions(unique) == 1

    def begun():
        return KafkaLog(kafka, group=group, topics=[unique], client_id="t", topic_id_of=cluster.topic_id)

    made_with(5)
    old, seen = begun(), []
    until(lambda: seen.extend(old.poll(10, 0.1)) or len(seen) == 5, "the old topic's records")
    cluster.admin.delete_topics([unique])[unique].result(20)
    until(lambda: cluster.partitions(unique) == 0, "the topic is gone")
    made_with(8)
    old.store(unique, 0, 5)
    old.commit()
    until(lambda: cluster.committed(group, unique) == {0: 5}, "the old topic's offset, under the new one's name")
    old.close()
    new, again = begun(), []
    until(lambda: again.extend(new.poll(10, 0.1)) or len(again) == 8, "all records of the new topic")
    assert [one.value for one in again] == [b"%d" % number for number in range(8)]
    new.store(unique, 0, 8)
    new.commit()
    new.close()
    last = begun()
    publisher.publish(unique, b"more", partition=0)
    assert publisher.flush(30) == 0
    found = []
    until(lambda: found.extend(last.poll(10, 0.1)) or found, "what came since")
    assert [one.value for one in found] == [b"more"]
    last.close()
    publisher.close()
