"""Topics on a real cluster, from settings: what `topics apply` and `up` call."""

from __future__ import annotations

from collections.abc import Callable

from infra.kafka import KafkaCluster, KafkaTopicAdmin
from infra.settings import KafkaSettings, StackSettings
from infra.topic_plan import apply_plan
from schemas import topics

WAIT_SECONDS = 30.0


def apply_topics(
    kafka: KafkaSettings,
    stack: StackSettings,
    *,
    say: Callable[[str], None],
    dry_run: bool = False,
    allow_data_loss: bool = False,
    wait_seconds: float = WAIT_SECONDS,
) -> int:
    """Make or change every declared topic; returns the number of changes. Raises ProvisionRefused,
    TryAgain when no broker answers within `wait_seconds`, RetryLater."""
    cluster = KafkaCluster(kafka, client_id="inferwatch-provision")
    cluster.wait_ready(wait_seconds)
    admin = KafkaTopicAdmin(cluster)
    return apply_plan(admin, topics.DECLARED, stack, say=say, dry_run=dry_run, allow_data_loss=allow_data_loss)
