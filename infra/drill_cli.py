"""`inferwatch drill`: asks workers to misbehave for a while, so that people see an alert open and close."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime

import click

from infra.clock import SystemClock
from infra.durations import Duration
from infra.ports import Clock, Publisher, RetryLater
from infra.unique_ids import RANDOM_BYTES, uuid7
from schemas.base import encode, headers_for
from schemas.drills import DrillKind, DrillRequested
from schemas.topics import DRILLS

DELIVERY_SECONDS = 15.0
WATCH = """watch:  inferwatch alerts tail
        inferwatch query "SELECT window_start, scenario, total_ms_p95 FROM windows ORDER BY window_start DESC LIMIT 12"
no alert within a minute or two? Workers follow drills only when they are allowed to: see `inferwatch worker --help`"""


@click.group()
def drill() -> None:
    """Faults on purpose, for a while, on live traffic. Workers follow only where drills are allowed."""


@drill.command("latency")
@click.option(
    "--duration", type=Duration(1, 3600), default="60s", show_default=True, help="How long: 60s, 5m, at most 1h."
)
@click.option(
    "--delay-ms", type=click.IntRange(1, 60_000), default=250, show_default=True, help="Extra for each batch."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def drill_latency(duration: float, delay_ms: int, as_json: bool) -> None:
    """Make every batch slower, so that a latency_shift alert opens.

    \b
    Example:
      inferwatch drill latency --duration 60s --delay-ms 250
      inferwatch alerts tail
    """
    from infra.connect import kafka_connection
    from infra.kafka import KafkaPublisher

    publisher = KafkaPublisher(kafka_connection(), client_id="inferwatch-drill")
    try:
        asked = request_drill(
            publisher, SystemClock(), os.urandom(RANDOM_BYTES), DrillKind.LATENCY, round(duration * 1000), delay_ms
        )
    finally:
        publisher.close(1.0)
    if as_json:
        click.echo(json.dumps(asked.model_dump(mode="json")))
        return
    click.echo(f"drill {asked.drill_id}: {delay_ms} ms more for each batch, for {duration:g} s from now")
    click.echo(WATCH)


def request_drill(
    publisher: Publisher, clock: Clock, random_bytes: bytes, kind: DrillKind, duration_ms: int, delay_ms: int
) -> DrillRequested:
    """Put the request for a drill on `control.drills` and wait until it is there. Raises RetryLater."""
    now_ms = clock.now_ms()
    asked = DrillRequested(drill_id=uuid7(now_ms, random_bytes), kind=kind, duration_ms=duration_ms, delay_ms=delay_ms)
    settled = threading.Event()
    failures: list[Exception] = []

    def delivered(offset: int | None, error: Exception | None) -> None:
        if error is not None:
            failures.append(error)
        settled.set()

    headers = headers_for(
        asked, event_id=asked.drill_id, source="inferwatch-drill", time=datetime.fromtimestamp(now_ms / 1000, UTC)
    )
    publisher.publish(DRILLS.name, encode(asked), key=asked.drill_id.encode(), headers=headers, on_delivery=delivered)
    if not settled.wait(DELIVERY_SECONDS):
        raise RetryLater(f"Kafka did not confirm the drill within {DELIVERY_SECONDS:.0f} s")
    if failures:
        raise failures[0]
    return asked
