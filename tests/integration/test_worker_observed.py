"""A real worker process tells about itself: health, metrics, logs on the topic, spans of the answers."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from infra.kafka import KafkaPublisher, KafkaTail
from infra.provision import apply_topics
from infra.settings import StackSettings
from schemas.base import decode, encode, headers_for
from schemas.logs import LOG_KINDS
from schemas.predictions import PREDICTION_KINDS
from schemas.requests import InferenceRequested
from schemas.telemetry import TELEMETRY_KINDS
from schemas.topics import LOGS, PREDICTIONS, REQUESTS, TELEMETRY

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.fixture
def worker(kafka, unique, tmp_path):
    apply_topics(kafka, StackSettings(), say=lambda text: None)
    port = free_port()
    environment = os.environ | {
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "INFERWATCH_WORKER_GROUP": unique,
        "INFERWATCH_WORKER_WORKER_ID": unique,
        "INFERWATCH_WORKER_METRICS_PORT": str(port),
        "INFERWATCH_SCALING_LOOK_SECONDS": "0.5",
    }
    code = "from inference_workers.worker_cli import worker; worker()"
    with (tmp_path / "worker.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=log)
    yield process, port, tmp_path / "worker.log"
    process.kill()
    process.wait(10)


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def test_a_worker_tells_about_itself(kafka, unique, worker, until):
    process, port, log = worker
    tails = {one.name: KafkaTail(kafka, [one.name], start="end") for one in (PREDICTIONS, TELEMETRY, LOGS)}
    status, body = until(lambda: (found := get(port, "/health/ready"))[0] and found, "the health port", 30)
    assert status == 503, "it is not ready before its model is loaded"
    assert json.loads(body)["code"] in ("starting", "joining")
    assert get(port, "/health/live")[0] == 200
    until(lambda: get(port, "/health/ready")[0] == 200, "the worker to be ready", 90)

    publisher = KafkaPublisher(kafka, client_id=unique)
    for number in range(40):
        message = InferenceRequested(input=f"red shoes {number}", scenario="search")
        headers = headers_for(
            message, event_id=f"{unique}-{number}", source="t", time=datetime.now(UTC), traceparent=TRACE
        )
        publisher.publish(REQUESTS.name, encode(message), key=b"%d" % number, headers=headers)
    assert publisher.flush(10) == 0

    answers = {}

    def all_answered():
        for record in tails[PREDICTIONS.name].poll(500, 0.1):
            envelope = decode(record.headers, record.value, PREDICTION_KINDS)
            if envelope.data.worker_id == unique and envelope.data.request_id.startswith(unique):
                answers[envelope.data.request_id] = envelope.traceparent
        return len(answers) == 40

    until(all_answered, "all answers", 60)
    assert {one[:35] for one in answers.values()} == {TRACE[:35]}
    assert len({*answers.values(), TRACE}) == 41, "each answer is a span of its own"

    names = (
        'inferwatch_request_duration_seconds_bucket{computed="true",',
        "inferwatch_compute_duration_seconds_count{",
        "inferwatch_publish_duration_seconds_count ",
        "inferwatch_model_load_seconds{",
        'inferwatch_deployment_info{arm="",mode="answer",',
        "inferwatch_desired_workers 1.0",
        "inferwatch_process_cpu_ratio ",
        "inferwatch_ready 1.0",
    )
    missing = set()

    def counted():
        text = get(port, "/metrics")[1].decode()
        lines = [one for one in text.splitlines() if one.startswith("inferwatch_requests_total{")]
        answered = [float(one.rpartition(" ")[2]) for one in lines if 'outcome="answered"' in one]
        missing.clear()
        missing.update(name for name in names if name not in text)
        return sum(answered) >= 40 and not missing  # other tests' requests may be among them

    try:
        until(counted, "the metrics", 40)
    except pytest.fail.Exception:
        pytest.fail(f"not in /metrics: {missing or 'forty answers'}")

    samples = []
    until(lambda: samples.extend(_samples(tails[TELEMETRY.name], unique)) or samples, "a telemetry event")
    assert all(one is None or one.process_memory_bytes > 10**7 for one in samples)
    _, body = until(lambda: (found := get(port, "/health/ready"))[0] == 200 and found, "an answer of the health port")
    assert json.loads(body)["scaling"]["workers"] == 1

    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    said = []

    def stopped():
        said.extend(decode(one.headers, one.value, LOG_KINDS).data for one in tails[LOGS.name].poll(500, 0.1))
        return any(one.message == "stopped in order" and one.worker_id == unique for one in said)

    until(stopped, "the last line on the log topic", 20)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {line["worker_id"] for line in lines} == {unique}
    publisher.close()
    for tail in tails.values():
        tail.close()


def _samples(tail, worker_id):
    events = [decode(one.headers, one.value, TELEMETRY_KINDS).data for one in tail.poll(500, 0.1)]
    return [one.sample for one in events if hasattr(one, "worker") and one.worker.worker_id == worker_id]
