"""The health port: pages, codes, and callers that do not behave."""

import contextlib
import http.client
import json
import socket
import time

import pytest

from infra import health_server
from infra.clock import SystemClock
from infra.health import HealthPolicy, Readiness
from infra.health_server import HealthServer
from infra.meters import Catalogue, Exposition
from infra.metrics import CATALOGUE, EVERY
from infra.ports import TryAgain


@pytest.fixture
def readiness():
    return Readiness(HealthPolicy(), SystemClock().monotonic(), doing="loading the model")


@pytest.fixture
def server(readiness):
    catalogue = Catalogue()
    catalogue.counter("p", "inferwatch_things_total", "Things.").inc(3)
    server = HealthServer(
        "127.0.0.1",
        0,
        readiness,
        Exposition(catalogue, {"p"}),
        SystemClock(),
        process="worker-1",
        details=lambda: {"scaling": {"workers": 2}},
    )
    yield server
    server.close()


def get(server, path, method="GET", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request(method, path, headers=headers)
    response = connection.getresponse()
    body = response.read()
    connection.close()
    return response, body


def test_metrics_in_the_format_that_is_asked_for(server):
    response, body = get(server, "/metrics?x=1")
    assert response.status == 200
    assert response.getheader("Content-Type").startswith("text/plain; version=0.0.4")
    assert b"inferwatch_things_total 3.0" in body
    response, body = get(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert response.getheader("Content-Type").startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
    response, _ = get(server, "/metrics", **{"Accept-Encoding": "gzip"})
    assert response.getheader("Content-Encoding") == "gzip"


def test_health_says_yes_or_no_and_why(server, readiness):
    response, body = get(server, "/health/ready")
    assert response.status == 503
    assert json.loads(body) == {
        "status": "unavailable",
        "code": "starting",
        "reason": "not serving yet: loading the model",
        "process": "worker-1",
        "scaling": {"workers": 2},
    }
    response, body = get(server, "/health/live")
    assert (response.status, json.loads(body)["status"]) == (200, "ok")
    readiness.loaded()
    readiness.joined(SystemClock().monotonic())
    response, body = get(server, "/health/ready/")
    assert (response.status, json.loads(body)["code"]) == (200, "idle")
    assert response.getheader("Cache-Control") == "no-store"


def test_the_verdicts_are_metrics_too(readiness):
    server = HealthServer("127.0.0.1", 0, readiness, Exposition(CATALOGUE, {EVERY}), SystemClock())
    assert {b"inferwatch_live 1.0", b"inferwatch_ready 0.0"} <= set(get(server, "/metrics")[1].splitlines())
    server.close()


def test_other_pages_and_methods(server):
    assert get(server, "/")[0].status == 200
    assert get(server, "/metricsx")[0].status == 404
    assert get(server, "/metrics", "POST")[0].status == 501
    response, body = get(server, "/metrics", "HEAD")
    assert (response.status, body) == (200, b"")
    assert int(response.getheader("Content-Length")) > 0


def test_a_judge_that_breaks_is_an_error_and_no_silence(server, readiness):
    readiness.answers = None
    readiness.loaded()
    readiness.joined(SystemClock().monotonic())
    assert get(server, "/health/ready")[0].status == 500


def test_a_connection_is_one_request(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"GET /health/live HTTP/1.1\r\nConnection: keep-alive\r\n\r\n" * 2)
        received = b""
        while piece := connection.recv(65_536):
            received += piece
    assert received.count(b"HTTP/1.0 200") == 1


def test_callers_that_say_nothing_keep_no_thread_and_do_not_shut_others_out(server, monkeypatch):
    monkeypatch.setattr(health_server, "CONNECTIONS_MAX", 3)
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(3)]
    idle[0].sendall(b"GET /metrics HTTP/1.1\r\nX: ")
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as refused:
        assert refused.recv(100).startswith(b"HTTP/1.0 503")
    monkeypatch.setattr(health_server, "CONNECTION_SECONDS_MAX", 0.5)
    began = time.monotonic()
    while get_status(server) != 200:
        idle_drip(idle[0])
        assert time.monotonic() - began < 30
        time.sleep(0.05)
    for one in idle:
        one.close()


def idle_drip(connection):
    with contextlib.suppress(OSError):
        connection.sendall(b"x")


def get_status(server):
    try:
        return get(server, "/health/live")[0].status
    except (OSError, http.client.HTTPException):
        return None


def test_a_port_that_is_taken_is_said(server, readiness):
    with pytest.raises(TryAgain, match="cannot serve /metrics and /health"):
        HealthServer("127.0.0.1", server.port, readiness, Exposition(Catalogue(), ()), SystemClock())


def has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as one:
            one.bind(("::1", 0))
    except OSError:
        return False
    return True


def test_it_serves_ipv6_where_the_machine_has_it(readiness):
    if not has_ipv6():
        with pytest.raises(TryAgain, match="::1"):
            HealthServer("::1", 0, readiness, Exposition(Catalogue(), ()), SystemClock())
        return
    server = HealthServer("::1", 0, readiness, Exposition(Catalogue(), ()), SystemClock())
    connection = http.client.HTTPConnection("::1", server.port, timeout=5)
    connection.request("GET", "/health/live")
    assert connection.getresponse().status == 200
    connection.close()
    server.close()
