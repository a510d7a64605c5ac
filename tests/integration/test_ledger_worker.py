"""A real worker that is alive, says so, and serves nothing: its port answers 200, and the ledger calls it out."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time

import pytest

from tests.ledger_world import PARTITIONS, World
from tests.parts import default_model, takes_long

WINDOW_SECONDS = 5


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def health(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, json.loads(response.read())
    except OSError:
        return 0, {}
    finally:
        connection.close()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path, window_seconds=WINDOW_SECONDS)
    yield world
    world.close()


@pytest.fixture
def worker(world, tmp_path):
    """`inferwatch worker` and its health port."""
    port = free_port()
    environment = os.environ | {
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": world.kafka.bootstrap_servers,
        "INFERWATCH_WORKER_WORKER_ID": "the-worker",
        "INFERWATCH_WORKER_METRICS_PORT": str(port),
        "INFERWATCH_WORKER_DRILLS": "true",
        "INFERWATCH_DATA_DIR": str(tmp_path / "data"),
    }
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", "infra.cli", "worker"], env=environment, stderr=log)
    yield environment, port, tmp_path / "worker.log"
    process.kill()
    process.wait(10)


def test_a_worker_whose_engine_hangs_is_called_out_within_two_windows_though_it_says_that_it_lives(
    world, worker, until
):
    takes_long("a real worker that hangs for two windows of 5 s; the rule itself is in test_ledger_watch")
    default_model()
    environment, port, log = worker
    world.start()
    until(lambda: health(port, "/health/ready")[0] == 200, "the worker is ready", 120)

    def ask():
        for number in range(PARTITIONS):
            world.ask(number)
        assert world.publisher.flush(20) == 0
        time.sleep(0.1)
        return True

    def answered():
        return ask() and world.account()["search", "answered"] > 60

    until(answered, "it answers", 60)
    assert world.alerts == []
    command = [sys.executable, "-m", "infra.cli", "drill", "latency", "--duration", "60s", "--delay-ms", "60000"]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=60)
    until(lambda: ask() and "batches are held back 60000 ms" in log.read_text(), "the drill has begun", 30)

    until(lambda: ask() and world.kinds(), "it is called out", 60)
    answered_ms = max(book.served_ms for book, _ in world.books.values())
    asked_ms = min(row.oldest_ms for _, row in world.books.values())
    assert health(port, "/health/live")[0] == 200
    status, said = health(port, "/health/ready")
    assert (status, said["code"]) == (200, "ok"), "its own port does not tell"
    (alert,), (called_ms,) = world.alerts, world.called_ms
    assert (alert.kind.value, alert.status.value, alert.series.scenario) == ("stall", "open", "search")
    assert "worker the-worker answers none of" in alert.summary
    stalled_ms = called_ms - max(answered_ms, asked_ms)
    assert 1_000 * WINDOW_SECONDS < stalled_ms <= 2_000 * WINDOW_SECONDS
