"""A ledger that cannot ask Kafka in the middle of what it has read loses none of it: it reads it again."""

import threading

import pytest

from infra.ports import RetryLater
from infra.settings import KafkaSettings
from schemas.topics import REQUESTS
from stream_jobs.ledger import ledger_job
from stream_jobs.ledger.book import Book
from stream_jobs.ledger.partition_ledger import BookStart, PartitionLedger
from stream_jobs.settings import JobSettings
from tests.fakes import FakeBroker, FakeClock, FakePublisher
from tests.ledger_records import CLUSTER, TOPIC, asked, predicted

RECORDS = [
    asked(3, partition=0),  # offsets 0 to 2 are not there: were they deleted, or a transaction's?
    asked(0, partition=1),
    predicted(0, 0, partition=1),
    asked(1, partition=1),
]


class Cluster:
    """Refuses the first questions."""

    def __init__(self, *_, **__):
        self.refusals = 2

    def ranges(self, topic):
        if self.refusals:
            self.refusals -= 1
            raise RetryLater("no answer in time")
        return {0: (3, 4), 1: (0, 2)}


class Tail:
    """Tells once what lies at or above where it is to start."""

    def __init__(self, *_, start, **__):
        self.left = [one for one in RECORDS if one.offset >= start.get((one.topic, one.partition), 0)]

    def poll(self, count_max, timeout_seconds):
        found, self.left = self.left, []
        return found

    def pause(self, places):
        raise AssertionError("nothing is full")

    def close(self):
        pass


def test_what_was_read_before_a_question_failed_is_read_again(monkeypatch):
    monkeypatch.setattr(ledger_job, "KafkaCluster", Cluster)
    monkeypatch.setattr(ledger_job, "KafkaTail", Tail)
    clock = FakeClock()
    publisher = FakePublisher(FakeBroker(clock))
    kafka = KafkaSettings(bootstrap_servers="127.0.0.1:9")
    job = ledger_job.LedgerJob(JobSettings(), kafka, publisher, clock, "test")
    ledgers = [PartitionLedger(CLUSTER, TOPIC, number, BookStart(0, 0, 0)) for number in (0, 1)]
    job._books = {ledger.partition: Book(ledger, None) for ledger in ledgers}
    for _ in range(2):
        with pytest.raises(RetryLater):
            job._read(threading.Event())
    job._read(threading.Event())
    counts = []
    for ledger in ledgers:
        told = ledger.told(1, 4)
        row = next(one for one in told.scenarios if one.scenario == "search")
        counts.append((row.asked, row.answered, row.owed, told.absent))
    assert counts == [(1, 0, 1, 0), (2, 1, 1, 0)]
    assert [ledger.positions[REQUESTS.name, ledger.partition] for ledger in ledgers] == [4, 2]
