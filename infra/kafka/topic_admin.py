"""Topics on a real cluster: what exists, and carrying out a planned change."""

from __future__ import annotations

import time
from collections.abc import Sequence

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource, ConfigSource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewPartitions, NewTopic

from infra.kafka.cluster import KafkaCluster
from infra.kafka.connection import REQUEST_SECONDS
from infra.ports import RetryLater
from infra.topic_plan import AddPartitions, AlterConfig, Change, CreateTopic, ExistingTopic


class KafkaTopicAdmin:
    """A `TopicAdmin` on Kafka."""

    def __init__(self, cluster: KafkaCluster) -> None:
        self._cluster = cluster

    def existing(self, names: Sequence[str]) -> dict[str, ExistingTopic]:
        """See `TopicAdmin.existing`."""
        known = self._cluster.ask(lambda admin: admin.list_topics(timeout=REQUEST_SECONDS), "topics").topics
        present = [name for name in names if name in known]
        configs = self._cluster.ask(lambda admin: self._configs(admin, present), "topics")
        ends = self._cluster.ends({name: len(known[name].partitions) for name in present})
        return {
            name: ExistingTopic(
                len(known[name].partitions),
                {key: str(entry.value) for key, entry in configs[name].items()},
                unused=not any(ends[name].values()),
            )
            for name in present
        }

    def _configs(self, admin: AdminClient, names: Sequence[str]) -> dict[str, dict[str, ConfigEntry]]:
        if not names:
            return {}
        resources = [ConfigResource(ResourceType.TOPIC, name) for name in names]
        futures = admin.describe_configs(resources, request_timeout=REQUEST_SECONDS)
        return {resource.name: future.result(REQUEST_SECONDS) for resource, future in futures.items()}

    def carry_out(self, change: Change) -> None:
        """See `TopicAdmin.carry_out`."""
        if isinstance(change, CreateTopic):
            self._cluster.ask(lambda admin: self._create(admin, change), change.topic.name)
            self._wait(change)
        elif isinstance(change, AddPartitions):
            self._cluster.ask(lambda admin: self._add_partitions(admin, change), change.topic.name)
            self._wait(change)
            self._wait_led(change)
        else:
            self._cluster.ask(lambda admin: self._alter(admin, change), change.topic.name)

    def _alter(self, admin: AdminClient, change: AlterConfig) -> None:
        entries = [
            ConfigEntry(
                name,
                new,
                source=ConfigSource.DYNAMIC_TOPIC_CONFIG,
                incremental_operation=AlterConfigOpType.SET,
            )
            for name, (_, new) in change.changes.items()
        ]
        resource = ConfigResource(ResourceType.TOPIC, change.topic.name, incremental_configs=entries)
        futures = admin.incremental_alter_configs([resource], request_timeout=REQUEST_SECONDS)
        for future in futures.values():
            future.result(REQUEST_SECONDS)

    def _create(self, admin: AdminClient, change: CreateTopic) -> None:
        topic = NewTopic(
            change.topic.name,
            num_partitions=change.partitions,
            replication_factor=change.replicas,
            config=dict(change.config),
        )
        try:
            futures = admin.create_topics([topic], request_timeout=REQUEST_SECONDS)
            futures[change.topic.name].result(REQUEST_SECONDS)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise

    def _add_partitions(self, admin: AdminClient, change: AddPartitions) -> None:
        name = change.topic.name
        wanted = [NewPartitions(name, change.partitions)]
        futures = admin.create_partitions(wanted, request_timeout=REQUEST_SECONDS)
        futures[name].result(REQUEST_SECONDS)

    def _wait_led(self, change: AddPartitions) -> None:
        deadline = time.monotonic() + REQUEST_SECONDS
        while True:
            try:
                self._cluster.ends({change.topic.name: change.partitions})
                return
            except RetryLater:  # known, and not yet led
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _wait(self, change: CreateTopic | AddPartitions) -> None:
        deadline = time.monotonic() + REQUEST_SECONDS
        while self._cluster.partitions(change.topic.name) < change.partitions:
            if time.monotonic() > deadline:
                raise RetryLater(f"{change.topic.name}: made, but its leaders are not known yet")
            time.sleep(0.02)
