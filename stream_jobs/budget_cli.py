"""`inferwatch budget`: what alert budgets of several sizes would have cost on a file or on the pipeline's past."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import click

from infra.durations import Duration
from infra.exit_codes import EXIT_REFUSED
from infra.progress_bar import progress_bar
from stream_jobs.detect_cli import COUNTER_HELP
from stream_jobs.detectors.registry import DEFAULT, detector_named, names

if TYPE_CHECKING:
    from stream_jobs.history.budget_costs import Costs
    from stream_jobs.history.reading import Batch, HistoryFile


class History(Protocol):
    """Batches in the order of time within a series."""

    done_share: float

    def __iter__(self) -> Iterator[Batch]: ...


@click.command()
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--since", type=Duration(1.0), help="Instead of FILE: windows that this pipeline scored since then.")
@click.option(
    "--size", "sizes", multiple=True, type=click.IntRange(1, 1_000_000), metavar="N", help="Alerts a week; several."
)
@click.option("--detector", type=click.Choice(names()), default=DEFAULT, show_default=True, help="See docs/detect.md.")
@click.option("--metric", "metrics", multiple=True, metavar="COLUMN", help="Of FILE: column to score; several are one.")
@click.option("--counter", "counters", multiple=True, metavar="COLUMN", help=COUNTER_HELP)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, with every alert of every budget.")
def budget(
    file: Path | None,
    since: float | None,
    sizes: tuple[int, ...],
    detector: str,
    metrics: tuple[str, ...],
    counters: tuple[str, ...],
    as_json: bool,
) -> None:
    """Show what alert budgets would have cost: how many alerts, when, in which series.

    History is the FILE (Parquet or CSV, as for `inferwatch detect`) or what the pipeline scored. It is scored as if it
    came live, and a row alerts because of earlier rows alone: nothing looks ahead. These are the alerts that scores
    alone would raise; the pipeline asks its triggers too, and raises fewer.

    \b
    Examples:
      inferwatch budget history.parquet
      inferwatch budget history.csv --size 7 --size 70 --json
      inferwatch budget --since 7d

    \b
    Exit codes: 0 done; 2 FILE, a column or an option is not what it should be; 65 done, but rows were broken;
    75 ClickHouse cannot be reached.
    """
    if (file is None) == (since is None):
        raise click.UsageError("one of FILE and --since says which history is meant")
    if (metrics or counters) and file is None:
        raise click.UsageError("--metric and --counter are for a FILE: --since takes what the pipeline scores")
    from stream_jobs.history.columns import MissingColumns
    from stream_jobs.history.reading import HistoryFile, UnreadableFile

    try:
        if file is not None:
            costs, broken = _of_file(HistoryFile(file, metrics, counters), sizes, detector)
        else:
            costs, broken = _of_pipeline(since or 0.0, sizes, detector), 0
    except (UnreadableFile, MissingColumns) as error:
        raise click.UsageError(str(error)) from None
    _show(costs, as_json)
    if broken:
        click.echo(f"{broken:,} broken rows were left out: `inferwatch detect` names them", err=True)
    sys.exit(EXIT_REFUSED if broken else 0)


def _of_file(history: HistoryFile, sizes: tuple[int, ...], detector: str) -> tuple[Costs, int]:
    """The costs, and how many rows were broken. Raises UnreadableFile."""
    found = _scored(history, history.columns.metrics, sizes, str(history.path), detector, {})
    return found, history.broken.count


def _of_pipeline(since: float, sizes: tuple[int, ...], detector: str) -> Costs:
    """The costs on what was stored. Raises TryAgain and RetryLater where ClickHouse is away."""
    from infra.clickhouse import ClickHouse
    from infra.clock import SystemClock
    from infra.connect import clickhouse_connection
    from infra.settings import load
    from stream_jobs.detectors.base import VALUE_KEY
    from stream_jobs.history.stored_windows import StoredWindows
    from stream_jobs.metrics import detector_options, metrics_of
    from stream_jobs.settings import JobSettings

    settings = load(JobSettings)
    scored = [metric.name for metric in metrics_of(settings) if metric.scored]
    server, now_ms = ClickHouse(clickhouse_connection()), SystemClock().now_ms()
    try:
        history = StoredWindows(server, scored, now_ms - round(since * 1000), now_ms)
        options = detector_options(detector, settings)
        return _scored(history, (VALUE_KEY,), sizes, "window_scores", detector, options)
    finally:
        server.close()


def _scored(
    history: History,
    channels: tuple[str, ...],
    sizes: Iterable[int],
    source: str,
    detector: str,
    options: dict[str, float],
) -> Costs:
    from stream_jobs.history.budget_costs import SIZES, costs_of
    from stream_jobs.history.scoring import HistoryScorer

    scorer = HistoryScorer(lambda: detector_named(detector, channels, **options))
    with progress_bar("scoring") as move:
        for batch in history:
            scorer.score(batch)
            move(history.done_share, 1.0)
    return costs_of(scorer, tuple(sizes) or SIZES, source, detector)


def _show(costs: Costs, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(costs.as_json(), default=str))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    headings, rows = costs.table()
    table = Table(show_header=True, header_style="bold")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == len(headings) - 1 else "right", overflow="fold")
    for row in rows:
        table.add_row(*(Text(f"{one:,}" if isinstance(one, int) else str(one)) for one in row))  # no markup from data
    Console().print(table)
    for line in costs.lines():
        click.echo(line)
