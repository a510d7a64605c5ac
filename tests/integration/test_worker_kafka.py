"""The worker as a process on a real Kafka: nothing lost to SIGKILL or a lost device, drills, an orderly stop."""

import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime

import pytest

from infra.kafka import KafkaCluster, KafkaLog, KafkaPublisher, KafkaTail
from infra.provision import apply_topics
from infra.settings import StackSettings
from schemas.base import decode, encode, headers_for
from schemas.deployments import MODEL_EVENT_KINDS, Verdict
from schemas.drills import DrillKind, DrillRequested
from schemas.predictions import PREDICTION_KINDS, InferenceAnswered
from schemas.telemetry import InferenceServed
from schemas.topics import DRILLS, MODEL_EVENTS, PREDICTIONS, REQUESTS, TELEMETRY, dead_letters_of
from schemas.vectors import decode_vector

COUNT = 400
PROGRAM = "from inference_workers.worker_cli import worker; worker()"
LOST_PROGRAM = """
import os
import sys
import time
from inference_workers import worker_cli
from inference_workers.loading.load import Loaded
from inference_workers.models.verdicts import LoadFacts
from inference_workers.ports import DeviceLost
from infra import cli
from tests.unit.inference_workers.stand_ins import FakeEngine, servable

class Device(FakeEngine):
    def compute(self, items):
        if any(lost in item.ids for item in items):
            while not os.path.exists(end):
                time.sleep(0.02)
            raise DeviceLost("CUDA error: device-side assert triggered")
        return super().compute(items)

end = sys.argv.pop()
own = servable(Device() if end else FakeEngine())
lost = own.tokeniser.tokenise(["volcano"])[0].ids[1]
worker_cli._load = lambda settings, wanted=None: Loaded(own, LoadFacts(own.ref, "/own", 1.0))
cli.LazyCommands.get_command = lambda *_: worker_cli.worker
cli.main()
"""
"""The command with an engine stand-in whose device is lost by the word "volcano", once there is the file that the last
argument names; never, where it is empty."""


class Rig:
    """Topics, a publisher, and worker processes of one group that began at the topics' ends."""

    def __init__(self, kafka, group, folder):
        apply_topics(kafka, StackSettings(), say=lambda text: None)
        self.cluster = KafkaCluster(kafka)
        self.group = group
        self.publisher = KafkaPublisher(kafka, client_id=group)
        self.start = {(REQUESTS.name, p): after for p, (_, after) in self.cluster.ranges(REQUESTS.name).items()}
        self.kafka = kafka
        self.tails = {name: KafkaTail(kafka, [name], start="end") for name in (PREDICTIONS.name, TELEMETRY.name)}
        self.letters = KafkaTail(kafka, [dead_letters_of(REQUESTS).name], start="end")
        self.told, self.answers, self.delays = {}, {}, []
        self.workers = []
        self.folder = folder

    def worker(self, program=PROGRAM, arguments=("--drills",), **more):
        environment = os.environ | {
            "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "INFERWATCH_KAFKA_SESSION_TIMEOUT_MS": "6000",
            "INFERWATCH_WORKER_GROUP": self.group,
            **more,
        }
        with (self.folder / "worker.log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-c", program, *arguments], env=environment, stderr=log)
        self.workers.append(process)
        return process

    def pass_over_what_other_tests_asked(self, until):
        """Have the group begin where the topic ended at the start."""
        log = KafkaLog(
            self.kafka, group=self.group, topics=[REQUESTS.name], client_id="t", topic_id_of=self.cluster.topic_id
        )

        def has_joined():
            log.poll(1, 0.1)
            return log.assignment() == self.start.keys()

        until(has_joined, "the assignment")
        for (topic, partition), after in self.start.items():
            log.store(topic, partition, after)
        log.commit()
        log.close()

    def ask(self, value, partition=None):
        self.publisher.publish(REQUESTS.name, value, key=b"k%d" % len(value), partition=partition)

    def look(self):
        """Read what the workers said: outcomes and answers of requests asked since the start, the first one counts."""
        for record in self.tails[TELEMETRY.name].poll(500, 0.05):
            event = decode(record.headers, record.value, (InferenceServed,)).data
            assert record.partition == event.partition
            self.delays.extend(event.batches.compute_ms)
            for offset, outcome in zip(event.requests.offset, event.requests.outcome, strict=True):
                self.told.setdefault((event.partition, offset), outcome.value)
        for record in self.tails[PREDICTIONS.name].poll(500, 0.05):
            message = decode(record.headers, record.value, PREDICTION_KINDS).data
            assert record.partition == message.request.partition
            self.answers.setdefault((message.request.partition, message.request.offset), message)
        return self.told

    def asked(self):
        """Positions of all requests since the start."""
        return {
            (p, offset)
            for p, (_, after) in self.cluster.ranges(REQUESTS.name).items()
            for offset in range(self.start[REQUESTS.name, p], after)
        }

    def close(self):
        for process in self.workers:
            if process.poll() is None:
                process.kill()
            process.wait(10)
        self.publisher.close()
        for tail in (*self.tails.values(), self.letters):
            tail.close()


@pytest.fixture
def rig(kafka, unique, tmp_path):
    found = Rig(kafka, unique, tmp_path)
    yield found
    found.close()


def test_kill_drill_and_stop(rig, until):
    first = rig.worker()
    for i in range(COUNT):
        rig.ask(json.dumps({"input": f"red shoes {i}"}).encode())
    for bad in (b"", b"{", b"\xff", b'{"input": 3}'):
        rig.ask(bad)
    assert rig.publisher.flush(10) == 0
    until(lambda: len(rig.look()) > 30, "the first outcomes", 60)
    os.kill(first.pid, signal.SIGKILL)

    second = rig.worker()
    asked = rig.asked()
    assert len(asked) >= COUNT + 4
    until(lambda: rig.look().keys() >= asked, "an outcome for every request", 60)
    mine = [rig.told[one] for one in asked]
    assert mine.count("dead_lettered") >= 4
    assert mine.count("answered") >= COUNT
    until(lambda: rig.look() and {o for o in asked if rig.told[o] == "answered"} <= rig.answers.keys(), "all answers")
    answer = next(one for one in rig.answers.values() if isinstance(one, InferenceAnswered))
    vector = decode_vector(answer.outputs[0].vector)
    assert len(vector) == 384
    assert sum(number * number for number in vector) == pytest.approx(1.0, abs=0.01)

    drill = DrillRequested(drill_id=rig.group, kind=DrillKind.LATENCY, duration_ms=20_000, delay_ms=700)
    headers = headers_for(drill, event_id=rig.group, source="/test", time=datetime.now(UTC))
    rig.publisher.publish(DRILLS.name, encode(drill), key=b"d", headers=headers)
    assert rig.publisher.flush(10) == 0
    rig.delays.clear()

    def delayed():
        rig.ask(b'{"input": "boots"}', partition=0)
        rig.look()
        return any(delay >= 700 for delay in rig.delays)

    until(delayed, "a batch held back by the drill", 20)

    began = time.monotonic()
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    assert time.monotonic() - began < 15
    rig.publisher.flush(10)
    committed = rig.cluster.committed(rig.group, REQUESTS.name)
    owed = {
        (partition, offset)
        for partition, next_offset in committed.items()
        for offset in range(rig.start[REQUESTS.name, partition], next_offset)
    }
    until(lambda: owed <= rig.look().keys(), "what is committed was told", 30)
    assert sum(committed.values()) - sum(rig.start.values()) >= COUNT + 4


@pytest.mark.timeout(180)
def test_a_lost_device_ends_the_process_with_70_and_acknowledges_nothing(rig, until):
    rig.pass_over_what_other_tests_asked(until)
    for i in range(COUNT):
        if i == COUNT // 2:
            rig.ask(b'{"input": "volcano"}', partition=0)
        rig.ask(json.dumps({"input": f"red shoes {i}", "scenario": "checkout"}).encode(), partition=0)
    assert rig.publisher.flush(10) == 0
    asked, lost = sorted(rig.asked()), (0, rig.start[REQUESTS.name, 0] + COUNT // 2)
    assert len(asked) == COUNT + 1
    # All others go before the word, so that what comes after it is answered and must still not be acknowledged.
    limits = {"INFERWATCH_WORKER_PRIORITIES": "checkout=60000", "INFERWATCH_WORKER_BATCH_REQUESTS_MAX": "8"}
    first = rig.worker(LOST_PROGRAM, ("worker", str(rig.folder / "end")), **limits)
    until(lambda: rig.look().keys() >= set(asked) - {lost}, "all others told", 90)
    until(lambda: rig.look() and rig.answers.keys() >= set(asked) - {lost}, "all others answered")
    until(lambda: rig.cluster.committed(rig.group, REQUESTS.name).get(0, 0) >= lost[1], "all before it acknowledged")

    (rig.folder / "end").touch()
    assert first.wait(30) == 70
    said = (rig.folder / "worker.log").read_text()
    assert "DeviceLost: CUDA error: device-side assert triggered" in said
    assert rig.cluster.committed(rig.group, REQUESTS.name)[0] == lost[1], "neither it nor what came after it"
    rig.look()
    assert lost not in {*rig.told, *rig.answers}

    second = rig.worker(LOST_PROGRAM, ("worker", ""))
    until(lambda: rig.look().keys() >= set(asked), "an outcome for every request", 60)
    assert {rig.told[one] for one in asked} == {"answered"}
    until(lambda: rig.look() and rig.answers.keys() >= set(asked), "all answers")
    after = asked[-1][1] + 1
    until(lambda: rig.cluster.committed(rig.group, REQUESTS.name)[0] == after, "everything acknowledged")
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0


def worker_ended(environment, seconds):
    """`inferwatch worker`, with the exit codes of the whole command, when it has ended by itself."""
    code = (
        "from infra import cli; from inference_workers.worker_cli import worker;"
        "cli.LazyCommands.get_command = lambda *_: worker; cli.main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code, "worker"], env=environment, capture_output=True, text=True, timeout=seconds
    )


def test_a_worker_whose_own_model_is_refused_says_so_and_joins_nothing(kafka, unique, until, tmp_path):
    apply_topics(kafka, StackSettings(), say=lambda text: None)
    sample = {"request": {"input": "shoes"}, "outputs": [{"numbers": [1.0] + 383 * [0.0]}]}
    (tmp_path / "golden.json").write_text(json.dumps({"samples": [sample]}))
    environment = os.environ | {
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "INFERWATCH_WORKER_GROUP": unique,
        "INFERWATCH_WORKER_WORKER_ID": unique,
        "INFERWATCH_WORKER_GOLDEN": str(tmp_path / "golden.json"),
    }
    events = KafkaTail(kafka, [MODEL_EVENTS.name], start="end")
    ended = worker_ended(environment, 90)
    assert ended.returncode == 78, ended.stderr
    assert KafkaCluster(kafka).members(unique) == 0
    judged = []

    def told():
        judged.extend(decode(one.headers, one.value, MODEL_EVENT_KINDS).data for one in events.poll(100, 0.1))
        return [one for one in judged if one.worker_id == unique]

    [event] = until(told, "the verdict")
    assert (event.verdict, event.reason) == (Verdict.REFUSED, "golden")
    assert event.load_ms > 0
    assert event.model.digest
    assert not event.golden.passed
    events.close()


def test_where_nothing_runs_it_says_so_and_ends_with_75(tmp_path):
    environment = os.environ | {
        "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": "",
        "INFERWATCH_DATA_DIR": str(tmp_path),
    }
    ended = worker_ended(environment, 60)
    assert ended.returncode == 75
    assert "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS" in ended.stderr
