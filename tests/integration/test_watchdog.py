"""The watchdog as a process over a job that hangs: stopped, blocked, or idle with work; and one that need not go.

The job is the toy of `toy_job.py` on the real broker; what it stores must be exact after every restart.
"""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic

from infra.clickhouse import ClickHouse
from infra.clock import SystemClock
from infra.kafka import KafkaCluster, KafkaPublisher
from tests.parts import takes_long

ROOT = Path(__file__).resolve().parents[2]
LOOK_SECONDS, LOOKS = 0.2, 100
"""Twenty seconds: a job that starts is in the group after two to five, and on a slow machine after fifteen."""
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def servers(kafka, clickhouse):
    """The environment with topics and tables made, for alerts."""
    client = ClickHouse(clickhouse)
    client.command("CREATE DATABASE watchdog_test")
    client.close()
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("INFERWATCH_")},
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "INFERWATCH_CLICKHOUSE_URL": clickhouse.url,
        "INFERWATCH_CLICKHOUSE_DATABASE": "watchdog_test",
        "PYTHONPATH": str(ROOT),
    }
    for what in ("topics", "tables"):
        subprocess.run(
            [sys.executable, "-P", "-m", "infra.cli", what, "apply"], env=environment, check=True, capture_output=True
        )
    return environment


class Watched:
    """A toy job under a watchdog, with records for it."""

    def __init__(self, kafka, name, folder, servers):
        self.kafka, self.name, self.servers = kafka, name, servers
        self.rows, self.log = folder / "rows.txt", folder / "log"
        compact = {"cleanup.policy": "compact"}
        topics = [NewTopic(f"{name}{suffix}", 1, 1) for suffix in ("", ".out", ".dead-letters")]
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
        for future in admin.create_topics([*topics, NewTopic(f"{name}.state", 1, 1, config=compact)]).values():
            future.result(20)
        self.cluster, self.publisher = KafkaCluster(kafka), KafkaPublisher(kafka, client_id="watched")
        self.sent = 0
        self.process = None

    def send(self, count):
        for number in range(count):
            self.publisher.publish(self.name, str(number).encode(), partition=0)
        assert self.publisher.flush(20) == 0
        self.sent += count

    def send_in_a_transaction(self, count):
        """Records and, at the end of the log, the transaction's marker, which nobody commits."""
        producer = Producer({"bootstrap.servers": self.kafka.bootstrap_servers, "transactional.id": self.name})
        producer.init_transactions(20)
        producer.begin_transaction()
        for number in range(count):
            producer.produce(self.name, str(number).encode(), partition=0)
        producer.commit_transaction(20)
        self.sent += count

    def start(self, *job, port=0):
        arguments = ["watchdog", "--group", f"{self.name}-group", "--look-seconds", str(LOOK_SECONDS)]
        arguments += ["--looks", str(LOOKS), "--stop-seconds", "6", "--lag-seconds", "2", "--metrics-port", str(port)]
        toy = [sys.executable, "tests/integration/toy_job.py", "--bootstrap", self.kafka.bootstrap_servers]
        toy += ["--topic", self.name, "--group", f"{self.name}-group", "--rows", str(self.rows), *job]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "infra.cli", *arguments, "--json", "--", *toy],
                cwd=ROOT,
                env=self.servers,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def child(self):
        """The job's process, once it can be found."""
        found = psutil.Process(self.process.pid).children()
        return found[0] if found and "toy_job.py" in " ".join(found[0].cmdline()) else None

    def committed(self):
        return self.cluster.committed(f"{self.name}-group", self.name).get(0, 0)

    def finish(self):
        """Stop it in order; what it said at the end, having stored each record exactly once to the reader."""
        self.process.send_signal(signal.SIGTERM)
        out, _ = self.process.communicate(timeout=30)
        rows = sorted({tuple(map(int, line.split())) for line in self.rows.read_text().splitlines()})
        assert rows == [(0, offset, offset + 1) for offset in range(self.sent)]
        return json.loads(out)

    def close(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait(10)
        if self.process is not None:
            self.process.stdout.close()
        self.publisher.close(5.0)


@pytest.fixture
def watched(kafka, unique, tmp_path, servers):
    watched = Watched(kafka, unique, tmp_path, servers)
    yield watched
    watched.close()


def all_committed(watched, until):
    try:
        until(lambda: watched.committed() == watched.sent, "all committed", 90.0)
    except pytest.fail.Exception:
        pytest.fail(f"{watched.committed()} of {watched.sent}\n{watched.log.read_text()[-6_000:]}")


def test_a_stopped_job_is_killed_and_started_again_and_the_alert_says_so(watched, until, clickhouse):
    watched.send(500)
    watched.start()
    all_committed(watched, until)
    first, suspended_ms = watched.child(), SystemClock().now_ms()
    first.suspend()
    watched.send(500)
    all_committed(watched, until)
    assert not first.is_running()
    assert watched.child().pid != first.pid
    said = watched.finish()
    assert (said["restarts"], said["exit_status"], said["failed"]) == (1, 0, False)
    assert "is ended and started again" in watched.log.read_text()
    table = ClickHouse(clickhouse.model_copy(update={"database": "watchdog_test"}))
    rows = table.query(
        "SELECT kind, scenario FROM alerts"
        " WHERE model = {g:String} AND toUnixTimestamp64Milli(opened_at) >= {at:Int64}",
        {"g": f"{watched.name}-group", "at": suspended_ms},
    )[1]
    table.close()
    assert len(rows) == 1
    assert rows[0][0] in ("stall", "lag")
    assert rows[0][1] == "(pipeline)"


def test_a_job_whose_event_loop_is_blocked_is_started_again(watched, until, tmp_path):
    takes_long("a blocked loop; a stopped job is started again in any case")
    watched.send(500)
    watched.start("--block-after", "200", "--once", str(tmp_path / "once"))
    all_committed(watched, until)
    assert watched.finish()["restarts"] == 1


def test_a_job_that_lives_and_commits_nothing_is_started_again(watched, until, tmp_path):
    """Its loop runs, its port says that it lives, its own watch does not look: only Kafka's offsets tell."""
    takes_long("a job that does nothing for so many looks; the rule itself is a unit test's")
    watched.send(500)
    watched.start("--stall-after", "200", "--look-seconds", "3600", "--once", str(tmp_path / "once"))
    until(lambda: watched.committed() == 200, "what it took is committed", 60.0)
    first = watched.child()
    all_committed(watched, until)
    assert watched.child().pid != first.pid
    assert watched.finish()["restarts"] == 1
    log = watched.log.read_text()
    assert f"300 records wait and it has committed nothing, in {LOOKS} looks" in log
    assert "health port has not answered" not in log
    assert "does not live" not in log


def test_a_job_that_idles_or_waits_for_storage_is_left_alone(watched, until):
    takes_long("a watchdog that has nothing to do")
    port = free_port()
    away = Path(f"{watched.rows}.down")
    watched.send(100)
    watched.start(port=port)
    all_committed(watched, until)
    child, looks = watched.child(), looks_of(port)
    until(lambda: looks_of(port) > looks + LOOKS + 10, "more idle looks than would end it", 90.0)
    away.touch()
    watched.send(500)
    until(lambda: "waits for clickhouse" in watched.log.read_text(), "it is said what it waits for", 30.0)
    looks = looks_of(port)
    until(lambda: looks_of(port) > looks + LOOKS + 10, "more looks than would end it", 90.0)
    assert watched.child().pid == child.pid
    away.unlink()
    all_committed(watched, until)
    watched.send_in_a_transaction(100)
    all_committed(watched, until)
    looks = looks_of(port)
    until(lambda: looks_of(port) > looks + LOOKS + 10, "more looks at a marker than would end it", 90.0)
    assert watched.child().pid == child.pid
    assert watched.finish()["restarts"] == 0


def test_a_command_that_refuses_its_settings_is_not_started_again(servers):
    done = subprocess.run(
        [sys.executable, "-P", "-m", "infra.cli", "watchdog", "--", sys.executable, "-c", "raise SystemExit(78)"],
        env=servers,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 78, done.stderr


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def looks_of(port):
    """Looks that the watchdog has taken, as its own metrics tell."""
    for _ in range(50):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as page:
                text = page.read().decode()
            lines = [line for line in text.splitlines() if line.startswith("inferwatch_watchdog_looks_total{")]
            return sum(float(line.rsplit(" ", 1)[1]) for line in lines)
        except OSError:
            time.sleep(0.1)
    pytest.fail("the watchdog shows no metrics")
