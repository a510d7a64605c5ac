"""Questions about groups, asked all the time while Kafka stops and comes back: an answer or a refusal, and no crash.

librdkafka's admin client answers them with a null pointer when a broker says that it is not, or not yet, the group's
coordinator: the process that asked was gone (SIGSEGV), as the worker's scaling watch was after each outage.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
RESTARTS = 3
ASKING = """
import sys, time
from infra.kafka import KafkaCluster
from infra.ports import RetryLater
from infra.settings import KafkaSettings

cluster = KafkaCluster(KafkaSettings(bootstrap_servers=sys.argv[1]))
while True:
    try:
        print("answer", cluster.committed("a-group", "asked"), flush=True)
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
        self.servers = json.loads(self.process.stdout.readline())["bootstrap_servers"]
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


def test_who_asks_for_committed_offsets_lives_through_restarts_of_kafka(broker, tmp_path, until):
    from confluent_kafka import Consumer, TopicPartition
    from confluent_kafka.admin import AdminClient, NewTopic

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
            until(
                lambda before=before: asking.poll() is not None or b"answer {1: 7}" in told.read_bytes()[before:],
                f"an answer after the outage: {told.read_bytes()[-500:]}",
                60.0,
            )
            assert asking.poll() is None, f"it ended with {asking.returncode}: {told.read_bytes()[-500:]}"
    finally:
        asking.kill()
        asking.wait(10)


def commits(member, place):
    try:
        member.commit(offsets=[place], asynchronous=False)
    except Exception:  # a fresh group's coordinator answers "not coordinator" for a moment
        return False
    return True
