"""`inferwatch produce` end to end on a broker in memory: counts, refusals with lines, exit codes."""

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from infra.ports import RetryLater
from producers.client import Producer, RequestTopic
from producers.produce_cli import Report, produce, send_all
from producers.read_input import Format, Layout, Request, read_requests
from schemas.requests import InferenceRequested
from schemas.topics import REQUESTS
from tests.fakes import FakeBroker, FakeClock, FakePublisher


@pytest.fixture
def publisher(monkeypatch):
    publisher = FakePublisher(FakeBroker())
    monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    monkeypatch.setattr("infra.kafka.KafkaPublisher", lambda settings, **options: publisher)
    monkeypatch.setattr("producers.client.request_topic", lambda settings: RequestTopic("c", "t", 2))
    return publisher


def run(*arguments, **options):
    return CliRunner().invoke(produce, [str(a) for a in arguments], **options)


def test_a_clean_file_is_sent(publisher, tmp_path):
    file = tmp_path / "queries.csv"
    file.write_text("user,query\n1,red shoes\n2,sofa\n")
    result = run(file, "--column", "query", "--key-column", "user", "--scenario", "home", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["sent"], facts["delivered"], facts["refused"]) == (2, 2, {})
    records = publisher.broker.of(REQUESTS.name)
    assert {r.key for r in records} == {b"1", b"2"}
    assert {json.loads(r.value)["scenario"] for r in records} == {"home"}


def test_bad_lines_are_named_and_the_rest_is_sent(publisher, tmp_path):
    file = tmp_path / "mixed.jsonl"
    file.write_bytes(b'{"input":"a"}\n{"input":1}\n{"input":\n{"input":2}\n{"input":"b"}\n')
    result = run(file)
    assert result.exit_code == 65
    assert "2 sent, 2 delivered, 3 refused" in result.stdout
    assert "2 x wrong_type (line 2, 4)" in result.stdout
    assert "1 x not_json (line 3)" in result.stdout
    assert len(publisher.broker.of(REQUESTS.name)) == 2


def test_standard_input(publisher):
    result = run("-", "--format", "text", input="red shoes\n\nsofa\n")
    assert result.exit_code == 0, result.output
    assert len(publisher.broker.of(REQUESTS.name)) == 2


def test_what_is_not_delivered_is_said_with_its_line(publisher):
    publisher.fail = [None, RetryLater("broker away")]
    result = run("-", "--format", "text", input="a\nb\nc\n")
    assert result.exit_code == 75
    assert "not delivered 1 (line 2)" in result.stdout
    assert "broker away" in result.stdout


def test_a_broker_that_takes_no_more_ends_it_early(publisher):
    def away(*arguments, **options):
        raise RetryLater("the send buffer stayed full")

    publisher.publish = away
    result = run("-", "--json", input='{"input":"a"}\n{"input":"b"}\n')
    assert result.exit_code == 75
    assert json.loads(result.stdout)["stopped"] == "the send buffer stayed full"


def test_a_wrong_header_refuses_the_file(publisher, tmp_path):
    file = tmp_path / "q.csv"
    file.write_text("text\nred\n")
    result = run(file)
    assert result.exit_code == 65
    assert "--column input" in result.stdout
    assert "it has: text" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["none.csv"],
        ["."],
        ["--rate", "0", "-"],
        ["--format", "xml", "-"],
        ["--scenario", "A B", "-"],
        ["--scenario", "", "-"],
    ],
)
def test_impossible_options_are_usage_errors(publisher, arguments):
    assert run(*arguments).exit_code == 2


def test_an_unknown_ending_asks_for_the_format(publisher, tmp_path):
    file = tmp_path / "queries.parquet"
    file.write_text("x")
    result = run(file)
    assert result.exit_code == 2
    assert "--format" in result.output


def test_the_rate_is_kept():
    clock = FakeClock()
    producer = Producer(publisher=FakePublisher(FakeBroker(clock)), topic=RequestTopic("c", "t", 2), clock=clock)
    rows = (Request(n, InferenceRequested(input="a")) for n in range(101))
    report = Report()
    send_all(rows, producer, report, rate=20, monotonic=clock.monotonic, wait=clock.advance)
    assert report.seconds == pytest.approx(5.0, abs=0.1)
    assert report.delivered == 101


def test_unknown_fields_travel_with_the_request(tmp_path):
    broker = FakeBroker()
    producer = Producer(publisher=FakePublisher(broker), topic=RequestTopic("c", "t", 2))
    file = tmp_path / "a.jsonl"
    file.write_text('{"input": "a", "category": "shoes"}\n')
    with file.open("rb") as stream:
        send_all(read_requests(stream, Layout(Format.JSONL)), producer, Report())
    assert json.loads(broker.of(REQUESTS.name)[0].value)["category"] == "shoes"


@pytest.mark.parametrize("name", ["produce", "simulate", "ask"])
def test_help_has_an_example_and_loads_nothing_heavy(name):
    code = (
        f"import sys; from producers.{name}_cli import {name}\n"
        f"try: {name}(['--help'])\n"
        "finally: print([m for m in ('confluent_kafka', 'clickhouse_connect', 'pyarrow', 'rich') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "Example:" in result.stdout
    assert result.stdout.splitlines()[-1] == "[]"
