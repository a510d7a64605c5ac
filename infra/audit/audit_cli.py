"""`inferwatch audit counts`: Kafka against ClickHouse, row by row."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

import click

from infra.clock import SystemClock
from infra.durations import Duration
from infra.exit_codes import EXIT_INTERNAL, EXIT_TRY_AGAIN
from infra.moments import Moment
from infra.progress_bar import progress_bar
from schemas import topics

if TYPE_CHECKING:
    from infra.audit.counts import Audited

GROUP_VARIABLE = "INFERWATCH_JOBS_GROUP"
GROUP = "stream-jobs-score"


@click.group()
def audit() -> None:
    """Prove what was stored."""


@audit.command()
@click.option("--since", type=Moment(needs_zone=True), help="Telemetry from then on: 1h (ago) or 2026-03-01T12:00:00Z.")
@click.option("--until", type=Moment(needs_zone=True), help="Telemetry before then.")
@click.option(
    "--topic",
    type=click.Choice([topics.REQUESTS.name, topics.TELEMETRY.name]),
    default=topics.REQUESTS.name,
    show_default=True,
    help="Whose offsets --from and --to are.",
)
@click.option("--partition", type=click.IntRange(min=0), help="Only this one. Default: all.")
@click.option("--from", "first", type=click.IntRange(min=0), help="First offset.")
@click.option("--to", "after", type=click.IntRange(min=0), help="Offset after the last.")
@click.option("--group", help=f"Consumer group of the score job. Default: {GROUP_VARIABLE}, else {GROUP}.")
@click.option(
    "--wait",
    "wait_seconds",
    type=Duration(),
    default="20s",
    show_default=True,
    help="Time for the job to store what is there when the command begins.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def counts(
    since: int | None,
    until: int | None,
    topic: str,
    partition: int | None,
    first: int | None,
    after: int | None,
    group: str | None,
    wait_seconds: float,
    as_json: bool,
) -> None:
    """Compare Kafka with ClickHouse row by row, and windows with rows.

    Every request that telemetry tells of must have one row, as readers see it, with the content that telemetry tells;
    no row may be of a request that nobody told of; every window must count what its rows count. What differs is named
    by offsets. Judged is what the score job has committed; what is under way is counted apart. Reads only.

    \b
    Examples:
      inferwatch audit counts
      inferwatch audit counts --since 1h --json
      inferwatch audit counts --partition 2 --from 1000 --to 2000

    \b
    Exit codes: 0 all agree; 70 something differs; 75 nothing differs, but some is under way or there was nothing to
    compare, or a server is away.
    """
    from infra.audit.counts import CountsAudit, Range
    from infra.clickhouse import ClickHouse
    from infra.connect import connection
    from infra.ports import RetryLater, TryAgain

    if first is not None and after is not None and first >= after:
        raise click.UsageError(f"--from {first} is not below --to {after}")
    if partition is None and (first is not None or after is not None):
        raise click.UsageError("--from and --to are offsets of one partition: name it with --partition")
    kafka, clickhouse = connection()
    table = ClickHouse(clickhouse)
    wanted = Range(partition, first, after, topic == topics.TELEMETRY.name, since, until)
    try:
        with progress_bar("reading telemetry") as move:
            name = group or os.environ.get(GROUP_VARIABLE) or GROUP
            found = CountsAudit(kafka, table, name, SystemClock()).run(wanted, move, wait_seconds)
    except RetryLater as error:
        raise TryAgain(str(error)) from None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    finally:
        table.close()
    click.echo(json.dumps(as_object(found)) if as_json else as_text(found))
    sys.exit(exit_code(found))


def exit_code(found: Audited) -> int:
    """0, EXIT_INTERNAL or EXIT_TRY_AGAIN, see `counts`."""
    if not found.agree:
        return EXIT_INTERNAL
    compared = found.rows.compared
    return 0 if found.proven and not compared.under_way and not compared.owed else EXIT_TRY_AGAIN


def verdict(found: Audited) -> str:
    """In two or three words."""
    if not found.agree:
        return "DIFFERS"
    if not found.proven:
        return "nothing to compare"
    return "agrees" if exit_code(found) == 0 else "agrees, some is under way"


def as_object(found: Audited) -> dict[str, Any]:
    """The audit for a program."""
    compared = found.rows.compared
    return {
        "agrees": found.agree,
        "rows_matched": compared.matched,
        "requests_told": found.rows.requests,
        "told_again": found.rows.repeats,
        "under_way": compared.under_way,
        "owed": compared.owed,
        "owed_from": {str(number): offset for number, offset in sorted(found.owed_from.items())},
        "rows_not_judged": compared.elsewhere,
        "refused_by_table": compared.dead_letters,
        "telemetry_events": found.rows.events,
        "telemetry_unreadable": found.rows.unreadable,
        "telemetry_of_other_topics": found.rows.other_topics,
        "windows_matched": found.windows.windows - found.counts["window_counts"],
        "windows_revised": found.windows.revised,
        "windows_not_due": found.windows.not_due,
        "requests_in_windows": found.windows.requests,
        "ranges": {
            str(number): {"requests": list(requests), "telemetry": list(telemetry)}
            for number, (requests, telemetry) in found.ranges.items()
        },
        "counts": found.counts,
        "differences": [one.as_json() for one in found.differences],
        "notes": found.notes,
    }


def as_text(found: Audited) -> str:
    """The audit for people."""
    told = as_object(found)
    rows = [
        ("rows that agree", "rows_matched", ""),
        ("windows that agree", "windows_matched", f"   of {told['requests_in_windows']:,} requests"),
        ("told again", "told_again", "   the first word counts"),
        ("under way", "under_way", "   told, not committed by the job yet"),
        ("owed", "owed", "   no outcome told yet: see `inferwatch books`"),
        ("refused by the table", "refused_by_table", "   see `inferwatch dead-letters list`"),
        ("not judged", "rows_not_judged", "   rows of telemetry outside the range"),
    ]
    lines = [f"{name:<22}{told[key]:>12,}{more}" for name, key, more in rows if told[key] or "agree" in name]
    lines += [f"note: {text}" for text in found.notes]
    lines += [f"difference: {one}" for one in found.differences]
    return "\n".join([*lines, verdict(found)])
