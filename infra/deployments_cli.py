"""`inferwatch deployments`: which models answer which scenario, changed under traffic and taken back."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import click
from pydantic import ValidationError

from infra.clock import SystemClock
from infra.deployment_verdicts import arms_running, judgements, verdict_of
from infra.durations import Duration
from infra.exit_codes import EXIT_TRY_AGAIN
from infra.ports import Clock, Publisher, Record, RetryLater
from infra.tail_cli import printable
from schemas.base import DecodeError, decode, encode, headers_for
from schemas.deployments import DEPLOYMENT_KINDS, Arm, DeploymentChanged, ModelJudged, Verdict
from schemas.topics import DEPLOYMENTS, MODEL_EVENTS

DELIVERY_SECONDS = 15.0
READ_SECONDS = 15.0
EXIT_REFUSED = 1


@dataclass(frozen=True, slots=True)
class Standing:
    """A scenario's deployment, and when its record was appended, in epoch milliseconds."""

    deployment: DeploymentChanged
    since_ms: int


@click.group()
def deployments() -> None:
    """Which models answer which scenario: canary, shadow, hot swap, rollback. Workers load a model beside what runs,
    check it, and switch between two batches; one that is refused changes nothing.

    \b
    Example:
      inferwatch deployments show
      inferwatch deployments apply search.json --wait 60s
      inferwatch deployments rollback search
    """


@deployments.command("show")
@click.argument("scenario", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object by scenario.")
def show(scenario: str | None, as_json: bool) -> None:
    """What is asked for, for all scenarios or one. Others are answered by the workers' own model.

    \b
    Example:
      inferwatch deployments show search --json
    """
    found = {name: one.deployment for name, one in _current().items() if scenario in (None, name)}
    if as_json:
        click.echo(json.dumps({name: one.model_dump(mode="json", exclude_none=True) for name, one in found.items()}))
        return
    if not found:
        click.echo("no deployment: the workers' own model answers")
    for name, one in sorted(found.items()):
        click.echo(f"{name}{f'   ({printable(one.reason)})' if one.reason else ''}")
        for line in arm_lines(one.arms):
            click.echo(f"  {line}")


@deployments.command("apply")
@click.argument("file", type=click.File("rb"))
@click.option("--reason", default="", help="Why, for those who read it later.")
@click.option("--wait", type=Duration(0, 3600), default="0s", show_default=True, help="Wait for the workers' verdict.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def apply(file: Any, reason: str, wait: float, as_json: bool) -> None:
    """Deploy what a JSON FILE (or - for standard input) says: a scenario and its arms.

    With --wait: exit code 0 when a worker is ready, 1 when one refused, 75 when nobody said anything in time.

    \b
    Example, a canary of a tenth:
      echo '{"scenario": "search", "arms": [
        {"arm": "stable", "model": "/models/a", "model_name": "a", "version": "1", "share": 0.9},
        {"arm": "canary", "model": "/models/b", "model_name": "a", "version": "2", "share": 0.1}]}' |
        inferwatch deployments apply - --wait 60s
    """
    wanted = read_deployment(file.read(), reason)
    before = _current().get(wanted.scenario)
    previous = [] if before is None else arms_running(before.deployment, _judged_since(before.since_ms))
    _send(wanted.model_copy(update={"previous": previous}), wanted.scenario, wait, as_json)


@deployments.command("rollback")
@click.argument("scenario")
@click.option("--reason", default="rollback", show_default=True, help="Why.")
@click.option("--wait", type=Duration(0, 3600), default="0s", show_default=True, help="Wait for the workers' verdict.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def rollback(scenario: str, reason: str, wait: float, as_json: bool) -> None:
    """Go back to the arms before the last change; to the workers' own model where there were none.

    \b
    Example:
      inferwatch deployments rollback search --reason "canary is slow" --wait 60s
    """
    before = _current().get(scenario)
    if before is None:
        raise click.ClickException(f"{scenario} has no deployment: there is nothing to go back from")
    running = arms_running(before.deployment, _judged_since(before.since_ms))
    _send(rolled_back(before.deployment, running, reason), scenario, wait, as_json)


@deployments.command("remove")
@click.argument("scenario")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def remove(scenario: str, as_json: bool) -> None:
    """End a scenario's deployment: the workers' own model answers it again.

    \b
    Example:
      inferwatch deployments remove search
    """
    _send(None, scenario, 0.0, as_json)


def read_deployment(raw: bytes, reason: str) -> DeploymentChanged:
    """A deployment from JSON. Raises UsageError in words."""
    try:
        wanted = DeploymentChanged.model_validate_json(raw)
        if reason:
            wanted = DeploymentChanged.model_validate(wanted.model_dump() | {"reason": reason})
    except ValidationError as error:
        found = "; ".join(
            f"{'.'.join(map(str, one['loc'])) or 'the file'}: {one['msg']}"
            for one in error.errors(include_url=False, include_input=False)
        )
        raise click.UsageError(f"this is no deployment: {found}") from None
    return wanted


def rolled_back(now: DeploymentChanged, running: Sequence[Arm], reason: str) -> DeploymentChanged | None:
    """The deployment before this one, with those arms to come back to that are `running`; None when the workers' own
    model answered then."""
    if not now.previous:
        return None
    return DeploymentChanged(scenario=now.scenario, arms=now.previous, previous=list(running), reason=reason)


def arm_lines(arms: Sequence[Arm]) -> list[str]:
    """Each arm in words."""
    return [
        f"{one.arm:<10} {'shadow' if one.shadow else f'{one.share:.1%}':>7}  {printable(one.model_name)} "
        f"{printable(one.version)}  from {printable(one.model)}{f' at {one.revision[:12]}' if one.revision else ''}"
        for one in arms
    ]


def by_scenario(records: Iterable[Record]) -> dict[str, Standing]:
    """What holds after these records; those that cannot be read are passed over, as workers do."""
    found: dict[str, Standing] = {}
    for record in records:
        if record.value is None:
            found.pop((record.key or b"").decode("utf-8", "replace"), None)
            continue
        try:
            one = decode(record.headers, record.value, DEPLOYMENT_KINDS).data
        except DecodeError:
            continue
        found[one.scenario] = Standing(one, record.timestamp_ms)
    return found


def publish(
    publisher: Publisher, clock: Clock, scenario: str, wanted: DeploymentChanged | None, seconds: float
) -> None:
    """Put a deployment on its topic, or a tombstone, and wait until it is there. Raises RetryLater."""
    settled = threading.Event()
    failures: list[Exception] = []

    def delivered(offset: int | None, error: Exception | None) -> None:
        if error is not None:
            failures.append(error)
        settled.set()

    now = datetime.fromtimestamp(clock.now_ms() / 1000, UTC)
    headers: Sequence[tuple[str, bytes | None]] = ()
    if wanted is not None:
        event_id = f"{scenario}/{clock.now_ms()}"
        headers = [*headers_for(wanted, event_id=event_id, source="inferwatch-deployments", time=now)]
    value = None if wanted is None else encode(wanted)
    publisher.publish(DEPLOYMENTS.name, value, key=scenario.encode(), headers=headers, on_delivery=delivered)
    if not settled.wait(seconds):
        raise RetryLater(f"Kafka did not confirm the deployment within {seconds:.0f} s")
    if failures:
        raise failures[0]


def _current() -> dict[str, Standing]:
    return by_scenario(_read(DEPLOYMENTS.name, 0))


def _judged_since(time_ms: int) -> list[ModelJudged]:
    return judgements(_read(MODEL_EVENTS.name, time_ms))


def _read(topic: str, since_ms: int) -> list[Record]:
    """What a topic holds that was appended at this time or later. Raises RetryLater."""
    from infra.connect import kafka_connection
    from infra.kafka import KafkaCluster, KafkaRangeReader

    kafka = kafka_connection()
    cluster = KafkaCluster(kafka)
    try:
        found = cluster.since(topic, dict.fromkeys(range(cluster.partitions(topic)), since_ms))
    finally:
        cluster.close()
    ranges = {(topic, number): span for number, span in found.items()}
    reader = KafkaRangeReader(kafka, SystemClock(), client_id="inferwatch-deployments", silence_seconds=READ_SECONDS)
    return list(chain.from_iterable(reader.read(ranges)))


def _send(wanted: DeploymentChanged | None, scenario: str, wait: float, as_json: bool) -> None:
    from infra.connect import kafka_connection
    from infra.kafka import KafkaPublisher, KafkaTail

    kafka = kafka_connection()
    events = KafkaTail(kafka, [MODEL_EVENTS.name]) if wait and wanted is not None else None
    publisher = KafkaPublisher(kafka, client_id="inferwatch-deployments")
    try:
        publish(publisher, SystemClock(), scenario, wanted, DELIVERY_SECONDS)
        verdict = None if events is None or wanted is None else _wait(events, wanted, wait)
    finally:
        publisher.close(1.0)
        if events is not None:
            events.close()
    waited = events is not None
    if as_json:
        deployment = None if wanted is None else wanted.model_dump(mode="json", exclude_none=True)
        judged = None if verdict is None else verdict.model_dump(mode="json", exclude_none=True)
        click.echo(json.dumps({"scenario": scenario, "deployment": deployment, "verdict": judged}))
    else:
        for line in _said(scenario, wanted, verdict, waited=waited):
            click.echo(line)
    if waited and verdict is None:
        sys.exit(EXIT_TRY_AGAIN)
    sys.exit(EXIT_REFUSED if verdict is not None and verdict.verdict is Verdict.REFUSED else 0)


def _wait(events: Any, wanted: DeploymentChanged, seconds: float) -> ModelJudged | None:
    seen: list[ModelJudged] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for record in events.poll(100, 0.25):
            seen += judgements([record])
        found = verdict_of(seen, wanted.scenario, wanted.arms)
        if found is not None:
            return found
    return None


def _said(scenario: str, wanted: DeploymentChanged | None, verdict: ModelJudged | None, *, waited: bool) -> list[str]:
    if wanted is None:
        return [f"{scenario}: no deployment any more, the workers' own model answers"]
    lines = [scenario, *(f"  {line}" for line in arm_lines(wanted.arms))]
    if verdict is not None and verdict.verdict is Verdict.REFUSED:
        lines.append(
            f"refused by {verdict.worker_id}: {verdict.model.name} {verdict.model.version}: {verdict.reason}: "
            f"{printable(verdict.message)}. What ran before goes on."
        )
    elif verdict is not None:
        lines.append(f"ready on {verdict.worker_id}")
    elif waited:
        lines.append("no worker said anything in time: is one running? (`inferwatch worker`)")
    return lines
