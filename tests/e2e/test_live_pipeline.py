"""One live pipeline: people use it, a drill alerts, processes are killed and stopped, and the books balance in the end.

The tests run in the order of this file, against one `inferwatch up` with two jobs and windows of 1 s.
"""

import asyncio
import contextlib
import json
import signal
import time
import urllib.request

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infra.kafka import KafkaPublisher, KafkaTail
from infra.settings import KafkaSettings
from schemas.dead_letters import DeadLetter
from schemas.topics import PARTITIONS
from tests.poison import BAD_RECORDS, append_a_header_name_that_is_not_utf8

RATE = 60


@pytest.fixture(scope="module")
def pipeline(start):
    found = start("--rate", str(RATE), "--jobs", "2", "--broken-share", "0.01")
    found.until(lambda: "first prediction" in found.log(), "the first prediction", 90)
    rows_flow(found)
    return found


def count_rows(pipeline):
    found = pipeline.query("SELECT count() AS n FROM requests")
    return int(found[0]["n"]) if found else None


def rows_flow(pipeline, seconds=90):
    """Rows of requests sent from now on arrive: two growing counts, one after the other."""
    for _ in range(2):
        before = pipeline.until(lambda: count_rows(pipeline), "an answer of ClickHouse", seconds)
        pipeline.until(lambda before=before: (count_rows(pipeline) or 0) > before, "new rows", seconds)


def test_a_request_is_answered_and_found(pipeline):
    found = pipeline.json("ask", "red shoes", "--timeout", "50s", "--json", seconds=150)
    text = json.dumps(found)
    assert "all-MiniLM-L6-v2" in text
    assert "answered" in text


def test_a_file_goes_in_and_its_bad_lines_are_named(pipeline, tmp_path):
    path = tmp_path / "requests.jsonl"
    path.write_text('{"input": "blue jeans"}\n{"input": 5}\n\nnot json\n{"input": ["a", "b"], "scenario": "ads"}\n')
    done = pipeline.run("produce", str(path), "--json")
    summary = json.loads(done.stdout)
    assert done.returncode == 65
    assert summary["delivered"] == 2
    pipeline.until(
        lambda: (pipeline.query("SELECT count() AS n FROM requests WHERE scenario = 'ads'") or [{"n": 0}])[0]["n"],
        "the request of the file as a row",
    )


def test_sql_users_choose_their_format(pipeline):
    assert pipeline.run("query", "SELECT 1 AS one", "--format", "csv").stdout.split() == ['"one"', "1"]
    table = pipeline.run("query", "SELECT outcome, count() AS n FROM requests GROUP BY outcome")
    assert table.returncode == 0
    assert "answered" in table.stdout
    wrong = pipeline.run("query", "SELECT nothing FROM nowhere")
    assert wrong.returncode != 0
    assert "nowhere" in wrong.stderr


def test_each_worker_and_job_says_on_its_own_port_that_it_serves(pipeline):
    ports = json.loads((pipeline.folder / "stack" / "up" / "state.json").read_text())["ports"]
    assert {name for name in ports if name.startswith("health-")} == {"health-worker", "health-jobs-1", "health-jobs-2"}
    for name in ("health-worker", "health-jobs-1", "health-jobs-2"):
        status, told = pipeline.until(lambda name=name: ready(ports[name]), f"{name} is ready")
        assert status == 200
        assert told["code"] in ("ok", "idle")


def ready(port):
    """What /health/ready says once it is ready; None before."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=10) as answer:
            return answer.status, json.load(answer)
    except OSError:
        return None


def test_a_second_start_is_refused_and_says_who_runs(pipeline):
    second = pipeline.run("up", "--for", "1s")
    assert second.returncode == 75
    assert str(pipeline.process.pid) in second.stderr


def assert_that_nothing_was_dropped(pipeline):
    ports = json.loads((pipeline.folder / "stack" / "up" / "state.json").read_text())["ports"]
    found = {}
    for name in ("health-worker", "health-jobs-1", "health-jobs-2"):
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[name]}/metrics", timeout=10) as page:
            for family in text_string_to_metric_families(page.read().decode()):
                found |= {(name, str(one.labels), one.name): one.value for one in family.samples}
    dropped = {where: value for where, value in found.items() if "dropped" in where[-1]}
    assert {where[0] for where in dropped} >= {"health-jobs-1", "health-jobs-2"}
    assert set(dropped.values()) == {0.0}, dropped


def test_broken_requests_are_dead_letters_with_a_reason(pipeline):
    found = pipeline.until(
        lambda: pipeline.query(
            "SELECT error, count() AS n FROM requests WHERE outcome = 'dead_lettered' GROUP BY error"
        ),
        "dead-lettered requests",
    )
    assert all(row["error"] for row in found)


BROKEN = [
    None,
    b"",
    b"{",
    b"[]",
    b"{}",
    b"\xff\xfe",
    b'{"partition": "one"}',
    b'{"partition": NaN}',
    b'{"x": "\\ud800"}',
    b"x" * 1_000_000,
]


@pytest.mark.parametrize("topic", ["inference.telemetry", "inference.windows", "control.drills"])
def test_broken_records_on_every_topic_that_is_read_become_dead_letters(pipeline, topic):
    kinds = {"inference.telemetry": "telemetry.ticked", "inference.windows": "windows.partial_closed"}
    kafka = KafkaSettings(bootstrap_servers=pipeline.stack()["kafka_bootstrap_servers"])
    publisher = KafkaPublisher(kafka, client_id="broken", linger_ms=0)
    common = [("ce_specversion", b"1.0"), ("ce_id", b"1"), ("ce_source", b"test")]
    named = [*common, ("ce_type", f"inferwatch.{kinds.get(topic, 'drill.requested')}.v1".encode())]
    newer = [*common, ("ce_type", f"inferwatch.{kinds.get(topic, 'drill.requested')}.v2".encode())]
    for value in BROKEN:
        publisher.publish(topic, value, partition=0, headers=named)
    for headers in ([], newer, common, [("ce_type", b"\xff")]):
        publisher.publish(topic, b"{}", partition=0, headers=headers)
    assert publisher.close() == 0
    asyncio.run(append_a_header_name_that_is_not_utf8(kafka, topic))
    count = len(BROKEN) + 4 + BAD_RECORDS
    tail = KafkaTail(kafka, [topic + ".dead-letters"], start="beginning")
    letters = []

    def told():
        """By offset: a job whose partitions went to another one meanwhile may tell a record twice."""
        letters.extend(tail.poll(100, 0.2))
        read = [DeadLetter.from_record(letter.headers, letter.key, letter.value) for letter in letters]
        return {letter.offset: letter for letter in read}

    found = pipeline.until(lambda: len(told()) >= count and told(), f"dead letters of {topic}", 60).values()
    tail.close()
    assert {letter.topic for letter in found} == {topic}
    assert len(found) == count
    assert {letter.value for letter in found} >= {*BROKEN, b"{}"}
    assert sum(letter.detail == "a header's name is not UTF-8" for letter in found) == BAD_RECORDS
    assert {"null_value", "empty_value", "not_json", "not_utf8", "unknown_version", "wrong_headers"} <= {
        letter.reason.value for letter in found
    }
    rows_flow(pipeline)


def test_rows_that_the_table_refuses_are_put_back_after_the_fix_and_nothing_else_waits(pipeline):
    pipeline.change("ALTER TABLE requests_stored ADD CONSTRAINT no_hats CHECK scenario != 'hats'")
    assert pipeline.json("ask", "grey hat", "--scenario", "hats", "--no-row", "--timeout", "50s", "--json", seconds=150)
    named = ("dead-letters", "list", "--reason", "refused_by_table", "--json")
    told = pipeline.until(lambda: pipeline.run(*named).stdout, "the refused row's dead letter")
    letter = json.loads(told.splitlines()[0])  # a job whose partitions went to another one may tell it twice
    assert "no_hats" in letter["detail"]
    rows_flow(pipeline)
    hats = "SELECT offset FROM requests WHERE scenario = 'hats'"
    assert pipeline.query(hats) == []
    pipeline.change("ALTER TABLE requests_stored DROP CONSTRAINT no_hats")
    for counts in ({"requeued": 1}, {"requeued_before": 1}):
        assert pipeline.json("dead-letters", "requeue", letter["name"], "--yes", "--json")["counts"] == counts
    assert len(pipeline.until(lambda: pipeline.query(hats), "the row, put back")) == 1


def alerts(pipeline):
    return (
        pipeline.query(
            "SELECT incident_id, status, kind, opened_at, resolved_at FROM alerts WHERE kind = 'latency_shift'"
        )
        or []
    )


CLOSED = {"window_scores": "window_end <= {at}", "anomalies": "window_end <= {at}"}
CLOSED["alerts"] = "status = 'resolved' AND changed_at <= {at}"


def live_rows(pipeline, until):
    """By live table: rows of what was over `until` then and a digest of them as readers see them, and how many lie
    there, unmerged."""
    found = {}
    for table, over in CLOSED.items():
        where = over.format(at=f"toDateTime64('{until}', 3, 'UTC')")
        seen = f"SELECT count() AS n, sum(cityHash64(toString(tuple(*)))) AS digest FROM {table} WHERE {where}"
        stored = f"SELECT count() AS n FROM {table}_stored WHERE {where}"
        found[table] = (*pipeline.query(seen)[0].values(), pipeline.query(stored)[0]["n"])
    return found


def test_a_latency_drill_opens_an_alert_that_is_resolved(pipeline):
    pipeline.until(
        lambda: (pipeline.query("SELECT count() AS n FROM window_scores WHERE NOT learning") or [{"n": 0}])[0]["n"] > 4,
        "detectors that have learnt",
        90,
    )
    # One that goes on would take the drill's windows for its own. What opens from now on is new.
    pipeline.until(lambda: all(row["status"] == "resolved" for row in alerts(pipeline)), "no incident goes on", 90)
    before = {row["incident_id"] for row in alerts(pipeline)}
    drill = pipeline.run("drill", "latency", "--duration", "8s", "--delay-ms", "700", "--json")
    assert drill.returncode == 0, drill.stderr
    opened = pipeline.until(
        lambda: [row for row in alerts(pipeline) if row["incident_id"] not in before], "an alert of the drill", 30
    )
    incident = opened[0]["incident_id"]
    resolved = pipeline.until(
        lambda: [row for row in alerts(pipeline) if row["incident_id"] == incident and row["status"] == "resolved"],
        "its resolution",
        60,
    )
    seen = pipeline.run("alerts", "tail", "--all", "--json", "--for", "5s", seconds=90)
    states = [json.loads(line) for line in seen.stdout.splitlines() if incident in line]
    assert states, seen.stderr
    replayed = pipeline.json("replay", incident, "--json")
    assert (replayed["result"], replayed["differences"]) == ("reproduced", [])
    assert {one["recomputed_from"] for one in replayed["anomalies"]} == {"telemetry"}
    assert pipeline.json("replay", incident, "--from", "clickhouse", "--json")["result"] == "reproduced"
    assert pipeline.run("replay", "no-such-alert").returncode == 2
    before = live_rows(pipeline, resolved[0]["resolved_at"])
    rebuilt = pipeline.json("rebuild", "--since", "1h", "--json")
    assert incident in {row["incident_id"] for row in rebuilt["same"]}
    found = pipeline.query(f"SELECT count() AS n FROM rebuilt_anomalies WHERE run_id = '{rebuilt['run_id']}'")
    assert found[0]["n"] == rebuilt["anomalies"] > 0
    after = live_rows(pipeline, resolved[0]["resolved_at"])
    for table, (count, digest, stored) in before.items():
        assert count > 0, table
        assert after[table][:2] == (count, digest), f"what is live in {table} changed"
        assert after[table][2] <= stored, f"rows were added to {table}"  # fewer: merged meanwhile


def test_what_budgets_would_have_cost_is_shown_of_what_was_scored(pipeline):
    found = pipeline.json("budget", "--since", "1h", "--size", "3", "--size", "21", "--json")
    assert [one["a_week"] for one in found["budgets"]] == [3, 21]
    assert all(one["most_in_a_week"] <= one["a_week"] for one in found["budgets"])
    assert found["source"] == "window_scores"
    assert found["rows"] > 30
    told = pipeline.query(
        "SELECT detector, severity, contributors, contributions FROM window_scores WHERE NOT learning"
    )
    assert "two_heads" in {row["detector"] for row in told}
    assert all(abs(sum(row["contributions"]) - 1.0) < 1e-9 for row in told)


def test_no_process_has_dropped_anything_until_one_is_killed(pipeline):
    """Before: what a process had counted is gone with it."""
    assert_that_nothing_was_dropped(pipeline)


@pytest.mark.parametrize(
    "words",
    ["infra.cli worker", "infra.cli jobs", "infra.embedded.clickhouse_front", "kafka.Kafka"],
    ids=["worker", "job", "clickhouse", "kafka"],
)
def test_a_killed_process_comes_back_by_itself(pipeline, words):
    victims = pipeline.children(words)
    assert victims, f"nothing runs as {words}"
    victims[0].kill()
    pipeline.until(lambda: not victims[0].is_running() or victims[0].status() == psutil.STATUS_ZOMBIE, "its end")
    pipeline.until(
        lambda: len(pipeline.children(words)) >= len(victims) and victims[0] not in pipeline.children(words),
        f"another {words}",
    )
    rows_flow(pipeline, 120)


def test_a_job_stopped_past_its_session_and_continued_does_no_harm(pipeline):
    pipeline.until(lambda: len(pipeline.children("infra.cli jobs")) == 2, "both jobs")
    first, _ = pipeline.children("infra.cli jobs")
    first.send_signal(signal.SIGSTOP)
    try:
        stopped_ms = int(time.time() * 1000)
        time.sleep(7)  # longer than the session of 6 s: the group gives its partitions to the other job
        served = (
            "SELECT uniqExact(partition) AS n FROM requests"
            f" WHERE served_at > fromUnixTimestamp64Milli(toInt64({stopped_ms + 7_000}), 'UTC')"
        )
        pipeline.until(
            lambda: (pipeline.query(served) or [{"n": 0}])[0]["n"] == PARTITIONS, "rows of every partition", 60
        )
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            first.send_signal(signal.SIGCONT)
    rows_flow(pipeline, 60)


DIFFERENT_WINDOWS = """
SELECT w, scenario, model, model_version, r.n AS rows, s.n AS in_window
FROM (
    SELECT toStartOfInterval(served_at, INTERVAL 1 SECOND) AS w, scenario, model, model_version, count() AS n
    FROM requests GROUP BY ALL
) AS r
FULL OUTER JOIN (
    SELECT toDateTime64(window_start, 3, 'UTC') AS w, scenario, model, model_version, requests AS n FROM windows
) AS s USING (w, scenario, model, model_version)
WHERE r.n != s.n
"""


def test_in_the_end_the_books_balance_and_windows_equal_rows(pipeline):
    simulator = pipeline.children("infra.cli simulate")[0]
    simulator.send_signal(signal.SIGSTOP)  # no more traffic
    try:
        books = pipeline.until(lambda: settled(pipeline), "books that balance with nothing owed", 120)
        different = pipeline.until(
            lambda: [pipeline.query(DIFFERENT_WINDOWS)] == [[]], "windows that hold exactly the rows", 60
        )
    finally:
        simulator.send_signal(signal.SIGCONT)
    assert different
    assert books["sent"] == books["answered"] + books["failed"] + books["shed"] + books["dead_lettered"]
    assert books["answered"] == books["telemetry_rows"] == books["table_rows"]
    assert books["answered"] > 1_000
    assert books["dead_lettered"] > 0
    assert pipeline.query("SELECT count() AS n FROM requests GROUP BY topic_id, partition, offset HAVING n > 1") == []


def settled(pipeline):
    done = pipeline.run("books", "--json")
    books = json.loads(done.stdout) if done.stdout else {}
    books = books.get("books", books)
    return books if books.get("balanced") and books.get("owed") == 0 else None


def test_those_that_came_after_have_dropped_nothing_either(pipeline):
    assert_that_nothing_was_dropped(pipeline)


def test_it_stops_in_order_and_leaves_nothing_behind(pipeline):
    pipeline.stop()
    assert not (pipeline.folder / "stack" / "stack.json").exists()
    assert pipeline.run("ask", "red shoes").returncode == 75
