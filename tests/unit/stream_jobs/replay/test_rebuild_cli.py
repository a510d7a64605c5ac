"""What `inferwatch rebuild` asks Kafka before it begins."""

import pytest

from infra.ports import TryAgain
from stream_jobs import rebuild_cli


class Cluster:
    """Kafka with so many partitions of each topic; None: nobody answers."""

    count: int | None = None

    def __init__(self, settings, client_id):
        pass

    def partitions(self, topic):
        if self.count is None:
            raise TryAgain("Kafka does not answer")
        return self.count


@pytest.mark.parametrize(
    ("count", "why"),
    [
        (None, "Kafka does not answer; or say --partitions"),
        (0, r"Kafka has no topic inference\.windows: .*, or say --partitions"),
    ],
)
def test_without_the_topic_s_partitions_it_says_that_they_can_be_named(monkeypatch, count, why):
    monkeypatch.setattr("infra.connect.kafka_connection", lambda: None)
    monkeypatch.setattr("infra.kafka.KafkaCluster", Cluster)
    monkeypatch.setattr(Cluster, "count", count)
    with pytest.raises(TryAgain, match=why):
        rebuild_cli._partitions()


def test_the_partitions_are_the_topic_s(monkeypatch):
    monkeypatch.setattr("infra.connect.kafka_connection", lambda: None)
    monkeypatch.setattr("infra.kafka.KafkaCluster", Cluster)
    monkeypatch.setattr(Cluster, "count", 6)
    assert rebuild_cli._partitions() == 6
