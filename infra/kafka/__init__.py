"""The one door to confluent-kafka: publisher, group member, groupless readers, and what is asked of the cluster."""

from infra.kafka.cluster import KafkaCluster
from infra.kafka.connection import client_config
from infra.kafka.log import KafkaLog
from infra.kafka.publisher import KafkaPublisher
from infra.kafka.ranges import KafkaRangeReader
from infra.kafka.tail import KafkaTail
from infra.kafka.topic_admin import KafkaTopicAdmin

__all__ = [
    "KafkaCluster",
    "KafkaLog",
    "KafkaPublisher",
    "KafkaRangeReader",
    "KafkaTail",
    "KafkaTopicAdmin",
    "client_config",
]
