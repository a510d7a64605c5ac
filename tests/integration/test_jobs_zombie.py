"""Stream jobs as processes that are stopped past their session and continued, and killed: the counts stay exact.

A state that went back or was written over by a zombie would number an offset twice; a lost record would leave a hole.
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import pytest
from confluent_kafka.admin import AdminClient, NewTopic

from infra.kafka import KafkaCluster, KafkaPublisher
from tests.parts import takes_long
from tests.poison import BAD_RECORDS, append_a_header_name_that_is_not_utf8

ROOT = Path(__file__).resolve().parents[2]
PARTITIONS = 4
SESSION_MS = 2_000
KILLS = 3


class Toys:
    """Toy jobs on one topic, the records for them, and what they stored."""

    def __init__(self, kafka, name, folder):
        self.kafka, self.topic, self.group = kafka, name, f"{name}-group"
        self.rows_file = folder / "rows.txt"
        self.rows_file.touch()
        self.folder = folder
        self.sent = [0] * PARTITIONS
        self.processes = []
        self.cluster = KafkaCluster(kafka)
        compact = {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.01"}
        compact |= {"segment.ms": "1000", "max.compaction.lag.ms": "1000"}
        topics = [NewTopic(f"{name}{suffix}", PARTITIONS, 1) for suffix in ("", ".out", ".dead-letters")]
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        for future in admin.create_topics([*topics, NewTopic(f"{name}.state", PARTITIONS, 1, config=compact)]).values():
            future.result(20)
        self.publisher = KafkaPublisher(kafka, client_id="toys")

    def send(self, count):
        for number in range(count):
            partition = number % PARTITIONS
            value = b"bad" if number % 97 == 96 else str(number).encode()
            self.publisher.publish(self.topic, value, partition=partition)
            self.sent[partition] += 1
        assert self.publisher.flush(20) == 0

    def start(self, *more):
        arguments = ["--bootstrap", self.kafka.bootstrap_servers, "--topic", self.topic, "--group", self.group]
        arguments += ["--rows", str(self.rows_file), "--session-ms", str(SESSION_MS), *more]
        with self.log_of(len(self.processes)).open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "tests/integration/toy_job.py", *arguments],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.PIPE,
                stderr=log,
            )
        self.processes.append(process)
        return process

    def log_of(self, number):
        return self.folder / f"job-{number}.log"

    def is_member(self, process):
        return "partitions assigned" in self.log_of(self.processes.index(process)).read_text()

    def rows(self):
        lines = set(self.rows_file.read_text().splitlines())
        return sorted(tuple(int(number) for number in line.split()) for line in lines)

    def committed(self):
        found = self.cluster.committed(self.group, self.topic)
        return [found.get(partition, 0) for partition in range(PARTITIONS)]

    def expected(self):
        return [(p, offset, offset + 1) for p in range(PARTITIONS) for offset in range(self.sent[p])]

    def describe(self):
        logs = [self.log_of(number).read_text()[-3_000:] for number in range(len(self.processes))]
        return "\n".join([f"committed {self.committed()}, sent {self.sent}, rows {len(self.rows())}", *logs])

    def all_committed(self, until):
        try:
            until(lambda: self.committed() == self.sent, "all committed", 40.0)
        except pytest.fail.Exception:
            pytest.fail(self.describe())

    def finish(self, until):
        """Everything is committed; what was stored is exactly what the log says; an orderly stop ends with 0."""
        self.all_committed(until)
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        codes = {process.wait(30) for process in self.processes}
        assert self.rows() == self.expected()
        return codes

    def close(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait(10)
            process.stdout.close()
        self.publisher.close(5.0)


@pytest.fixture
def toys(kafka, unique, tmp_path):
    toys = Toys(kafka, unique, tmp_path)
    yield toys
    toys.close()


def test_stopped_past_its_session_and_continued_is_correct(toys, until):
    toys.send(2_000)
    first = toys.start()
    until(lambda: sum(toys.committed()) >= 1_000, "the first works", 30.0)
    toys.send(4_000)
    first.send_signal(signal.SIGSTOP)
    long_enough = time.monotonic() + SESSION_MS / 1000 + 1.5  # its watch looks once a second
    second = toys.start()
    toys.all_committed(until)
    toys.send(2_000)
    time.sleep(max(0.0, long_enough - time.monotonic()))
    first.send_signal(signal.SIGCONT)
    assert toys.finish(until) == {0}, toys.describe()
    assert b"taken" in second.stdout.read()
    assert "everything held is dropped: the process stood still for" in toys.log_of(0).read_text()


def test_stopped_inside_any_step_and_continued_is_correct(toys, until):
    random = Random(7)
    first, second = toys.start(), toys.start()
    until(lambda: toys.is_member(first) and toys.is_member(second), "both are members", 30.0)
    for _ in range(2):
        toys.send(1_200)
        time.sleep(random.uniform(0.0, 0.5))  # not for luck: any instant will do
        sleeper = random.choice([first, second])
        sleeper.send_signal(signal.SIGSTOP)
        toys.send(1_200)
        toys.all_committed(until)
        sleeper.send_signal(signal.SIGCONT)
    assert toys.finish(until) == {0}, toys.describe()


def test_what_is_committed_of_a_topic_is_no_place_to_begin_at_in_the_one_made_anew(toys, until):
    toys.send(400)
    first = toys.start()
    assert toys.finish(until) == {0}, toys.describe()
    assert first.poll() == 0
    toys.rows_file.write_text("")
    toys.start("--source", "another topic of that name")
    until(lambda: toys.rows() == toys.expected(), "all are read again", 30.0)
    assert toys.finish(until) == {0}, toys.describe()


def test_records_that_faust_cannot_fetch_are_read_around(toys, until):
    job = toys.start()
    for _ in range(2):
        toys.send(400)
        asyncio.run(append_a_header_name_that_is_not_utf8(toys.kafka, toys.topic))
        toys.sent[0] += BAD_RECORDS
        toys.send(400)
        toys.all_committed(until)
    assert job.poll() is None
    assert toys.finish(until) == {0}, toys.describe()


def test_a_job_that_stands_still_although_there_is_work_ends_and_the_next_goes_on(toys, until):
    toys.send(1_000)
    stuck = toys.start("--stall-after", "300", "--look-seconds", "0.2")
    assert stuck.wait(60) == 70
    assert "nothing was done in" in toys.log_of(0).read_text()
    toys.start("--look-seconds", "1.0")  # longer than it takes to join, however slow the machine
    toys.all_committed(until)
    time.sleep(20)  # as many looks again: without work, nobody ends
    assert toys.finish(until) == {0, 70}, toys.describe()


def test_killed_again_and_again_is_correct(toys, until):
    takes_long("many kills; the live pipeline's job is killed in any case")
    random = Random(11)
    for _ in range(KILLS):
        toys.send(600)
        before = sum(toys.committed())
        process = toys.start()
        until(lambda now=before: sum(toys.committed()) > now, "some progress", 40.0)
        time.sleep(random.uniform(0.0, 0.4))  # not for luck: any instant will do
        process.kill()
        process.wait(10)
    toys.send(600)
    toys.start()
    assert toys.finish(until) == {0, -signal.SIGKILL}, toys.describe()
    letters = toys.cluster.ranges(f"{toys.topic}.dead-letters")
    bad = sum(1 for _ in range(KILLS + 1) for number in range(600) if number % 97 == 96)
    assert sum(after for _, after in letters.values()) >= bad
