"""`inferwatch replay`: recomputes an alert or anomaly bit for bit, or says why it cannot."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from stream_jobs.replay.report import Report
    from stream_jobs.replay.stored import Tables

DIFFERENCES_SHOWN = 20


@click.command()
@click.argument("alert", metavar="ID")
@click.option(
    "--from",
    "source",
    type=click.Choice(["auto", "kafka", "clickhouse"]),
    default="auto",
    show_default=True,
    help="kafka: from the telemetry or not at all. clickhouse: from what is stored. auto: kafka, if it is kept.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def replay(alert: str, source: str, as_json: bool) -> None:
    """Recompute an alert, or an anomaly, with this program, and compare it bit for bit with what was stored.

    ID is an alert's or an anomaly's (`inferwatch query "SELECT incident_id, summary FROM alerts"`). Its windows are
    made again from the telemetry that the anomaly names, if Kafka still has it, and compared with those that were
    stored; then they are scored again, from the detector's state that was stored with each anomaly.

    \b
    Examples:
      inferwatch replay 5f2a07c1d9e84b3f6a21c0de
      inferwatch replay 5f2a07c1d9e84b3f6a21c0de --from clickhouse --json

    \b
    Exit codes: 0 reproduced; 2 there is no such alert or anomaly; 65 it cannot be recomputed, and why; 70 something
    differs, each column with both values; 75 Kafka or ClickHouse is away.
    """
    from infra.clickhouse import ClickHouse
    from infra.connect import clickhouse_connection

    server = ClickHouse(clickhouse_connection())
    try:
        report = _replayed(server, alert, source)
    except ValueError as error:
        raise click.ClickException(f"{error}. Are the tables up to date? `inferwatch tables apply`") from None
    finally:
        server.close()
    if as_json:
        click.echo(json.dumps(report.as_json(), default=str))
    else:
        _show(report)
    sys.exit(report.exit_code)


def _replayed(server: Tables, name: str, source: str) -> Report:
    """Raises UsageError when there is no such thing, RetryLater, ValueError."""
    from infra.clock import SystemClock
    from infra.connect import kafka_connection
    from infra.ports import TryAgain
    from infra.settings import load
    from stream_jobs.replay.kafka_telemetry import KafkaTelemetry
    from stream_jobs.replay.report import Report, replay_alert, replay_anomaly
    from stream_jobs.replay.stored import find
    from stream_jobs.settings import JobSettings

    found = find(server, name)
    if found is None:
        raise click.UsageError(f"there is no alert or anomaly {name!r} in the tables")
    windows = None
    if source != "clickhouse":
        try:
            windows = KafkaTelemetry(kafka_connection(), server, load(JobSettings), SystemClock())
        except TryAgain:
            if source == "kafka":
                raise
    anomalies = [replay_anomaly(row, windows, insist=source == "kafka") for row in found.anomalies]
    if found.alert is None:
        return Report(name, anomalies)
    return replay_alert(name, found.alert, anomalies)


def _show(report: Report) -> None:
    """For people."""
    click.echo(f"{'alert' if report.alert is not None else 'anomaly'} {report.name}: {report.result.value}")
    if report.alert is not None:
        click.echo(f"  {report.alert['summary']}")
    for one in report.anomalies:
        facts = one.as_json()
        click.echo(f"  {facts['anomaly_id']} {facts['metric']} of {facts['series']}: {one.result.value}")
        for span in facts["inputs"]:
            click.echo(
                f"    telemetry partition {span['partition']}, offsets {span['first_offset']} to {span['next_offset']}"
            )
        click.echo(f"    state {facts['state_digest'][:16]}, recomputed from {one.source}")
        for text in (one.why, *one.notes):
            if text:
                click.echo(f"    {text}")
        for difference in one.differences[:DIFFERENCES_SHOWN]:
            stored, found = (str(value)[:200] for value in (difference.stored, difference.recomputed))
            click.echo(f"    {difference.column}: stored {stored}, recomputed {found}")
    for difference in report.differences:
        click.echo(f"  {difference.column}: stored {difference.stored}, recomputed {difference.recomputed}")
    for note in report.notes:
        click.echo(f"  {note}")
