"""A worker that is started while Kafka is away asks to be tried again, no fault of the program; and can be stopped."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from infra.provision import apply_topics
from infra.settings import KafkaSettings, StackSettings
from tests.conftest import Part
from tests.parts import kafka_jars

PROGRAM = """
import sys
from infra import cli
from inference_workers import worker_cli
from inference_workers.loading.load import Loaded
from inference_workers.models.verdicts import LoadFacts
from tests.unit.inference_workers.stand_ins import servable

connect = worker_cli._connect

def connected(kafka, stop):
    found = connect(kafka, stop)
    print("connected", flush=True)
    sys.stdin.readline()  # until Kafka is away
    return found

def load(settings, stop, wanted=None):
    own = servable()
    return Loaded(own, LoadFacts(own.ref, "/own", 1.0))

worker_cli._connect, worker_cli._load = connected, load
cli.LazyCommands.get_command = lambda *_: worker_cli.worker
cli.main()
"""
END_SECONDS = 60.0
"""A question to Kafka is given up after 10 s."""
STOP_SECONDS = 15.0
"""Of the 60 for which a worker waits for Kafka."""


@pytest.fixture
def broker(tmp_path):
    """A Kafka of this test alone."""
    kafka_jars()
    part = Part("infra.embedded.broker", tmp_path)
    yield part
    part.stop()


@pytest.mark.timeout(180)
def test_a_worker_that_is_started_while_kafka_goes_away_ends_with_75(broker, tmp_path):
    servers = broker.ready["bootstrap_servers"]
    apply_topics(KafkaSettings(bootstrap_servers=servers), StackSettings(topic_partitions=2), say=lambda text: None)
    environment = os.environ | {"INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": servers, "INFERWATCH_DATA_DIR": str(tmp_path)}
    worker = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "worker"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert worker.stdout.readline() == "connected\n"
        broker.process.kill()
        broker.process.wait(20)
        _, said = worker.communicate("go on\n", timeout=END_SECONDS)
    finally:
        worker.kill()
        worker.wait(10)
    assert worker.returncode == 75, said[-2_000:]
    assert "cluster: " in said  # what was asked, and by which code it was refused


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for_health(port, process):
    """Until the worker says that it waits: from then on it listens to signals."""
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5):
                return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"it ended with {process.returncode}: {process.stderr.read()[-2_000:]}")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("process", "number"), [("worker", signal.SIGTERM), ("worker", signal.SIGINT), ("ledger", signal.SIGTERM)]
)
def test_who_waits_for_kafka_is_stopped_in_order(tmp_path, process, number):
    port = free_port()
    environment = os.environ | {
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",  # nobody listens there
        "INFERWATCH_WORKER_METRICS_PORT": str(port),
        "INFERWATCH_WORKER_MODEL": str(tmp_path),  # refused at once: nothing is told of it without Kafka
        "INFERWATCH_DATA_DIR": str(tmp_path),
    }
    arguments = {"worker": ["worker"], "ledger": ["jobs", "ledger", "--metrics-port", str(port)]}
    command = [sys.executable, "-m", "infra.cli", *arguments[process]]
    worker = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        wait_for_health(port, worker)
        worker.send_signal(number)
        _, said = worker.communicate(timeout=STOP_SECONDS)
    finally:
        worker.kill()
        worker.wait(10)
    assert worker.returncode == 0, said[-2_000:]
