"""`inferwatch rebuild`: scores a stored time range again under the rules of now, beside what is live."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from infra.durations import Duration
from infra.moments import Moment
from infra.progress_bar import progress_bar

if TYPE_CHECKING:
    from infra.columns import Column
    from infra.ports import TableWriter
    from stream_jobs.replay.rebuild import Comparison, Rebuild, Row
    from stream_jobs.replay.stored import Tables
    from stream_jobs.replay.stored_series import StoredSeries
    from stream_jobs.settings import JobSettings

SHOWN = 20
BLOCK_ROWS = 10_000


@click.command()
@click.option("--since", type=Moment(), required=True, help="From when on: 7d (ago), or 2026-01-31T12:00:00Z.")
@click.option("--until", type=Moment(), help="Until when. Default: now.")
@click.option(
    "--warm-up", type=Duration(), default="1d", show_default=True, help="Learnt before that, and told of nothing."
)
@click.option("--set", "changes", multiple=True, metavar="NAME=VALUE", help="A rule: a setting INFERWATCH_JOBS_NAME.")
@click.option("--partitions", type=click.IntRange(1, 10_000), help="Of inference.windows. Default: asked of Kafka.")
@click.option("--dry-run", is_flag=True, help="Compare only: store nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every alert.")
def rebuild(
    since: int,
    until: int | None,
    warm_up: float,
    changes: tuple[str, ...],
    partitions: int | None,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Score the windows of a time range again, in order, under the rules of now; show what would have alerted.

    Rules are the settings of the jobs (INFERWATCH_JOBS_*), changed by --set. Windows come from ClickHouse. Scores,
    anomalies and alerts go into tables of their own, `rebuilt_window_scores`, `rebuilt_anomalies` and `rebuilt_alerts`,
    under an id of this run: no live table, topic or group is touched. What that cannot know: see docs/watching.md.

    \b
    Examples:
      inferwatch rebuild --since 2d --set latency_ms_min=300
      inferwatch rebuild --since 2026-01-31T00:00:00Z --until 2026-02-01T00:00:00Z --dry-run --json

    \b
    Exit codes: 0 done; 2 a wrong option; 75 ClickHouse or Kafka is away; 78 a rule cannot be.
    """
    from infra.clickhouse import ClickHouse
    from infra.clock import SystemClock
    from infra.connect import clickhouse_connection
    from infra.unique_ids import RANDOM_BYTES, uuid7

    settings, now_ms = _settings(changes), SystemClock().now_ms()
    since_ms, until_ms = since, now_ms if until is None else until
    if since_ms >= until_ms:
        raise click.UsageError("--since is not before --until")
    count = partitions or _partitions()
    server, run_id = ClickHouse(clickhouse_connection()), uuid7(now_ms, os.urandom(RANDOM_BYTES))
    try:
        run = _run(server, settings, count, (since_ms, until_ms, round(warm_up * 1000)), run_id, now_ms, dry_run)
        found = _compared(server, run, since_ms, until_ms)
    except ValueError as error:
        raise click.ClickException(f"{error}. Are the tables up to date? `inferwatch tables apply`") from None
    finally:
        server.close()
    told = _summary(run, found, None if dry_run else run_id, since_ms, until_ms)
    if as_json:
        click.echo(json.dumps(told, default=str))
    else:
        _show(told)


def _settings(changes: tuple[str, ...]) -> JobSettings:
    """The rules of now, changed. Raises UsageError for no such rule, SettingsError for one that cannot be."""
    from infra.settings import load
    from stream_jobs.settings import JobSettings

    pairs = dict(text.partition("=")[::2] for text in changes)
    unknown = sorted(pairs.keys() - JobSettings.model_fields.keys())
    if unknown:
        raise click.UsageError(f"--set: no rule {', '.join(unknown)}: see INFERWATCH_JOBS_* in docs/settings.md")
    return load(JobSettings, **pairs)


def _partitions() -> int:
    """Raises TryAgain, RetryLater."""
    from infra.connect import kafka_connection
    from infra.kafka import KafkaCluster
    from infra.ports import TryAgain
    from schemas.topics import WINDOWS

    try:
        found = KafkaCluster(kafka_connection(), client_id="inferwatch-rebuild").partitions(WINDOWS.name)
    except TryAgain as error:
        raise TryAgain(f"{error}; or say --partitions") from None
    if not found:
        raise TryAgain(f"Kafka has no topic {WINDOWS.name}: `inferwatch topics apply`, or say --partitions")
    return found


def _run(
    server: Any,
    settings: JobSettings,
    partitions: int,
    span: tuple[int, int, int],
    run_id: str,
    now_ms: int,
    dry_run: bool,
) -> Rebuild:
    """Raises RetryLater, ValueError."""
    from stream_jobs.replay.rebuild import Rebuild
    from stream_jobs.replay.rebuilt_rows import RebuiltRows
    from stream_jobs.replay.stored_series import StoredSeries

    since_ms, until_ms, warm_up_ms = span
    writer: TableWriter = server
    rows = RebuiltRows(writer, run_id, now_ms, BLOCK_ROWS)

    def drop(table: str, columns: dict[str, Column]) -> None:
        """Stored nowhere."""

    run = Rebuild(settings, partitions, since_ms, keep=drop if dry_run else rows.keep)
    windows = StoredSeries(server, since_ms - warm_up_ms, until_ms)
    with progress_bar("scoring") as move:
        run.run(_shown(windows, lambda: move(windows.done_share, 1.0)))
    rows.flush()
    return run


def _compared(server: Tables, run: Rebuild, since_ms: int, until_ms: int) -> Comparison:
    from stream_jobs.replay.rebuild import compare
    from stream_jobs.replay.stored import alerts_between

    return compare(alerts_between(server, since_ms, until_ms), run.alerts.values())


def _summary(run: Rebuild, found: Comparison, run_id: str | None, since_ms: int, until_ms: int) -> dict[str, Any]:
    return {
        "run_id": run_id,
        "since": _text(since_ms),
        "until": _text(until_ms),
        "warmed_up_from": None if run.first_ms is None else _text(min(run.first_ms, since_ms)),
        "windows": run.counts["windows"],
        "warm_up_windows": run.counts["warm_up_windows"],
        "scores": run.counts["window_scores"],
        "anomalies": run.counts["anomalies"],
        "alerts": len(run.alerts),
        "same": [_brief(row) for row in found.same],
        "moved": [{"live": _brief(one), "rebuilt": _brief(other)} for one, other in found.moved],
        "added": [_brief(row) for row in found.added],
        "gone": [_brief(row) for row in found.gone],
    }


def _brief(row: Row) -> dict[str, Any]:
    names = ("incident_id", "kind", "metric", "scenario", "model", "model_version", "summary", "windows", "peak_score")
    resolved = row["resolved_at"]
    return {
        **{name: row[name] for name in names},
        "opened_at": _text(row["opened_at"]),
        "resolved_at": None if resolved is None else _text(resolved),
    }


def _text(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _show(told: Mapping[str, Any]) -> None:
    """For people."""
    click.echo(f"{told['windows']:,} windows from {told['since']} to {told['until']} scored again")
    click.echo(f"  learnt from {told['warmed_up_from']}: {told['warm_up_windows']:,} windows before")
    click.echo(f"  {told['scores']:,} scores, {told['anomalies']:,} anomalies, {told['alerts']:,} alerts")
    for what in ("same", "moved", "added", "gone"):
        click.echo(f"{what}: {len(told[what])}")
        for one in told[what][:SHOWN]:
            row = one["rebuilt"] if what == "moved" else one
            click.echo(f"  {row['opened_at']} {row['incident_id']} {row['summary']}")
    where = "nothing was stored" if told["run_id"] is None else f"run {told['run_id']}"
    click.echo(f"{where}; no live table, topic or group was touched")


def _shown(windows: StoredSeries, show: Callable[[], None]) -> Iterator[Any]:
    for window in windows:
        yield window
        show()
