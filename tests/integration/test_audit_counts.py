"""The proof of counts on what the real job stored: it agrees, and it fails for every way in which it must.

Each fault is made in tables of its own, copies of what the job stored, so that the tests do not depend on each other.
"""

import json
import os

import pytest
from click.testing import CliRunner

from benchmarks.scoring.measured_process import MeasuredProcess
from benchmarks.scoring.pipeline_part import JOB, pipeline
from infra.audit.audit_cli import as_object, as_text, exit_code
from infra.audit.counts import CountsAudit, Range, Views
from infra.cli import inferwatch
from infra.clock import SystemClock
from schemas import topics
from tests.parts import kafka_jars

GROUP = "stream-jobs-score"
ROWS = 5_400
FAST = {"INFERWATCH_JOBS_WINDOW_SECONDS": "1", "INFERWATCH_JOBS_BARRIER_INTERVAL_SECONDS": "0.5"}


def committed(served, topic):
    ends = {number: after for number, (_, after) in served.cluster.ranges(topic).items()}
    found = served.cluster.committed(GROUP, topic)
    return all(found.get(number, 0) >= after for number, after in ends.items())


def window_count(served):
    return served.tables.query("SELECT count() FROM windows")[1][0][0]


@pytest.fixture(scope="module")
def served(until):
    """What the real job stored of three bursts of telemetry, some of it told twice, one record of it poison."""
    kafka_jars()
    with pipeline(None, print) as served:
        with MeasuredProcess(JOB, served.job_environment() | FAST, None):
            for burst in range(1, 4):
                served.fill(ROWS // 3, 50)
                until(lambda n=burst: window_count(served) >= 2 * n, "windows of the burst", 90)
            before = window_count(served)
            for event in list(served.makers[0].events(100, 50)) * 2:
                served.publisher.publish(event.topic, event.value, partition=0, headers=event.headers)
            served.publisher.publish(topics.TELEMETRY.name, b"poison", partition=1)
            for _ in range(100):
                served.publisher.publish(topics.REQUESTS.name, b"{}", partition=0)
            served.flush()
            until(lambda: window_count(served) > before, "windows of what was told twice", 60)
            until(lambda: committed(served, topics.TELEMETRY.name), "telemetry committed", 60)
        yield served


def audited(served, views=None, wanted=None, **more):
    audit = CountsAudit(served.kafka, served.tables, GROUP, SystemClock(), views=views)
    return audit.run(wanted or Range(), lambda done, total: None, **more)


def differences(found):
    return {kind: count for kind, count in found.counts.items() if count}


@pytest.fixture
def copies(served, unique):
    """Copies of both tables and their views; readers of these see what a test makes of them."""
    for name in ("requests", "windows"):
        served.tables.command(f"CREATE TABLE {unique}_{name}_stored AS {name}_stored")
        served.tables.command(f"INSERT INTO {unique}_{name}_stored SELECT * FROM {name}")
        served.tables.command(f"CREATE VIEW {unique}_{name} AS SELECT * FROM {unique}_{name}_stored FINAL")
    return Views(f"{unique}_requests", f"{unique}_windows")


def some_row(served, where="1"):
    _, rows = served.tables.query(
        f"SELECT partition, offset, telemetry_offset FROM requests WHERE {where} ORDER BY partition, offset LIMIT 1"
        " OFFSET 137"
    )
    return rows[0]


def test_what_the_job_stored_agrees(served):
    found = audited(served, wait_seconds=20.0)
    assert found.agree, as_text(found)
    assert found.rows.compared.matched == ROWS + 100
    assert found.rows.repeats == 100
    assert found.rows.unreadable == 1
    assert found.rows.compared.owed == 0
    assert found.windows.windows >= 8
    assert found.windows.requests > ROWS // 2
    assert exit_code(found) == 0, as_text(found)


def test_copies_agree_too(served, copies):
    assert differences(audited(served, copies)) == {}


def test_a_row_deleted_by_hand_is_named(served, copies):
    partition, offset, told_at = some_row(served)
    served.tables.command(
        f"ALTER TABLE {copies.requests}_stored DELETE WHERE partition = {partition} AND offset = {offset}"
        " SETTINGS mutations_sync = 2"
    )
    found = audited(served, copies)
    assert differences(found) == {"missing": 1, "window_counts": 1}, as_text(found)
    missing = found.differences[0]
    assert (missing.partition, missing.ranges) == (partition, [(offset, offset + 1)])
    assert f"telemetry {partition}: " in as_text(found) or f"{partition}: {told_at}" in as_text(found)
    assert exit_code(found) == 70


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("queue_ms", "queue_ms + 0.001", "queue_ms"),
        ("outcome", "'shed'", "outcome 'shed', not"),
        ("request_id", "concat(request_id, ' ')", "request_id"),
        ("publish_ms", "5.", "publish_ms 5.0, not None"),
        ("served_at", "served_at + INTERVAL 1 MILLISECOND", "served_at"),
    ],
)
def test_a_row_altered_by_hand_is_named_with_its_column(served, copies, column, value, says):
    partition, offset, _ = some_row(served, "outcome = 'answered'")
    served.tables.command(
        f"ALTER TABLE {copies.requests}_stored UPDATE {column} = {value} WHERE partition = {partition}"
        f" AND offset = {offset} SETTINGS mutations_sync = 2"
    )
    found = audited(served, copies)
    assert found.counts["altered"] == 1
    assert found.differences[0].ranges == [(offset, offset + 1)]
    assert says in found.differences[0].details[0]
    assert (found.counts["window_counts"] > 0) == (column == "outcome")


def test_one_row_too_many_is_named(served, copies):
    partition, offset, _ = some_row(served)
    end = served.cluster.ranges(topics.REQUESTS.name)[partition][1]
    served.tables.command(
        f"INSERT INTO {copies.requests}_stored SELECT * REPLACE({end + 5} AS offset) FROM"
        f" (SELECT * FROM requests WHERE partition = {partition} AND offset = {offset})"
    )
    found = audited(served, copies)
    assert differences(found) == {"extra": 1, "unknown": 1, "window_counts": 1}, as_text(found)
    assert found.differences[0].ranges == [(end + 5, end + 6)]


def test_without_deduplication_every_double_is_seen(served, copies):
    """Readers without FINAL, before anything is merged: what a job that died after an insert leaves behind."""
    for name in (copies.requests, copies.windows):  # nothing is merged meanwhile
        served.tables.command(f"ALTER TABLE {name}_stored MODIFY SETTING max_bytes_to_merge_at_max_space_in_pool = 1")
    served.tables.command(f"INSERT INTO {copies.requests}_stored SELECT * FROM requests WHERE partition = 0 LIMIT 40")
    served.tables.command(f"INSERT INTO {copies.windows}_stored SELECT * FROM windows LIMIT 3")
    assert differences(audited(served, copies)) == {}
    found = audited(served, Views(f"{copies.requests}_stored", f"{copies.windows}_stored"))
    assert found.counts["doubled"] == 40
    assert found.counts["window_doubled"] == 3
    assert found.counts["window_counts"] > 0


def test_a_table_that_cannot_deduplicate_fails(served, copies, unique):
    served.tables.command(
        f"CREATE TABLE {unique}_plain ENGINE = MergeTree ORDER BY (partition, offset) AS SELECT * FROM requests"
    )
    plain = Views(f"{unique}_plain", copies.windows)
    assert differences(audited(served, plain)) == {}
    served.tables.command(f"INSERT INTO {unique}_plain SELECT * FROM requests WHERE partition = 2 LIMIT 7")
    assert audited(served, plain).counts["doubled"] == 7


def test_a_window_deleted_or_altered_by_hand_is_named(served, copies, monkeypatch):
    # The job was stopped: what it told of its last window may wait for the next one.
    monkeypatch.setattr("infra.audit.window_counts.GRACE_MS", 0)
    start = served.tables.query("SELECT min(window_start) FROM windows")[1][0][0]
    served.tables.command(
        f"ALTER TABLE {copies.windows}_stored DELETE WHERE window_start = (SELECT min(window_start) FROM windows)"
        " SETTINGS mutations_sync = 2"
    )
    found = audited(served, copies)
    assert set(differences(found)) == {"uncounted"}, (start, as_text(found))
    served.tables.command(
        f"ALTER TABLE {copies.windows}_stored UPDATE failed = failed + 1 WHERE window_start ="
        " (SELECT max(window_start) FROM windows WHERE requests > 0) SETTINGS mutations_sync = 2"
    )
    assert audited(served, copies).counts["window_counts"] > 0


def test_ranges_of_offsets_and_of_time(served, copies):
    served.tables.command(
        f"ALTER TABLE {copies.requests}_stored DELETE WHERE partition = 1 AND offset IN (10, 500)"
        " SETTINGS mutations_sync = 2"
    )
    part = audited(served, copies, Range(partition=1, first=0, after=100))
    assert differences(part) == {"missing": 1}
    assert part.rows.compared.matched == 99
    assert differences(audited(served, copies, Range(partition=2))) == {}
    judged = audited(served, copies, Range(partition=1, first=3, after=7, of_telemetry=True))
    assert differences(judged) == {}
    assert judged.rows.compared.matched == judged.rows.requests >= 50
    now_ms = SystemClock().now_ms()
    assert not audited(served, copies, Range(since_ms=now_ms + 60_000)).proven
    assert audited(served, copies, Range(until_ms=now_ms + 60_000)).counts["missing"] == 2
    with pytest.raises(ValueError, match="no partition 77"):
        audited(served, copies, Range(partition=77))


def test_what_is_not_committed_is_under_way(served, copies):
    audit = CountsAudit(served.kafka, served.tables, "nobody", SystemClock(), views=copies)
    served.tables.command(
        f"ALTER TABLE {copies.requests}_stored DELETE WHERE partition = 1 SETTINGS mutations_sync = 2"
    )
    found = audit.run(Range(), lambda done, total: None)
    assert found.agree
    assert found.rows.compared.under_way == ROWS // 6
    assert exit_code(found) == 75
    assert "group nobody has not committed" in as_text(found)


def test_the_command(served):
    environment = {
        **os.environ,
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": served.kafka.bootstrap_servers,
        "INFERWATCH_CLICKHOUSE_URL": served.clickhouse.url,
    }
    done = CliRunner().invoke(inferwatch, ["audit", "counts", "--json"], env=environment)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["agrees"]
    assert told["rows_matched"] == ROWS + 100
    assert told.keys() == as_object(audited(served)).keys()
    wrong = CliRunner().invoke(inferwatch, ["audit", "counts", "--from", "3"], env=environment)
    assert wrong.exit_code == 2
    assert "name it with --partition" in wrong.output
