"""`inferwatch bench sink`: how fast rows are stored, what an outage of ClickHouse does, what the barrier costs."""

from __future__ import annotations

import json
import signal
import sys
from typing import Any

import click

from infra.durations import Duration
from infra.exit_codes import EXIT_TRY_AGAIN

PARTS = ("rows", "outage", "barrier")
WARM_SECONDS = 10.0


@click.command("sink")
@click.option("--rows", type=click.IntRange(2_000), default=600_000, show_default=True, help="Rows of one round.")
@click.option("--repeat", type=click.IntRange(1, 50), default=5, show_default=True, help="Interleaved rounds of rows.")
@click.option(
    "--outage", "outage_seconds", type=Duration(1.0, 3600.0), default="120s", show_default=True, help="Its length."
)
@click.option("--rate", type=click.FloatRange(500.0), default=10_000.0, show_default=True, help="Requests/s, outage.")
@click.option("--series", type=click.IntRange(6, 10_000), default=10_000, show_default=True, help="Of the barrier.")
@click.option(
    "--barrier-rate",
    type=click.FloatRange(500.0),
    default=5_000.0,
    show_default=True,
    help="Requests/s over those series; each has some in every window.",
)
@click.option("--barrier-rounds", type=click.IntRange(1, 20), default=3, show_default=True, help="Rounds of barriers.")
@click.option(
    "--barrier-for",
    "barrier_seconds",
    type=Duration(5.0, 3600.0),
    default="40s",
    show_default=True,
    help="How long each is measured.",
)
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Only this part; may be given several times.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def sink(
    rows: int,
    repeat: int,
    outage_seconds: float,
    rate: float,
    series: int,
    barrier_rate: float,
    barrier_rounds: int,
    barrier_seconds: float,
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """Measure how rows reach ClickHouse, on servers of this benchmark's own.

    rows: the job's sink beside a bare columnar insert of the same rows into the same engine, in turns. outage: the real
    job under live traffic while ClickHouse is killed and comes back; then Kafka is compared with ClickHouse row by row
    (`inferwatch audit counts`). barrier: processor time of the job's barriers at the default interval, with many live
    series; beside it, the same job with no barrier in the measurement. About fifteen minutes on two cores; progress
    goes to standard error.

    \b
    Example:
      inferwatch bench sink --json > sink.json
      inferwatch bench sink --only outage --outage 30s
    """
    # Ended from outside, it takes its servers and the job with it.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(EXIT_TRY_AGAIN))
    from benchmarks.machine_facts import machine_facts
    from benchmarks.sink import figures as made

    parts = frozenset(only or PARTS)
    figures: dict[str, Any] = {}
    if "rows" in parts:
        from benchmarks.sink import rows_part

        figures |= made.rows_figures(rows_part.measure(rows, repeat, _say))
    if "outage" in parts:
        from benchmarks.sink.outage_part import outage

        figures["outage"] = outage(outage_seconds, rate, min(WARM_SECONDS, outage_seconds), _say).as_json()
    if "barrier" in parts:
        from benchmarks.sink import barrier_part

        found = barrier_part.measure(series, barrier_rate, barrier_seconds, barrier_rounds, _say)
        figures |= made.barrier_figures(found, series)
    asked = {"rows": rows, "repeat": repeat, "rate": rate, "barrier_rate": barrier_rate, "parts": sorted(parts)}
    figures |= {"settings": asked, "machine": machine_facts()}
    click.echo(json.dumps(figures) if as_json else made.lines_for_people(figures))


def _say(text: str) -> None:
    click.echo(text, err=True)
