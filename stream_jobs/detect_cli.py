"""`inferwatch detect`: the detectors over a file of history, strictly online, and what they say of each row."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from infra.exit_codes import EXIT_REFUSED
from infra.progress_bar import progress_bar
from stream_jobs.detectors.registry import DEFAULT, detector_named, names

if TYPE_CHECKING:
    from stream_jobs.history.report import Report

COUNTER_HELP = "As --metric, of what only grows and falls at a restart: its increase a second is scored."


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="CSV or Parquet. Default: CSV on stdout.")
@click.option("--detector", type=click.Choice(names()), default=DEFAULT, show_default=True, help="See docs/detect.md.")
@click.option("--set", "settings", multiple=True, metavar="NAME=VALUE", help="An option of the detector.")
@click.option("--metric", "metrics", multiple=True, metavar="COLUMN", help="Column to score; several make one score.")
@click.option("--counter", "counters", multiple=True, metavar="COLUMN", help=COUNTER_HELP)
@click.option(
    "--budget", type=click.IntRange(min=1), metavar="N", help="Say which rows alert: at most N a week over all series."
)
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="PNG of the most anomalous series.")
@click.option("--json", "as_json", is_flag=True, help="The summary as one JSON object on stdout; needs --out.")
def detect(
    file: Path,
    out: Path | None,
    detector: str,
    settings: tuple[str, ...],
    metrics: tuple[str, ...],
    counters: tuple[str, ...],
    budget: int | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Score the history in FILE (Parquet or CSV) as if it came live: each row before the next, never looking ahead.

    Columns: series, ts or timestamp (s or ms since 1970, or ISO 8601), and value, or several metrics. One row out for
    each row in: series, ts, score, severity, alarm, expected, lower, upper. A row without a usable value, or not later
    than the one before it of its series, gets no score.

    \b
    Examples:
      inferwatch detect history.parquet --out scores.parquet
      inferwatch detect history.csv --budget 5 --plot worst.png > scores.csv
      inferwatch detect hosts.csv --metric cpu --metric memory --detector half_space_trees --out scores.csv
      inferwatch detect hosts.csv --counter requests_total --out scores.csv
      inferwatch detect latency.csv --detector fixed_threshold --set upper=250 --out scores.csv

    \b
    Exit codes: 0 done; 2 FILE or a column is not what it should be; 65 done, but rows were broken.
    """
    from stream_jobs.history.columns import MissingColumns
    from stream_jobs.history.reading import UnreadableFile

    if as_json and out is None:
        raise click.UsageError("--json needs --out: without it the scores are on stdout")
    if plot is not None and plot.suffix.lower() != ".png":
        raise click.UsageError(f"--plot {plot}: its ending must be .png")
    for option, path in (("--out", out), ("--plot", plot)):
        if path is not None and path.exists() and path.samefile(file):
            raise click.UsageError(f"{option} {path} is the file that is read")
        if path is not None and not path.parent.is_dir():
            raise click.UsageError(f"{option} {path}: there is no folder {path.parent}")
    try:
        report = _run(file, out, detector, dict(map(_setting, settings)), metrics, counters, budget)
        if plot is not None:
            _plot(report, plot)
    except (UnreadableFile, MissingColumns) as error:
        raise click.UsageError(str(error)) from None
    if as_json:
        click.echo(json.dumps(report.as_json(), default=str))
    else:
        for line in report.lines():
            click.echo(line, err=True)
    sys.exit(EXIT_REFUSED if report.file.broken.count else 0)


def _run(
    file: Path,
    out: Path | None,
    detector: str,
    settings: dict[str, float],
    metrics: tuple[str, ...],
    counters: tuple[str, ...],
    budget: int | None,
) -> Report:
    """Score the file into `out`. Raises UnreadableFile, MissingColumns, and UsageError for options that cannot be."""
    from stream_jobs.history.reading import HistoryFile
    from stream_jobs.history.report import Report
    from stream_jobs.history.scoring import HistoryScorer, as_table, schema
    from stream_jobs.history.writing import ScoreSink

    began = time.monotonic()
    history = HistoryFile(file, metrics, counters)
    channels = history.columns.metrics
    scorer = HistoryScorer(lambda: detector_named(detector, channels, **settings))
    try:
        digest = scorer.new_detector().digest()
    except ValueError as error:
        raise click.UsageError(f"--set: {error}") from None
    try:
        sink = ScoreSink(sys.stdout.buffer if out is None else out)
    except ValueError as error:
        raise click.UsageError(f"--out {error}") from None
    with sink, progress_bar("scoring") as move:
        for batch in history:
            sink.write(as_table(batch, scorer.score(batch), channels))
            move(history.done_share, 1.0)
        sink.finish(schema(history.types, channels))
    return Report(
        history,
        scorer,
        detector,
        digest,
        time.monotonic() - began,
        budget,
        [] if budget is None else scorer.candidates.alerts(budget),
    )


def _setting(text: str) -> tuple[str, float]:
    """NAME=VALUE as a name and a number, whole where it is written so."""
    name, _, value = text.partition("=")
    try:
        number = float(value)
        return name, int(value) if value.strip().lstrip("+-").isdigit() else number
    except ValueError:
        raise click.UsageError(f"--set {text}: NAME=NUMBER is wanted") from None


def _plot(report: Report, path: Path) -> None:
    """Draw the most anomalous series: it alone is scored again, as its values were not kept."""
    import numpy as np

    from stream_jobs.history.picture import draw
    from stream_jobs.history.reading import HistoryFile
    from stream_jobs.history.report import moment
    from stream_jobs.history.scoring import HistoryScorer
    from stream_jobs.history.thinning import Thinned

    worst = report.scorer.worst()
    if not worst:
        click.echo("--plot: there is no series to draw", err=True)
        return
    (name, one), metrics = worst[0], report.file.columns.metrics
    history = HistoryFile(report.file.path, metrics if metrics != ("value",) else (), report.file.counters)
    scorer = HistoryScorer(report.scorer.new_detector, only=name)
    thinned = Thinned(one.rows)
    with progress_bar("drawing") as move:
        for batch in history:
            said = scorer.score(batch)
            rows = np.flatnonzero(~np.isnan(said.severity))
            band = np.stack([said.expected, said.lower, said.upper], axis=1)[rows]
            if len(metrics) > 1:  # the band is of whichever metric contributed most to the row
                band[said.metric[rows] != one.metric] = np.nan
            ends = np.stack([said.score[rows], said.alarm[rows]], axis=1)
            starts = np.stack([batch.time_ms[rows], batch.values[rows, one.metric]], axis=1)
            thinned.add(np.concatenate([starts, band, ends], axis=1))
            move(history.done_share, 1.0)
    alerts = [alert.time_ms for alert in report.alerts if alert.series == one.number]
    subtitle = f"{report.detector}: {one.rows:,} points, most anomalous at {moment(one.time_ms)}"
    draw(path, thinned.columns(), alerts, str(name), subtitle, metrics[one.metric])
