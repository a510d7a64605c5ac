"""The ledger on a real broker: exact through kills and rebalances, and its alerts by the stage that judges them."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from random import Random

import pytest

from infra.clock import SystemClock
from infra.kafka import KafkaCluster, KafkaPublisher, KafkaTail
from infra.provision import apply_topics
from infra.settings import KafkaSettings, StackSettings
from infra.up.traffic import REQUEST_DEAD_LETTERS
from schemas.alerts import ALERT_KINDS
from schemas.base import decode
from schemas.owed import OWED_KINDS
from schemas.topics import ALERTS, PREDICTIONS, REQUESTS, WINDOWS
from stream_jobs.ledger.ledger_job import LedgerJob
from stream_jobs.settings import JobSettings
from stream_jobs.window_stage import WindowStage
from tests.conftest import Part
from tests.ledger_records import asked, dead_letter, predicted
from tests.parts import takes_long

PARTITIONS = 3
SESSION_MS = 6_000
OUTCOMES = ("answered", "answered", "answered", "failed", "shed", "dead_lettered", "owed")


class World:
    """Requests and answers on a broker, and what the ledger and stage 2 make of them."""

    def __init__(self, folder, **settings):
        self.part = Part("infra.embedded.broker", folder)
        self.kafka = KafkaSettings(
            bootstrap_servers=self.part.ready["bootstrap_servers"], session_timeout_ms=SESSION_MS
        )
        apply_topics(self.kafka, StackSettings(topic_partitions=PARTITIONS), say=lambda text: None)
        self.settings = JobSettings(ledger_seconds=0.2, barrier_interval_seconds=0.5, **settings)
        self.cluster = KafkaCluster(self.kafka)
        self.publisher = KafkaPublisher(self.kafka, client_id="test", linger_ms=0)
        self.tail = KafkaTail(self.kafka, [WINDOWS.name], start="beginning")
        self.stages = {
            number: WindowStage(self.settings, partition=number, source_topic_id="t", source_partitions=1)
            for number in range(PARTITIONS)
        }
        self.alerts, self.books, self.ends, self.jobs = [], {}, Counter(), []
        self.identity = {"cluster_id": self.cluster.cluster_id, "topic_id": self.cluster.topic_id(REQUESTS.name)}

    def ask(self, partition, scenario="search"):
        record = asked(self.ends[partition], scenario=scenario, partition=partition)
        self.publisher.publish(REQUESTS.name, record.value, partition=partition)
        self.ends[partition] += 1
        return record

    def settle(self, record, outcome, scenario="search", worker="w1"):
        if outcome == "dead_lettered":
            letter = dead_letter(0, record, partition=record.partition)
            self.publisher.publish(REQUEST_DEAD_LETTERS, letter.value, headers=letter.headers)
        elif outcome != "owed":
            request = {**self.identity, "partition": record.partition, "offset": record.offset}
            answer = predicted(0, record.offset, outcome=outcome, scenario=scenario, worker=worker)
            value = json.dumps({**json.loads(answer.value), "request": request}).encode()
            self.publisher.publish(PREDICTIONS.name, value, partition=record.partition, headers=answer.headers)

    def start(self):
        job = LedgerJob(self.settings, self.kafka, self.publisher, SystemClock(), f"test-{len(self.jobs)}")
        stop = threading.Event()
        thread = threading.Thread(target=job.run, args=(stop,), daemon=True)
        thread.start()
        self.jobs.append((stop, thread))

    def watch(self):
        """Take what the ledger says to stage 2, and remember what came of it."""
        for record in self.tail.poll(500, 0.05):
            for one in decode(record.headers, record.value, OWED_KINDS).data.partitions:
                for row in one.scenarios:
                    self.books[one.partition, row.scenario] = (one, row)
            for event in self.stages[record.partition].apply(record).events:
                if event.topic == ALERTS.name:
                    self.alerts.append(decode(event.headers, event.value, ALERT_KINDS).data)
        return True

    def account(self):
        self.watch()
        found = Counter()
        for (_, scenario), (_, row) in self.books.items():
            for name in ("asked", "answered", "failed", "shed", "dead_lettered", "owed", "expired"):
                found[scenario, name] += getattr(row, name)
        return +found

    def kinds(self):
        self.watch()
        return {(alert.kind.value, alert.status.value) for alert in self.alerts}

    def close(self):
        for stop, _ in self.jobs:
            stop.set()
        for _, thread in self.jobs:
            thread.join(20)
        assert not any(thread.is_alive() for _, thread in self.jobs)
        self.tail.close()
        self.publisher.close(5.0)
        self.part.stop()


@pytest.fixture
def world(tmp_path, request):
    world = World(tmp_path, **getattr(request, "param", {"window_seconds": 2}))
    yield world
    world.close()


class Processes:
    """`inferwatch jobs ledger`, as processes that are killed."""

    def __init__(self, world, folder):
        self.folder, self.running = folder, []
        self.environment = {
            **os.environ,
            "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
            "INFERWATCH_KAFKA_SESSION_TIMEOUT_MS": str(SESSION_MS),
            "INFERWATCH_JOBS_WINDOW_SECONDS": "2",
            "INFERWATCH_JOBS_BARRIER_INTERVAL_SECONDS": "0.5",
            "INFERWATCH_DATA_DIR": str(folder / "data"),
        }

    def start(self):
        with (self.folder / f"ledger-{len(self.running)}.log").open("wb") as log:
            command = [sys.executable, "-m", "infra.cli", "jobs", "ledger"]
            process = subprocess.Popen(command, env=self.environment, stdout=log, stderr=log)
        self.running.append(process)
        return process

    def owns(self, process):
        """Whether it has taken a book over."""
        return "book at offset" in (self.folder / f"ledger-{self.running.index(process)}.log").read_text()

    def logs(self):
        return "\n".join(path.read_text()[-3_000:] for path in sorted(self.folder.glob("ledger-*.log")))

    def close(self):
        for process in self.running:
            if process.poll() is None:
                process.kill()
            process.wait(10)


def test_the_account_is_exact_through_kills_and_rebalances(world, tmp_path, until):
    random, processes, expected = Random(5), Processes(world, tmp_path), Counter()

    def traffic(count):
        for _ in range(count):
            scenario, outcome = random.choice(["search", "ads"]), random.choice(OUTCOMES)
            record = world.ask(random.randrange(PARTITIONS), scenario)
            expected[scenario, "asked"] += 1
            expected[scenario, outcome] += 1
            for _ in range(random.choice([1, 1, 1, 2])):  # a worker that died answers again
                world.settle(record, outcome, scenario)
        assert world.publisher.flush(20) == 0

    def settled():
        try:
            until(lambda: world.account() == expected, "the ledger's account is the plain count", 40.0)
        except pytest.fail.Exception:
            pytest.fail(f"{world.account()} is not {expected}\n{processes.logs()}")

    try:
        traffic(600)
        first = processes.start()
        settled()
        traffic(600)
        second = processes.start()
        until(lambda: processes.owns(second), "the second shares the partitions", 40.0)
        settled()
        traffic(600)
        first.kill()
        traffic(300)
        settled()
        third = processes.start()
        until(lambda: processes.owns(third), "the third shares the partitions", 40.0)
        traffic(300)
        settled()
        third.send_signal(signal.SIGTERM)
        assert third.wait(30) == 0
        traffic(100)
        settled()
    finally:
        processes.close()
    books = {partition: book for (partition, _), (book, _) in world.books.items()}
    assert {number: book.next_offset for number, book in books.items()} == dict(world.ends)
    assert sum(book.repeated for book in books.values()) > 100


def serve(world, until, seconds, rate=40.0, answers=lambda number: True, waiting=None):
    """A worker's life: requests come at a rate, and those that `answers` says are answered, the oldest first."""
    waiting = [] if waiting is None else waiting
    began, number = time.monotonic(), 0
    while time.monotonic() - began < seconds:
        waiting.append(world.ask(number % PARTITIONS))
        if answers(number) and waiting:
            world.settle(waiting.pop(0), "answered")
        number += 1
        world.watch()
        time.sleep(1 / rate)
    return waiting


@pytest.mark.parametrize("world", [{"window_seconds": 4, "stall_windows": 1.25}], indirect=True)
def test_a_worker_that_answers_nothing_is_called_out_within_two_windows_and_idle_is_no_fault(world, until):
    world.start()
    waiting = serve(world, until, 3.0)
    for record in waiting:
        world.settle(record, "answered")
    time.sleep(0.3)
    until(lambda: world.account()["search", "asked"] > 0 and not world.account()["search", "owed"], "all is told", 20)
    began = time.monotonic()
    until(lambda: world.watch() and time.monotonic() - began > 9.0, "more than two idle windows", 20)
    assert world.alerts == []
    hung_ms = SystemClock().now_ms()
    waiting = serve(world, until, 9.0, answers=lambda number: False)
    (alert,) = world.alerts
    assert (alert.kind.value, alert.status.value, alert.series.scenario) == ("stall", "open", "search")
    assert "worker w1 answers none of" in alert.summary
    assert hung_ms + 4_000 <= alert.opened_ms <= hung_ms + 8_000
    for record in waiting:
        world.settle(record, "answered")
    until(lambda: ("stall", "resolved") in world.kinds(), "it is over", 40)
    assert {kind for kind, _ in world.kinds()} == {"stall"}


@pytest.mark.parametrize("world", [{"window_seconds": 2, "lag_windows": 1.0}], indirect=True)
def test_a_backlog_that_was_there_before_the_ledger_is_lag_while_it_is_answered(world, until):
    takes_long("a backlog; a worker that answers nothing is called out in any case")
    waiting = [world.ask(number % PARTITIONS) for number in range(600)]
    assert world.publisher.flush(20) == 0
    time.sleep(2.5)  # the oldest must be older than a window
    world.start()
    serve(world, until, 6.0, waiting=waiting)
    assert ("lag", "open") in world.kinds()
    assert {kind for kind, _ in world.kinds()} == {"lag"}
    for record in waiting:
        world.settle(record, "answered")
    until(lambda: ("lag", "resolved") in world.kinds(), "it is caught up", 30)


def test_a_topic_that_is_made_anew_begins_a_new_book(world, until, caplog):
    takes_long("a topic made anew")
    world.start()
    for number in range(30):
        world.settle(world.ask(number % PARTITIONS), "answered" if number % 2 else "owed")
    until(lambda: world.account()["search", "owed"] == 15, "the first book", 20)
    before = world.identity["topic_id"]
    for future in world.cluster.admin.delete_topics([REQUESTS.name]).values():
        future.result(20)
    until(lambda: world.cluster.partitions(REQUESTS.name) == 0, "it is gone", 20)
    apply_topics(world.kafka, StackSettings(topic_partitions=PARTITIONS), say=lambda text: None)
    until(lambda: world.cluster.topic_id(REQUESTS.name) != before, "it is made anew", 20)
    world.identity["topic_id"] = world.cluster.topic_id(REQUESTS.name)
    world.ends.clear()
    for number in range(9):
        world.settle(world.ask(number % PARTITIONS), "answered")
    expected = {("search", "asked"): 9, ("search", "answered"): 9}
    until(lambda: world.account() == expected, "a new book", 40)
    assert "was made anew" in caplog.text
