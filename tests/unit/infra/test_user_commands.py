"""The user's small commands: tail, query, drill; how they find what runs here; durations and ids."""

import json
import os
import time
from datetime import UTC, datetime
from uuid import UUID

import psutil
import pytest
from click.testing import CliRunner

from infra.connect import STACK_FILE, NothingRunning, clickhouse_connection, connection, kafka_connection
from infra.drill_cli import drill, request_drill
from infra.durations import Duration, parse_seconds
from infra.ports import Record, RetryLater
from infra.query_cli import cell, query
from infra.tail_cli import FirstAnswers, _alert_line, _prediction_line, alerts, follow, predictions
from infra.unique_ids import uuid7
from schemas.alerts import AlertChanged, AlertStatus
from schemas.anomalies import AnomalyKind
from schemas.base import Identity, decode, encode, headers_for
from schemas.drills import DRILL_KINDS, DrillKind, DrillRequested
from schemas.predictions import RequestShed
from schemas.topics import ALERTS, DRILLS, PREDICTIONS
from schemas.windows import SeriesKey
from tests.fakes import FakeBroker, FakeClock, FakePublisher


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "CLICKHOUSE_URL"):
        monkeypatch.delenv(f"INFERWATCH_{name}", raising=False)
    monkeypatch.setenv("INFERWATCH_DATA_DIR", str(tmp_path))
    return tmp_path


def write_stack(folder, **changes):
    content = {"kafka_bootstrap_servers": "127.0.0.1:9", "clickhouse_url": "http://127.0.0.1:8", "pid": os.getpid()}
    (folder / STACK_FILE).write_text(json.dumps(content | changes))


def test_the_stack_file_is_found_and_the_environment_wins(nowhere, monkeypatch):
    write_stack(nowhere, created_at=psutil.Process().create_time())
    kafka, clickhouse = connection()
    assert (kafka.bootstrap_servers, clickhouse.url) == ("127.0.0.1:9", "http://127.0.0.1:8")
    monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    kafka, clickhouse = connection()
    assert (kafka.bootstrap_servers, clickhouse.url) == ("kafka:9092", "http://127.0.0.1:8")


def test_one_is_enough_for_what_needs_one(nowhere, monkeypatch):
    monkeypatch.setenv("INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", "kafka:9092")
    assert kafka_connection().bootstrap_servers == "kafka:9092"
    with pytest.raises(NothingRunning, match="INFERWATCH_CLICKHOUSE_URL"):
        clickhouse_connection()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "there is no"),
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        ("{}", "cannot be used"),
        ('{"pid": 1, "kafka_bootstrap_servers": ""}', "names no"),
        ('{"pid": 1, "kafka_bootstrap_servers": 5}', "names no"),
        ('{"pid": 4194399, "kafka_bootstrap_servers": "a:1"}', "has ended"),
        ('{"pid": -1, "kafka_bootstrap_servers": "a:1"}', "has ended"),
        ('{"pid": OURS, "created_at": 5.0, "kafka_bootstrap_servers": "a:1"}', "has ended"),
    ],
)
def test_nothing_running_says_so_and_what_to_do(nowhere, content, words):
    if content is not None:
        (nowhere / STACK_FILE).write_text(content.replace("OURS", str(os.getpid())))
    with pytest.raises(NothingRunning, match=words) as caught:
        kafka_connection()
    assert "nothing is running here: `make up`" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("60s", 60), ("1.5m", 90), ("250ms", 0.25), ("2h", 7200), ("7", 7), (" 1d ", 86_400)]
)
def test_durations(text, seconds):
    assert parse_seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "-5s", "1e9s", "nan", "inf", "5 weeks", "1s2"])
def test_no_durations(text):
    with pytest.raises(ValueError, match="duration"):
        parse_seconds(text)


def test_durations_have_bounds():
    with pytest.raises(Exception, match="outside"):
        Duration(1, 60).convert("2m", None, None)


def test_ids_are_version_7_and_sort_by_time():
    ids = [uuid7(ms, bytes([255 - n] * 10)) for n, ms in enumerate((0, 1, 1_700_000_000_000, 2**48 - 1))]
    assert ids == sorted(ids)
    assert {(UUID(i).version, UUID(i).variant) for i in ids} == {(7, "specified in RFC 4122")}
    with pytest.raises(ValueError, match="10"):
        uuid7(0, b"")


def record(topic, message, offset=0, value=None):
    headers = headers_for(message, event_id="e", source="s", time=datetime(2026, 1, 1, tzinfo=UTC))
    return Record(topic, 1, offset, 1_700_000_000_000, None, value or encode(message), headers)


SHED = RequestShed(
    request=Identity(cluster_id="c", topic_id="t", partition=1, offset=7),
    request_id="mine\x1b[2J",
    scenario="search",
    worker_id="w",
    reason="expired",
)
ALERT = AlertChanged(
    incident_id="i-1",
    sequence=0,
    status=AlertStatus.OPEN,
    kind=AnomalyKind.LATENCY_SHIFT,
    series=SeriesKey(model="mini", version="1", scenario="search"),
    metric="total_ms_p95",
    summary="slower\nthan before",
    opened_ms=3,
    onset_ms=1,
    changed_ms=3,
    windows=2,
    score=0.98,
    peak_score=0.98,
    actual=812.0,
    expected=30.0,
    lower=21.0,
    upper=40.0,
    anomaly_id="a-1",
)


class Tail:
    def __init__(self, clock, *records):
        self.clock, self.left, self.closed = clock, list(records), False

    def poll(self, count_max, timeout_seconds):
        self.clock.advance(timeout_seconds)
        found, self.left = self.left, []
        return found

    def close(self):
        self.closed = True


def lines(topic, show, *records, count=None, seconds=1.0, as_json=False):
    clock = FakeClock()
    tail = Tail(clock, *records)
    return list(follow(tail, topic, show, count=count, seconds=seconds, as_json=as_json, monotonic=clock.monotonic))


def test_lines_for_people():
    tombstone = Record(ALERTS.name, 0, 1, 0, b"k", None)
    (alert,) = lines(ALERTS, _alert_line, record(ALERTS.name, ALERT), tombstone)
    for words in ("open", "latency_shift", "search/mini/1", "812, expected 21 to 40", "strength 0.98", "[i-1]"):
        assert words in alert
    assert "\n" not in alert
    (answer,) = lines(PREDICTIONS, _prediction_line, record(PREDICTIONS.name, SHED))
    assert "shed" in answer
    assert "1@7" in answer
    assert "\x1b" not in answer


def test_unreadable_records_are_said_and_passed(capsys):
    broken = record(PREDICTIONS.name, SHED, value=b"{")
    shown = lines(PREDICTIONS, _prediction_line, broken, record(PREDICTIONS.name, SHED))
    assert "unreadable record 1@0" in shown[0]
    assert len(shown) == 2
    first, second = map(json.loads, lines(PREDICTIONS, _prediction_line, broken, record("p", SHED, 5), as_json=True))
    assert "not_json" in first["unreadable"]
    assert (second["offset"], second["type"], second["data"]["reason"]) == (
        5,
        "inferwatch.inference.shed.v1",
        "expired",
    )


def answer_to(offset, at, partition=1, topic_id="t"):
    request = SHED.request.model_copy(update={"offset": offset, "partition": partition, "topic_id": topic_id})
    return record(PREDICTIONS.name, SHED.model_copy(update={"request": request}), at)


def test_of_each_request_the_first_answer_is_shown():
    again = [answer_to(7, 0), answer_to(8, 1), answer_to(7, 2), answer_to(7, 3, partition=2), answer_to(8, 4)]
    other = answer_to(7, 5, topic_id="anew")
    shown = [json.loads(line)["offset"] for line in lines(PREDICTIONS, _prediction_line, *again, other, as_json=True)]
    assert shown == [0, 1, 3, 5]
    assert len(lines(PREDICTIONS, _prediction_line, *again, count=3)) == 3, "what is not shown is not counted"
    changes = [record(ALERTS.name, ALERT, 0), record(ALERTS.name, ALERT, 1)]
    assert len(lines(ALERTS, _alert_line, *changes)) == 2, "an alert is no answer"


def test_so_many_requests_are_remembered_and_no_more(monkeypatch):
    monkeypatch.setattr("infra.tail_cli.REMEMBERED_MAX", 3)
    first = FirstAnswers()
    messages = [decode(one.headers, one.value, PREDICTIONS.kinds).data for one in map(answer_to, range(5), range(5))]
    assert [first.is_first(message) for message in messages] == [True] * 5
    assert [first.is_first(messages[n]) for n in (4, 3, 2)] == [False] * 3
    assert first.is_first(messages[0])
    assert [len(shown) for shown in first._shown.values()] == [3]


def test_count_and_time_end_it():
    many = [answer_to(n, n) for n in range(10)]
    assert len(lines(PREDICTIONS, _prediction_line, *many, count=3)) == 3
    assert len(lines(PREDICTIONS, _prediction_line, *many, seconds=0.5)) == 10


@pytest.mark.parametrize(
    ("group", "arguments", "start"), [(predictions, [], "end"), (alerts, [], "end"), (alerts, ["--all"], "beginning")]
)
def test_the_tail_commands(monkeypatch, nowhere, group, arguments, start):
    write_stack(nowhere)
    seen = {}

    def make(settings, topics, **options):
        message = SHED if topics == [PREDICTIONS.name] else ALERT
        seen.update(options, tail=Tail(FakeClock(), record(topics[0], message)))
        return seen["tail"]

    monkeypatch.setattr("infra.kafka.KafkaTail", make)
    result = CliRunner().invoke(group, ["tail", "--count", "1", "--json", *arguments])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["type"].startswith("inferwatch.")
    assert seen["start"] == start
    assert seen["tail"].closed


class Server:
    """Stands for ClickHouse: refuses the SQL `wrong`."""

    asked = []

    def __init__(self, settings):
        pass

    def query(self, sql, parameters=None):
        self.asked.append((sql, parameters))
        if sql == "wrong":
            raise ValueError("ClickHouse: Code: 62. Syntax error")
        return ("name", "value"), [("[bold]x\x1b", 1.5), (None, 2.0)]

    def query_text(self, sql, output_format, parameters=None):
        self.query(sql, parameters)
        return f"{output_format}\n"

    def close(self):
        pass


@pytest.fixture
def server(monkeypatch, nowhere):
    write_stack(nowhere)
    monkeypatch.setattr("infra.clickhouse.ClickHouse", Server)
    Server.asked = []
    return Server


def test_query_shows_a_table_without_obeying_the_data(server):
    result = CliRunner().invoke(query, ["SELECT {id:String}", "--format", "table", "--param", "id=a=b"])
    assert result.exit_code == 0, result.output
    assert "[bold]x" in result.stdout
    assert "\x1b" not in result.stdout
    assert "NULL" in result.stdout
    assert "2 rows" in result.stderr
    assert server.asked == [("SELECT {id:String}", {"id": "a=b"})]


@pytest.mark.parametrize(
    ("arguments", "output"),
    [([], "CSVWithNames\n"), (["--format", "csv"], "CSVWithNames\n"), (["--json"], "JSONEachRow\n")],
)
def test_query_for_programs(server, arguments, output):
    assert CliRunner().invoke(query, ["SELECT 1", *arguments]).stdout == output


def test_query_reads_standard_input(server):
    CliRunner().invoke(query, ["-"], input="SELECT 2")
    assert server.asked == [("SELECT 2", {})]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["wrong"], "Syntax error"), ([" "], "no SQL"), (["x", "--param", "novalue"], "NAME=VALUE")],
)
def test_a_wrong_query_exits_2_in_the_servers_words(server, arguments, words):
    result = CliRunner().invoke(query, arguments)
    assert result.exit_code == 2
    assert words in result.output


def test_cells():
    assert cell(datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)) == "2026-01-02 03:04:05.678"
    assert [cell(v) for v in (None, 0.1234567, 7, True, b"\xff", "a\tb")] == [
        "NULL",
        "0.123457",
        "7",
        "True",
        "\ufffd",
        "a\ufffdb",
    ]


def test_a_drill_is_put_on_its_topic():
    broker = FakeBroker()
    asked = request_drill(FakePublisher(broker), FakeClock(), bytes(10), DrillKind.LATENCY, 60_000, 400)
    (found,) = broker.of(DRILLS.name)
    assert decode(found.headers, found.value, DRILL_KINDS).data == asked
    assert found.key == asked.drill_id.encode()
    assert asked == DrillRequested(drill_id=asked.drill_id, kind=DrillKind.LATENCY, duration_ms=60_000, delay_ms=400)


def test_a_drill_that_does_not_arrive_is_said():
    publisher = FakePublisher(FakeBroker())
    publisher.fail = [RetryLater("away")]
    with pytest.raises(RetryLater, match="away"):
        request_drill(publisher, FakeClock(), bytes(10), DrillKind.LATENCY, 60_000, 400)


def test_the_drill_command(monkeypatch, nowhere):
    write_stack(nowhere)
    broker = FakeBroker()
    monkeypatch.setattr("infra.kafka.KafkaPublisher", lambda settings, **options: FakePublisher(broker))
    result = CliRunner().invoke(drill, ["latency", "--duration", "90s", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["duration_ms"] == 90_000
    assert "alerts tail" in CliRunner().invoke(drill, ["latency"]).stdout
    for arguments in (["--duration", "0s"], ["--duration", "2h"], ["--delay-ms", "0"], ["--delay-ms", "70000"]):
        assert CliRunner().invoke(drill, ["latency", *arguments]).exit_code == 2


def test_help_is_quick_and_has_an_example():
    started = time.monotonic()
    for command, path in ((predictions, ["tail"]), (alerts, ["tail"]), (query, []), (drill, ["latency"])):
        result = CliRunner().invoke(command, [*path, "--help"])
        assert result.exit_code == 0
        assert "Example:" in result.stdout
    assert time.monotonic() - started < 5
