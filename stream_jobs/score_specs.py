"""What the score job's stages are made of: their topics, states and recovery, on a real Kafka."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from infra.kafka import KafkaCluster
    from infra.ports import Clock, Publisher
    from infra.settings import KafkaSettings
    from stream_jobs.partition_runner import StageSpec
    from stream_jobs.request_log import RequestLog
    from stream_jobs.settings import JobSettings
    from stream_jobs.stage import Stage


def score_specs(
    settings: JobSettings,
    kafka: KafkaSettings,
    cluster: KafkaCluster,
    publisher: Publisher,
    clock: Clock,
    requests: RequestLog,
) -> dict[str, StageSpec]:
    """The two stages of the score job, by topic."""
    from schemas.topics import REQUEST_STATE, TELEMETRY, WINDOW_STATE, WINDOWS
    from stream_jobs.metrics import share_of_budget
    from stream_jobs.page_shelf import PageShelf
    from stream_jobs.request_stage import RequestStage
    from stream_jobs.window_stage import WindowStage

    telemetry_id = cluster.topic_id(TELEMETRY.name)
    window_partitions = cluster.partitions(WINDOWS.name)
    telemetry_partitions = cluster.partitions(TELEMETRY.name)

    def request_stage(partition: int) -> Stage:
        return RequestStage(
            settings,
            topic_id=telemetry_id,
            partition=partition,
            window_partitions=window_partitions,
            requests=requests,
        )

    def window_stage(partition: int) -> Stage:
        return WindowStage(
            settings,
            partition=partition,
            source_topic_id=telemetry_id,
            source_partitions=telemetry_partitions,
            alerts_a_week=share_of_budget(settings.alerts_a_week, partition, window_partitions),
            new_shelf=PageShelf,
            partitions=window_partitions,
        )

    cluster_id = cluster.cluster_id
    return {
        TELEMETRY.name: new_spec(
            TELEMETRY.name,
            REQUEST_STATE.name,
            f"{cluster_id}/{telemetry_id}",
            "all",  # whatever is set: a window that is open is closed at the end that it was given
            request_stage,
            (kafka, publisher, clock),
            ticks=True,
        ),
        WINDOWS.name: new_spec(
            WINDOWS.name,
            WINDOW_STATE.name,
            f"{cluster_id}/{cluster.topic_id(WINDOWS.name)}",
            f"of {window_partitions} partitions",  # with another number, series lie elsewhere
            window_stage,
            (kafka, publisher, clock),
            recover=recovery(kafka, cluster, clock, window_partitions),
        ),
    }


def recovery(
    kafka: KafkaSettings, cluster: KafkaCluster, clock: Clock, window_partitions: int
) -> Callable[[Stage, int], None]:
    """A function that tells a window stage without a state which incidents of its series are open."""
    from infra.kafka import KafkaRangeReader
    from stream_jobs.open_alerts import read_open_alerts
    from stream_jobs.partial_events import target_of
    from stream_jobs.window_stage import WindowStage

    reader = KafkaRangeReader(kafka, clock, client_id="inferwatch-jobs")

    def recover(stage: Stage, partition: int) -> None:
        if isinstance(stage, WindowStage):
            found = read_open_alerts(cluster, reader)
            stage.adopt(alert for alert in found if target_of(alert.series, window_partitions) == partition)

    return recover


def new_spec(
    topic: str,
    state_topic: str,
    source: str,
    digest: str,
    new_stage: Callable[[int], Stage],
    outside: tuple[KafkaSettings, Publisher, Clock],
    *,
    ticks: bool = False,
    recover: Callable[[Stage, int], None] | None = None,
) -> StageSpec:
    """A stage over `topic` with its state on `state_topic`."""
    from infra.metrics import STATE_FALLBACKS
    from stream_jobs.page_shelf import PageShelf
    from stream_jobs.partition_runner import StageSpec
    from stream_jobs.state_log import PartitionState
    from stream_jobs.state_store import KafkaStateStore

    kafka, publisher, clock = outside
    store = KafkaStateStore(kafka, publisher, state_topic, clock)

    def new_state(partition: int) -> PartitionState:
        return PartitionState(
            store,
            partition,
            owner=uuid.uuid4().hex,
            source=source,
            digest=digest,
            on_broken=lambda why: STATE_FALLBACKS.labels(state_topic).inc(),
            new_shelf=PageShelf,
        )

    return StageSpec(topic, source, digest, new_stage, new_state, ticks, recover)


def ticker(publisher: Publisher, source: str, clock: Clock) -> Callable[[str, int, int], None]:
    """A function that publishes a tick on an idle telemetry partition."""
    from schemas.base import encode, headers_for
    from schemas.telemetry import TelemetryTicked

    def tick(topic: str, partition: int, next_offset: int) -> None:
        message = TelemetryTicked(partition=partition)
        headers = headers_for(
            message,
            event_id=f"tick/{source}/{partition}/{next_offset}",
            source="inferwatch/jobs.score",
            time=datetime.fromtimestamp(clock.now_ms() / 1000, UTC),
        )
        publisher.publish(topic, encode(message), partition=partition, headers=headers)

    return tick
