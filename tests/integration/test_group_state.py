"""Lag and members of a group, asked of a real Kafka, as the scaler asks."""

from inference_workers.scaling.watch import group_state
from infra.kafka import KafkaCluster, KafkaLog, KafkaPublisher
from infra.kafka.topic_admin import KafkaTopicAdmin
from infra.topic_plan import CreateTopic
from schemas.topics import Topic


def test_lag_and_members_are_those_of_the_group(kafka, unique, until):
    cluster = KafkaCluster(kafka)
    cluster.wait_ready(30)
    topic = Topic(unique, "A topic of this test.", (), "none", retention_ms=3_600_000, retention_bytes=2**20)
    KafkaTopicAdmin(cluster).carry_out(CreateTopic(topic, 3, 1, topic.config()))
    until(lambda: cluster.partitions(unique) == 3, "the topic")
    publisher = KafkaPublisher(kafka, client_id="t")
    for number in range(30):
        publisher.publish(unique, b"x", partition=number % 3)
    assert publisher.flush(30) == 0
    before = group_state(cluster, f"{unique}-group", unique)
    assert (before.lag, before.appended, before.workers, before.partitions) == (30, 30, 0, 3)

    log = KafkaLog(kafka, group=f"{unique}-group", topics=[unique], client_id="t")
    seen = []

    def read_all():
        seen.extend(log.poll(100, 0.1))
        return len(seen) >= 30

    until(read_all, "all records")
    for record in seen:
        if record.partition < 2:
            log.store(record.topic, record.partition, record.offset + 1)
    log.commit()
    during = group_state(cluster, f"{unique}-group", unique)
    assert (during.lag, during.workers) == (10, 1)
    log.close()
    publisher.close()
    until(lambda: group_state(cluster, f"{unique}-group", unique).workers == 0, "the member to be gone")
