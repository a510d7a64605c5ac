"""What a job reads of the alert topic when its own state of incidents is lost."""

from infra.clock import SystemClock
from infra.kafka import KafkaCluster, KafkaPublisher, KafkaRangeReader, KafkaTopicAdmin
from infra.ports import RetryLater
from infra.topic_plan import CreateTopic
from schemas.topics import ALERTS, PARTITIONS
from stream_jobs.open_alerts import read_open_alerts
from tests.alert_events import alert


def test_open_incidents_are_found_on_the_topic_whatever_its_partitions_hold(kafka, unique, until):
    cluster, reader = KafkaCluster(kafka), KafkaRangeReader(kafka, SystemClock(), client_id="test")
    KafkaTopicAdmin(cluster).carry_out(CreateTopic(ALERTS, PARTITIONS, 1, ALERTS.config()))

    def is_there():
        try:
            read_open_alerts(cluster, reader)  # also while some or all partitions are empty
        except RetryLater:  # a partition has no leader yet
            return False
        return True

    until(is_there, "the topic can be read")
    publisher = KafkaPublisher(kafka, client_id="test", linger_ms=0)
    said = [("a", 0, "open"), ("b", 0, "open"), ("b", 1, "resolved"), ("b", 0, "open"), ("c", 0, "open")]
    for name, sequence, status in [*said, ("c", 1, "updated")]:
        record = alert(f"{unique}-{name}", sequence, status)
        publisher.publish(ALERTS.name, record.value, key=record.key, headers=record.headers)
    assert publisher.close() == 0
    found = read_open_alerts(cluster, reader)
    ours = [(one.incident_id[-1], one.sequence) for one in found if one.incident_id.startswith(unique)]
    assert ours == [("a", 0), ("c", 1)]
