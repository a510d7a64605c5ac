"""Requests and answers on a broker of their own, ledgers that keep books of them, and stage 2 that judges these."""

import json
import os
import subprocess
import sys
import threading
from collections import Counter

from confluent_kafka import TopicPartition

from infra.clock import SystemClock
from infra.kafka import KafkaCluster, KafkaPublisher, KafkaTail
from infra.provision import apply_topics
from infra.settings import KafkaSettings, StackSettings
from infra.up.traffic import REQUEST_DEAD_LETTERS
from schemas.alerts import ALERT_KINDS
from schemas.base import decode
from schemas.owed import OWED_KINDS
from schemas.telemetry import Outcome
from schemas.topics import ALERTS, PREDICTIONS, REQUESTS, TELEMETRY, WINDOWS
from stream_jobs.ledger.ledger_job import LedgerJob
from stream_jobs.settings import JobSettings
from stream_jobs.window_stage import WindowStage
from tests.conftest import Part
from tests.ledger_records import asked, dead_letter, predicted
from tests.telemetry_events import record as telemetry_record
from tests.telemetry_events import served

PARTITIONS = 3
SESSION_MS = 6_000
COUNTS = ("asked", "answered", "failed", "shed", "dead_lettered", "owed", "expired")


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
        self.reported_ms, self.called_ms = [], []
        """When the ledger's reports were appended, and for each alert when the one was that made it."""
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

    def tell(self, partition, outcomes):
        """Telemetry of requests of a partition: outcomes by offset."""
        event = served(
            sorted(outcomes),
            partition=partition,
            topic_id=self.identity["topic_id"],
            outcome=lambda offset: Outcome(outcomes[offset]),
        )
        told = telemetry_record(event.model_copy(update={"cluster_id": self.identity["cluster_id"]}), 0, 0)
        self.publisher.publish(TELEMETRY.name, told.value, partition=partition, headers=told.headers)

    def delete(self, topic, ends):
        """Do as retention does: delete a topic's records below these offsets, by partition."""
        places = [TopicPartition(topic, number, offset) for number, offset in ends.items()]
        for future in self.cluster.admin.delete_records(places).values():
            future.result(20)

    def start(self):
        """Begin to keep books, in a thread of this process."""
        job = LedgerJob(self.settings, self.kafka, self.publisher, SystemClock(), f"test-{len(self.jobs)}")
        stop = threading.Event()
        thread = threading.Thread(target=job.run, args=(stop,), daemon=True)
        thread.start()
        self.jobs.append((stop, thread))

    def stop(self):
        """End all that keep books here; what they had saved stays."""
        for stop, _ in self.jobs:
            stop.set()
        for _, thread in self.jobs:
            thread.join(20)
        assert not any(thread.is_alive() for _, thread in self.jobs)
        self.jobs.clear()

    def watch(self):
        """Take what the ledger says to stage 2, and remember what came of it."""
        for record in self.tail.poll(500, 0.05):
            self.reported_ms.append(record.timestamp_ms)
            for one in decode(record.headers, record.value, OWED_KINDS).data.partitions:
                for row in one.scenarios:
                    self.books[one.partition, row.scenario] = (one, row)
            for event in self.stages[record.partition].apply(record).events:
                if event.topic == ALERTS.name:
                    self.alerts.append(decode(event.headers, event.value, ALERT_KINDS).data)
                    self.called_ms.append(record.timestamp_ms)
        return True

    def account(self):
        self.watch()
        found = Counter()
        for (_, scenario), (_, row) in self.books.items():
            for name in COUNTS:
                found[scenario, name] += getattr(row, name)
        return +found

    def kinds(self):
        self.watch()
        return {(alert.kind.value, alert.status.value) for alert in self.alerts}

    def close(self):
        self.stop()
        self.tail.close()
        self.publisher.close(5.0)
        self.part.stop()


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
