"""What can go wrong with topics: records that nobody can use, retention, a topic that is deleted and made anew."""

import asyncio

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.settings import KafkaSettings
from tests.chaos.cluster import WORKERS_GROUP
from tests.chaos.faults import Fault, Run
from tests.chaos.servers import POISON, Servers
from tests.chaos.workload import TOPIC
from tests.poison import append_a_header_name_that_is_not_utf8

READ = {
    "inference.telemetry": "inference.served",
    "inference.windows": "windows.partial_closed",
    "inference.predictions": "inference.answered",
    "inference.requests.dead-letters": "inference.requested",
    "control.drills": "drill.requested",
    "control.deployments": "deployment.changed",
}
"""What workers and jobs read besides requests, and a kind of event that is there."""
BODIES = (b"", b"{", b"\xff\xfe", b"[1e999]", b'{"partition": -1}', b'{"requests": {"offset": [NaN]}}')


class Poison(Fault):
    """Records that nobody can use, on all topics that workers and jobs read: not JSON, of another kind, with names that
    are not UTF-8. Requests of that sort are in the traffic."""

    def start(self, run: Run) -> None:
        kafka = KafkaSettings(bootstrap_servers=run.workload.bootstrap)
        producer = Producer({"bootstrap.servers": run.workload.bootstrap, "log_level": 0})
        marked = [(POISON, b"1")]
        kind = [*marked, ("ce_specversion", b"1.0"), ("ce_id", b"poison"), ("ce_source", b"chaos")]
        for topic, of in READ.items():
            types = (f"inferwatch.{of}.v1".encode(), b"a.b.v9")
            for body in BODIES:
                for headers in (marked, *([*kind, ("ce_type", one)] for one in types)):
                    producer.produce(topic, body, key=b"%d" % run.random.getrandbits(20), headers=headers)
        if left := producer.flush(30):
            raise TimeoutError(f"{left} records of poison were not taken")
        asyncio.run(append_a_header_name_that_is_not_utf8(kafka, "inference.telemetry"))


class RetentionPasses(Fault):
    """While no worker is there, retention takes requests that nobody has read."""

    seconds = 4.0

    def start(self, run: Run) -> None:
        for worker in run.cluster.workers:
            worker.stop()

    def heal(self, run: Run) -> None:
        workload = run.workload
        workload.flush()
        now = [
            one.offset
            for one in tuple(workload.acknowledged)
            if one.topic_id == workload.topic_id and one.partition == 0
        ]
        below = max(0, max(now, default=0) - 3)
        committed = committed_of(run)[0]
        workload.expected_gone += max(0, below - committed)
        workload.deleted.note(workload.topic_id, 0, committed, below)
        admin = AdminClient({"bootstrap.servers": workload.bootstrap})
        future = admin.delete_records([TopicPartition(TOPIC, 0, below)])
        for one in future.values():
            one.result(20)
        for worker in run.cluster.workers:
            worker.wanted = True


class TopicMadeAnew(Fault):
    """The request topic is deleted and made again: offsets begin at 0, under another id.

    `waiting`: so many requests are sent just before, to be deleted under the workers' hands; 0: all is answered.
    """

    def __init__(self, waiting: float = 0) -> None:
        self.waiting = int(waiting)

    @property
    def name(self) -> str:
        return f"TopicMadeAnew with {self.waiting} waiting"

    def start(self, run: Run) -> None:
        workload, admin = run.workload, AdminClient({"bootstrap.servers": run.workload.bootstrap})
        workload.paused = True
        try:
            run.cluster.wait(0.0 if self.waiting else 8.0)
            for _ in range(self.waiting):
                workload.send()
            workload.flush()  # what Kafka has acknowledged is in this topic, and nothing of the next one is
            for partition, committed in committed_of(run).items():
                workload.deleted.note(workload.topic_id, partition, committed)
            for one in admin.delete_topics([TOPIC], operation_timeout=20).values():
                one.result(60)
            run.cluster.wait(1.0)
            run.cluster.inferwatch("topics", "apply")
            workload.expected_gone = 0
            workload.ask_topic_id()
        finally:
            workload.paused = False


def committed_of(run: Run) -> dict[int, int]:
    """How far the workers have committed the request topic that there is now."""
    workload = run.workload
    return Servers(workload.bootstrap, "").committed(WORKERS_GROUP, TOPIC, workload.topic_id)
