"""A real Kafka of the benchmark's own in a temporary folder, with our topics on it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from infra.embedded.broker import EmbeddedKafka
from infra.provision import apply_topics
from infra.settings import KafkaSettings, StackSettings

RETENTION_FACTOR = 16.0
"""Answers are read again after a run: with a laptop's retention the first ones of a long run would be gone."""


@contextmanager
def own_kafka(say: Callable[[str], None]) -> Iterator[KafkaSettings]:
    """Started on entry, stopped and its data deleted on exit. Environment settings of another Kafka are not used."""
    with (
        tempfile.TemporaryDirectory(prefix="inferwatch-bench-") as folder,
        EmbeddedKafka(Path(folder), say=say) as kafka,
    ):
        settings = KafkaSettings.model_construct(bootstrap_servers=kafka.bootstrap_servers, session_timeout_ms=6_000)
        apply_topics(
            settings, StackSettings(topic_retention_factor=RETENTION_FACTOR, topic_replication=1), say=lambda text: None
        )
        yield settings
