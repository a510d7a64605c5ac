"""The producers' commands on a real broker: keys land where Kafka puts them, nothing is lost, `ask` is answered."""

import json
import os
import signal
import subprocess
import sys
import threading
from array import array
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from infra.clickhouse import ClickHouse
from infra.kafka import KafkaCluster, KafkaPublisher, KafkaTail
from infra.migrate import apply_tables
from infra.provision import apply_topics
from infra.settings import StackSettings
from producers.ask_cli import ask
from producers.client import Producer
from producers.partitioning import partition_of
from producers.produce_cli import produce
from schemas import tables
from schemas.base import Identity, decode, encode, headers_for
from schemas.predictions import Embedding, InferenceAnswered, ModelRef, Timings
from schemas.requests import InferenceRequested
from schemas.topics import PREDICTIONS, REQUESTS
from schemas.vectors import encode_vector

SIMULATE = "from producers.simulate_cli import simulate; simulate()"


@pytest.fixture(scope="module")
def topics(kafka):
    apply_topics(kafka, StackSettings(), say=lambda text: None)
    return kafka


@pytest.fixture
def environment(topics, monkeypatch):
    monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", topics.bootstrap_servers)
    return topics


@pytest.fixture
def appended(topics, until):
    """Reads what is appended to the request topic from now on."""
    tail = KafkaTail(topics, [REQUESTS.name], start="end")
    records = []

    def read(count):
        def enough():
            records.extend(tail.poll(1_000, 0.2))
            return len(records) >= count

        until(enough, f"{count} requests", 20)
        return records

    yield read
    tail.close()


def test_keys_land_where_kafkas_own_partitioner_puts_them(topics, appended):
    keys = [*([b""] * 10), *(f"user-{n}".encode() for n in range(60)), "été".encode()]
    publisher = KafkaPublisher(topics, client_id="keys")
    for key in keys:
        publisher.publish(REQUESTS.name, b"{}", key=key)
    assert publisher.close() == 0
    partitions = KafkaCluster(topics).partitions(REQUESTS.name)
    assert {(r.key or b"", r.partition) for r in appended(len(keys))} == {
        (k, partition_of(k, partitions)) for k in keys
    }


def test_the_identity_of_a_sent_request_is_where_it_lies(topics, appended):
    cluster = KafkaCluster(topics)
    with Producer(topics, source="test") as producer:
        sent = [producer.send(f"text {n}", key=None if n % 2 else f"k{n}") for n in range(50)]
        found = {s.request_id: s.result(20) for s in sent}
    assert {(i.cluster_id, i.topic_id) for i in found.values()} == {
        (cluster.cluster_id, cluster.topic_id(REQUESTS.name))
    }
    lies = {}
    for record in appended(50):
        envelope = decode(record.headers, record.value, (InferenceRequested,))
        lies[envelope.event_id] = (record.partition, record.offset)
    assert lies == {request_id: (i.partition, i.offset) for request_id, i in found.items()}


def test_produce_on_a_real_broker(environment, tmp_path, appended):
    file = tmp_path / "queries.txt"
    file.write_text("\n".join(f"query {n}" for n in range(500)))
    result = CliRunner().invoke(produce, [str(file), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["delivered"] == 500
    assert len(appended(500)) == 500


def test_simulate_ends_in_order_when_told(environment, appended):
    process = subprocess.Popen(
        [sys.executable, "-c", SIMULATE, "--rate", "200", "--broken-share", "0.2", "--seed", "3", "--json"],
        stdout=subprocess.PIPE,
        env=os.environ | {"INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": environment.bootstrap_servers},
        text=True,
    )
    try:
        appended(100)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait(10)
    facts = json.loads(out)
    assert process.returncode == 0
    assert facts["sent"] == facts["delivered"] == len(appended(facts["sent"]))
    assert facts["sent_broken"]
    assert facts["failed"] == facts["pending"] == 0


def answer(kafka, clickhouse, stop):
    """A worker and a job in miniature: answers what comes, and stores a row of each."""
    cluster, tail = KafkaCluster(kafka), KafkaTail(kafka, [REQUESTS.name], start="end")
    publisher, table = KafkaPublisher(kafka, client_id="mini"), ClickHouse(clickhouse)
    names = (cluster.cluster_id, cluster.topic_id(REQUESTS.name))
    stop.ready.set()
    while not stop.is_set():
        for record in tail.poll(100, 0.1):
            identity = Identity(
                cluster_id=names[0], topic_id=names[1], partition=record.partition, offset=record.offset
            )
            message = InferenceAnswered(
                request=identity,
                request_id="r",
                scenario="search",
                worker_id="mini",
                model=ModelRef(name="mini", version="1"),
                outputs=[Embedding(vector=encode_vector(array("f", [0.25] * 4).tobytes()), dimension=4)],
                timings_ms=Timings(queue=1.0, tokenise=1.0, compute=1.0, total=3.0),
            )
            headers = headers_for(message, event_id="e", source="mini", time=datetime.now(UTC))
            publisher.publish(PREDICTIONS.name, encode(message), partition=record.partition, headers=headers)
            table.insert(tables.REQUESTS.name, row_of(identity), token=str(identity))
    publisher.close()
    tail.close()
    table.close()


def row_of(identity):
    values = {"cluster_id": identity.cluster_id, "topic_id": identity.topic_id, "outcome": "answered", "score": 0.5}
    values |= {"partition": identity.partition, "offset": identity.offset}
    empty = {"String": "", "LowCardinality(String)": "", "Bool": False, "Float64": 0.0}
    now = datetime.now(UTC)
    return {
        column.name: [values.get(column.name, empty.get(column.type, now if "DateTime" in column.type else 0))]
        for column in tables.REQUESTS.columns
    }


class Stop(threading.Event):
    def __init__(self):
        super().__init__()
        self.ready = threading.Event()


def test_ask_finds_its_answer_and_its_row(environment, clickhouse, monkeypatch):
    monkeypatch.setenv("INFERWATCH_CLICKHOUSE_URL", clickhouse.url)
    apply_tables(clickhouse, say=lambda text: None)
    stop = Stop()
    worker = threading.Thread(target=answer, args=(environment, clickhouse, stop))
    worker.start()
    try:
        assert stop.ready.wait(20)
        result = CliRunner().invoke(ask, ["red shoes", "--timeout", "20s", "--json"])
        again = CliRunner().invoke(ask, ["red shoes", "--timeout", "20s"])
    finally:
        stop.set()
        worker.join(20)
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["outcome"] == "answered"
    assert facts["row"]["offset"] == facts["identity"]["offset"]
    assert facts["missing"] == []
    assert "4 numbers: 0.2500" in again.stdout
    assert "score 0.5" in again.stdout


def test_ask_without_a_worker_says_so(environment, monkeypatch):
    result = CliRunner().invoke(ask, ["red shoes", "--timeout", "8s", "--no-row", "--group", "nobody"])
    assert result.exit_code == 75, result.output
    assert "is a worker running?" in result.stdout
    assert "owed an answer" in result.stdout
