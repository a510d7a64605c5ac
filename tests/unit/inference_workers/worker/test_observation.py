"""What is started beside the loop, and that settings can switch it off."""

import json
import logging
import socket
import threading
import urllib.error
import urllib.request

import pytest

from inference_workers.spec import WorkerSettings
from inference_workers.worker.observation import start_log_topic, start_observer, start_scaling
from infra.clock import SystemClock
from schemas.topics import LOGS
from tests.fakes import FakeBroker, FakePublisher


@pytest.fixture
def stop():
    event = threading.Event()
    yield event
    event.set()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def get(port, path):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


class Cluster:
    """A group with a rising lag."""

    def __init__(self):
        self.looks = 0

    def ranges(self, topic):
        self.looks += 1
        return {0: (0, 100 * self.looks), 1: (0, 0)}

    def committed(self, group, topic):
        return {}

    def members(self, group):
        return 1


def test_a_worker_says_why_it_is_not_ready_from_the_start(stop, monkeypatch, until):
    monkeypatch.setenv("INFERWATCH_SCALING_LOOK_SECONDS", "0.01")
    settings = WorkerSettings(metrics_port=free_port(), worker_id="w-1")
    observer, server = start_observer(settings, SystemClock(), stop)
    observer.readiness.starting("loading the model")
    status, body = get(settings.metrics_port, "/health/ready")
    assert (status, json.loads(body)["reason"]) == (503, "not serving yet: loading the model")
    observer.ready_to_join()
    observer.joined()
    start_scaling(observer, Cluster(), settings, SystemClock(), stop)
    until(observer.details, "a look at the group")
    status, body = get(settings.metrics_port, "/health/ready")
    shown = json.loads(body)
    assert (status, shown["process"], shown["scaling"]["workers"]) == (200, "w-1", 1)
    assert shown["scaling"]["reason"] in ("lag_unknown", "rate_unknown")
    status, body = get(settings.metrics_port, "/metrics")
    assert b"inferwatch_ready 1.0" in body
    assert b"inferwatch_desired_workers 1.0" in body
    assert b"inferwatch_barrier" not in body  # a job's
    server.close()


def test_without_a_port_nothing_is_served(stop):
    assert start_observer(WorkerSettings(device="cpu"), SystemClock(), stop)[1] is None


def test_looking_can_be_switched_off(stop, monkeypatch):
    monkeypatch.setenv("INFERWATCH_SCALING_LOOK_SECONDS", "0")
    observer, _ = start_observer(WorkerSettings(), SystemClock(), stop)
    before = threading.enumerate()  # another test's may be about to end
    start_scaling(observer, Cluster(), WorkerSettings(), SystemClock(), stop)
    assert observer.details() == {}
    assert not any(one.name == "scaling" for one in threading.enumerate() if one not in before)


def test_logs_go_to_the_topic_unless_switched_off(monkeypatch):
    broker = FakeBroker()
    handler = start_log_topic(FakePublisher(broker), "w-1", SystemClock())
    try:
        logging.getLogger("a").warning("hello")
        handler.flush()
    finally:
        logging.getLogger().removeHandler(handler)
        handler.close()
    assert len(broker.of(LOGS.name)) == 1
    monkeypatch.setenv("INFERWATCH_LOG_PUBLISH", "false")
    assert start_log_topic(FakePublisher(broker), "w-1", SystemClock()) is None
