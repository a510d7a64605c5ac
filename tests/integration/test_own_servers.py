"""The same commands with your own servers: named by the environment, made ready twice, asked."""

import json
import os
import socket
import subprocess
import sys

import pytest

from infra import diagnosis
from infra.clickhouse import ClickHouse
from infra.migrations import read_migrations


@pytest.fixture(scope="module")
def environment(kafka, clickhouse, tmp_path_factory):
    """Servers that this process did not start; a database and a data folder of this module's own."""
    client = ClickHouse(clickhouse)
    client.command("CREATE DATABASE own_servers_test")
    client.close()
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("INFERWATCH_")},
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "INFERWATCH_CLICKHOUSE_URL": clickhouse.url,
        "INFERWATCH_CLICKHOUSE_DATABASE": "own_servers_test",
        "INFERWATCH_DATA_DIR": str(tmp_path_factory.mktemp("elsewhere") / "data"),
    }


def said(environment, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "infra.cli", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_topics_are_made_once(environment):
    said(environment, "topics", "apply")  # another test may have made them
    assert said(environment, "topics", "apply").strip() == "nothing to change"


def test_tables_are_made_once_and_can_be_asked(environment):
    first, second = (json.loads(said(environment, "tables", "apply", "--json")) for _ in range(2))
    assert first["changes"] == len(read_migrations())
    assert second == {"changes": 0, "dry_run": False, "said": []}
    assert said(environment, "query", "SELECT count() AS requests FROM requests", "--json") == '{"requests":0}\n'
    assert said(environment, "query", "SELECT 1", "--format", "csv").splitlines()[1:] == ["1"]


def test_nothing_is_made_on_this_machine(environment):
    said(environment, "query", "SELECT 1")
    assert not os.path.exists(environment["INFERWATCH_DATA_DIR"])


def test_the_doctor_asks_kafka_a_question(kafka, monkeypatch):
    monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", kafka.bootstrap_servers)
    found = diagnosis.check_kafka_server()
    assert (found.verdict, found.found) == ("ok", f"{kafka.bootstrap_servers} answers")


def test_the_doctor_is_not_content_with_a_server_that_accepts_connections_and_says_nothing(monkeypatch):
    monkeypatch.setattr(diagnosis, "CONNECT_TIMEOUT_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", server)
        found = diagnosis.check_kafka_server()
    assert (found.verdict, found.exit_code) == ("fail", 75)
    assert found.found.startswith(f"{server} accepts connections, and then: Kafka does not answer")


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_proxy_of_the_environment_is_not_asked_for_servers_on_this_machine(environment, variable):
    behind = environment | {variable: "http://127.0.0.1:9"}  # nothing listens there
    assert said(behind, "query", "SELECT 1 AS one", "--json") == '{"one":1}\n'
    done = subprocess.run(
        [sys.executable, "-c", "from infra import diagnosis; print(diagnosis.check_clickhouse_server())"],
        env=behind,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "verdict='ok'" in done.stdout
