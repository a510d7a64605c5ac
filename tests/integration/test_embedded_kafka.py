"""The embedded Kafka for real: it serves, survives a kill, is owned once and leaves nothing behind."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from infra.embedded import parent
from infra.embedded.broker import EmbeddedKafka
from infra.embedded.data_folder import DataFolder
from infra.embedded.errors import FolderInUse, NotReady, PortTaken, WrongFile
from infra.embedded.kafka_runtime import prepare_kafka

ROOT = Path(__file__).resolve().parents[2]
DEADLINE_S = 30.0


@pytest.fixture(scope="module")
def runtime():
    """The jars, fetched before the first start is timed by a test's own deadline."""
    return prepare_kafka()


def wait_for(condition, what):
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        if condition():
            return
        time.sleep(0.05)
    pytest.fail(f"after {DEADLINE_S:.0f} s still not: {what}")


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def javas_on(folder):
    """Process ids of what still runs in this data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.name() == "java" and Path(process.cwd()) == folder / "kafka":
                found.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def create_topic(servers, name, **config):
    topic = NewTopic(name, num_partitions=2, replication_factor=1, config=config)
    admin = AdminClient({"bootstrap.servers": servers})  # must live until the answer is here
    for future in admin.create_topics([topic]).values():
        future.result(DEADLINE_S)


def produce(servers, topic, values):
    failed = []
    producer = Producer({"bootstrap.servers": servers, "enable.idempotence": True, "message.max.bytes": 2_000_000})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, message: failed.append(error) if error else None)
    assert producer.flush(DEADLINE_S) == 0
    assert failed == []


def consume(servers, topic, count, group="readers", commit=True):
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": group,
            "session.timeout.ms": 3000,  # below a broker's usual least of 6 s
            "heartbeat.interval.ms": 400,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
        }
    )
    consumer.subscribe([topic])
    values = []
    deadline = time.monotonic() + DEADLINE_S
    while len(values) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None:
            assert message.error() is None
            values.append(message.value())
    if commit:
        consumer.commit(asynchronous=False)
    consumer.close()
    return values


def test_records_offsets_identity_and_port_survive_a_kill(tmp_path, runtime):
    broker = EmbeddedKafka(tmp_path)
    servers = broker.start()
    cluster_id, first = broker.cluster_id, broker.pid
    create_topic(servers, "t", **{"max.message.bytes": "1179648"})
    values = [b"%d" % number for number in range(200)] + [b"x" * (1024 * 1024 + 64 * 1024)]
    produce(servers, "t", values)
    assert sorted(consume(servers, "t", len(values))) == sorted(values)

    os.kill(first, signal.SIGKILL)
    assert broker.wait(DEADLINE_S) == -signal.SIGKILL
    broker.stop()

    with EmbeddedKafka(tmp_path) as again:
        assert again.bootstrap_servers == servers
        assert again.cluster_id == cluster_id
        assert AdminClient({"bootstrap.servers": servers}).list_topics(timeout=DEADLINE_S).cluster_id == cluster_id
        assert sorted(consume(servers, "t", len(values), group="others")) == sorted(values)
        probe = Consumer({"bootstrap.servers": servers, "group.id": "readers"})
        committed = probe.committed([TopicPartition("t", 0), TopicPartition("t", 1)], timeout=DEADLINE_S)
        probe.close()
        assert sum(partition.offset for partition in committed) == len(values)
        second = again.pid
    assert is_gone(second)
    assert javas_on(tmp_path) == []


def test_one_owner_named_port_and_clean_stop(tmp_path, runtime):
    port = DataFolder(tmp_path / "other").claim("kafka").choose_port("broker")
    broker = EmbeddedKafka(tmp_path / "data", port=port)
    started = threading.Thread(target=broker.start)  # Java must outlive the thread that started it
    started.start()
    started.join()
    try:
        assert broker.bootstrap_servers == f"127.0.0.1:{port}"
        with pytest.raises(FolderInUse, match=f"process {os.getpid()} "):
            EmbeddedKafka(tmp_path / "data").start()
        refused = EmbeddedKafka(tmp_path / "second", port=port)
        with pytest.raises(PortTaken, match=f"port {port} "):
            refused.start()
        assert refused.pid is None
        second = subprocess.run(
            [sys.executable, "-m", "infra.embedded.broker", "--data", str(tmp_path / "data")],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode == 75
        assert f"process {os.getpid()} " in second.stderr
        connections = psutil.Process(broker.pid).net_connections(kind="tcp")
        listening = {c.laddr.ip.removeprefix("::ffff:") for c in connections if c.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}
        assert broker.poll() is None
    finally:
        java = broker.pid
        broker.stop()
    assert is_gone(java)
    broker.stop()


class Foreground:
    """`python -m infra.embedded.broker` as a supervisor would run it."""

    def __init__(self, folder, *options):
        command = [sys.executable, "-m", "infra.embedded.broker", "--data", str(folder), *options]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        if not line:
            pytest.fail(self.process.communicate()[1])
        self.facts = json.loads(line)

    def finish(self):
        """Exit status and standard error."""
        _, errors = self.process.communicate(timeout=DEADLINE_S)
        return self.process.returncode, errors

    def __enter__(self):
        return self

    def __exit__(self, *reason):
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def test_foreground_killed_stopped_and_bereaved(tmp_path, runtime):
    with Foreground(tmp_path) as killed:
        assert killed.facts["ready"] is True
        java = killed.facts["java_pid"]
        killed.process.kill()
        # At once, while Java may still be ending: the next start waits for the lock that Java holds.
        with Foreground(tmp_path) as stopped:
            assert is_gone(java)
            assert stopped.facts["bootstrap_servers"] == killed.facts["bootstrap_servers"]
            stopped.process.send_signal(signal.SIGTERM)
            assert stopped.finish() == (0, "")
    assert javas_on(tmp_path) == []
    with Foreground(tmp_path) as bereaved:
        os.kill(bereaved.facts["java_pid"], signal.SIGKILL)
        status, errors = bereaved.finish()
        assert status == 75
        assert "ended by itself (status -9)" in errors
        assert "Kafka Server started" in errors  # the last lines of the log


def test_foreground_ends_with_the_parent_it_was_told(tmp_path, runtime):
    # The parent is a small process of its own, which is killed; the broker hears of it by looking.
    script = (
        "import os, subprocess, sys; child = subprocess.Popen([sys.executable, '-m', 'infra.embedded.broker',"
        " '--data', sys.argv[1], '--parent', str(os.getpid())]); print(child.pid, flush=True); child.wait()"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as mother:
        child = int(mother.stdout.readline())
        java = json.loads(mother.stdout.readline())["java_pid"]
        mother.kill()
    wait_for(lambda: is_gone(child) and is_gone(java), "broker and Java ended after their parent")
    assert javas_on(tmp_path) == []


def test_a_failed_start_shows_the_log_and_leaves_nothing(tmp_path, runtime):
    with EmbeddedKafka(tmp_path) as broker:
        assert broker.pid
    meta = tmp_path / "kafka" / "records" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(NotReady, match=r"(?s)ended while it started .*node.*Ways out"):
        broker.start()
    assert broker.pid is None
    assert javas_on(tmp_path) == []
    DataFolder(tmp_path).claim("kafka").release()


def test_a_corrupted_jar_is_refused(tmp_path, runtime):
    cache = tmp_path / "cache"
    folder = Path(os.path.commonpath(runtime.jars))
    shutil.copytree(folder, cache / folder.name, copy_function=os.link if same_disk(folder, tmp_path) else shutil.copy2)
    victim = cache / folder.name / runtime.jars[7].relative_to(folder)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.unlink()  # the link; the real cache keeps its own
    victim.write_bytes(data)
    broker = EmbeddedKafka(tmp_path / "data", cache=cache)
    with pytest.raises(WrongFile, match=f"{victim.name}.*Ways out: delete this file"):
        broker.start()
    assert broker.pid is None
    assert not (tmp_path / "data" / "kafka" / "records").exists()
    assert prepare_kafka().jars == runtime.jars
    DataFolder(tmp_path / "data").claim("kafka").release()


def same_disk(one, other):
    return one.stat().st_dev == other.stat().st_dev


def test_the_launcher_without_kernel_help(tmp_path):
    # The way of systems that have no prctl: the launcher stays and looks. Here on any system.
    script = (
        "import os, subprocess, sys\n"
        "launch = 'import sys; from infra.embedded import parent; sys.exit(parent._supervise(int(sys.argv[1]), "
        "sys.argv[2:]))'\n"
        "child = subprocess.Popen([sys.executable, '-c', launch, str(os.getpid()), *sys.argv[1:]], "
        "start_new_session=True)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
        "print(child.returncode, flush=True)\n"
    )
    command = [sys.executable, "-c", script, shutil.which("sleep"), "60"]
    for ending in ("program", "parent"):
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as mother:
            launcher = int(mother.stdout.readline())
            wait_for(lambda: psutil.Process(launcher).children(), "the program runs")  # noqa: B023
            program = psutil.Process(launcher).children()[0].pid
            if ending == "program":
                wait_for(lambda: psutil.Process(program).name() == "sleep", "the program replaced its launcher")  # noqa: B023
                os.killpg(launcher, signal.SIGTERM)
                assert mother.stdout.readline() == f"{128 + signal.SIGTERM}\n"
            else:
                mother.kill()
        wait_for(lambda: is_gone(launcher) and is_gone(program), "nothing is left")  # noqa: B023


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's help is Linux's")
def test_the_kernel_ends_a_child_whose_parent_is_gone_before_it_starts():
    command = parent.launch_command(["/bin/sleep", "60"])
    command[4] = "1"  # not its parent
    assert subprocess.run(command, timeout=DEADLINE_S).returncode == 1
