"""What the start-up benchmark prints."""

import json
from types import SimpleNamespace

import click
import pytest

from infra.durations import parse_seconds
from infra.up import startup_bench
from infra.up.startup_bench import first_prediction_seconds, spread


def test_programs_find_the_median_under_its_name():
    assert spread([7.0, 5.0, 6.12345]) == {
        "first_prediction_seconds": 6.123,
        "least_seconds": 5.0,
        "most_seconds": 7.0,
        "seconds": [7.0, 5.0, 6.123],
    }


def test_a_slow_start_is_reported_and_a_quick_one_does_not_wait(monkeypatch, tmp_path):
    ran = []

    def run(command, env, **options):
        ran.append((command, env))
        return SimpleNamespace(stdout=json.dumps({"first_prediction_seconds": 57.25}), stderr="", returncode=75)

    monkeypatch.setattr(startup_bench.subprocess, "run", run)
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "KAFKA_SECURITY_PROTOCOL", "CLICKHOUSE_URL", "WORKER_GROUP"):
        monkeypatch.setenv(f"INFERWATCH_{name}", "x")
    assert first_prediction_seconds(tmp_path) == 57.25
    [(command, environment)] = ran
    assert parse_seconds(command[command.index("--for") + 1]) >= 60
    assert "--until-answered" in command
    assert environment["INFERWATCH_WORKER_GROUP"] == "x"
    servers = [name for name in environment if name.startswith(("INFERWATCH_KAFKA_", "INFERWATCH_CLICKHOUSE_"))]
    assert servers == [], "always the embedded servers"


def test_no_prediction_is_a_failure_in_words(monkeypatch, tmp_path):
    none = SimpleNamespace(stdout=json.dumps({"first_prediction_seconds": None}), stderr="", returncode=75)
    monkeypatch.setattr(startup_bench.subprocess, "run", lambda *_, **__: none)
    with pytest.raises(click.ClickException, match="no prediction within 60 s"):
        first_prediction_seconds(tmp_path)
