from typing import get_args

import pytest
from click.testing import CliRunner

from benchmarks import loadtest_cli
from benchmarks.load_options import TASKS
from benchmarks.load_policy import saturation
from infra.cli import inferwatch
from schemas.requests import Task
from tests.unit.benchmarks.test_load_policy import step


def run(*arguments, servers="127.0.0.1:1"):
    return CliRunner().invoke(inferwatch, ["loadtest", *arguments], env={"INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": servers})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--rate-min", "10", "--rate-max", "5"), "below --rate-min"),
        (("--scenario", "Not A Slug"), "--scenario"),
        (("--task", "dance"), "--task"),
        (("--step", "soon"), "no duration"),
        (("--items", "9-3"), "within 1 to 64"),
        (("--items", "65"), "within 1 to 64"),
        (("--words", "few"), "no number and no range"),
        (("--scenario", "search=0"), "share above 0"),
        (("--scenario", "a=1,B=1"), "--scenario"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_sent(arguments, words):
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert words in result.output


@pytest.mark.parametrize(
    ("text", "arguments", "words"),
    [
        ("", (), "holds no requests"),
        ('{"input": "a"}\n{"input": "a", "task": "rerank"}', (), "line 2: request: Value error, rerank needs a query"),
        ('\n{"inputs": 3}', (), "line 2: input: Field required"),
        ('{"input": "a"}', ("--task", "embed"), "leave --task out"),
        ('{"input": "a"}', ("--items", "2", "--max-tokens", "3"), "leave --items, --max-tokens out"),
    ],
)
def test_a_file_that_cannot_be_sent_is_refused_by_its_line(tmp_path, text, arguments, words):
    path = tmp_path / "requests.jsonl"
    path.write_text(text)
    result = run("--from", str(path), *arguments)
    assert result.exit_code == 2, result.output
    assert words in " ".join(result.output.split())


def test_the_tasks_are_those_of_requests():
    assert get_args(Task) == TASKS


def test_another_machine_is_refused():
    result = run(servers="kafka-1.shop.example:9092,127.0.0.1:9092")
    assert result.exit_code == 78
    assert "kafka-1.shop.example" in result.output
    assert "--yes-this-is-my-cluster" in result.output


def test_a_tunnel_to_another_machine_is_refused(monkeypatch):
    monkeypatch.setattr("infra.kafka.KafkaCluster.broker_hosts", lambda self: ["broker.shop.example"])
    result = run()
    assert result.exit_code == 78
    assert "broker.shop.example" in result.output


def test_both_commands_explain_themselves():
    for command in (["loadtest"], ["bench", "worker"]):
        result = CliRunner().invoke(inferwatch, [*command, "--help"])
        assert result.exit_code == 0
        assert "Example:" in result.output


def test_people_see_where_it_saturates(tmp_path):
    text = loadtest_cli._summary(saturation([step(100.0)]), "the time of 60 s is used up", tmp_path / "curve")
    assert "holds     100 requests/s" in text
    assert "saturates not found" in text
    assert "used up" in text
    assert "curve.png" in text
