"""`inferwatch books`: what became of every request that the topics still hold."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

import click

from infra.durations import Duration
from infra.exit_codes import EXIT_INTERNAL, EXIT_TRY_AGAIN
from infra.moments import Moment
from infra.progress_bar import progress_bar

if TYPE_CHECKING:
    from infra.up.audit import Audit

OFFSETS_SHOWN_MAX = 1_000
"""Ranges of offsets that JSON names of one difference."""


@click.command()
@click.option(
    "--wait",
    "wait_seconds",
    type=Duration(),
    default="20s",
    show_default=True,
    help="Time for what is under way when the command begins.",
)
@click.option("--since", type=Moment(), help="Only requests appended since: 1h (ago), or 2026-11-29T08:00:00Z.")
@click.option("--until", type=Moment(), help="Only requests appended before, written likewise.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def books(wait_seconds: float, since: int | None, until: int | None, as_json: bool) -> None:
    """Account for every request: sent = answered + failed + shed + dead-lettered + owed.

    Counted from Kafka alone, each part on its own, and compared request by request with the outcome that telemetry
    tells, and with the rows that readers see in ClickHouse, for all requests that are there when the command begins.
    Every difference is explained, with the offsets it is about. Where the ledger runs (`inferwatch jobs ledger`, or
    `up`), its own account by partition and scenario follows: what is owed and for how long, and what expired because
    retention took it first. While ClickHouse is away the account is of Kafka alone, and says so.

    Exit code 0 when the books balance; 75 when answers are still owed, or when nothing is wrong and ClickHouse could
    not be asked; 70 when something is lost, doubled or told differently.

    \b
    Example:
      inferwatch books
      inferwatch books --since 1h --until 5m
      inferwatch books --json
    """
    from infra.clickhouse import ClickHouse
    from infra.clock import SystemClock
    from infra.connect import NothingRunning, clickhouse_connection, kafka_connection
    from infra.ports import RetryLater, TryAgain
    from infra.up.audit import Span, audit
    from infra.up.table_sight import NoTable

    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since is not before --until: there is nothing between them")
    kafka = kafka_connection()
    table: ClickHouse | NoTable
    try:
        table = ClickHouse(clickhouse_connection())
    except NothingRunning as error:
        table = NoTable(str(error))
    try:
        with progress_bar("reading the topics") as move:
            found = audit(kafka, table, SystemClock(), move, wait_seconds, Span(since, until))
    except RetryLater as error:
        raise TryAgain(str(error)) from None
    finally:
        if isinstance(table, ClickHouse):
            table.close()
    click.echo(json.dumps(as_object(found)) if as_json else as_text(found))
    sys.exit(exit_code(found))


def exit_code(found: Audit) -> int:
    """0, EXIT_TRY_AGAIN or EXIT_INTERNAL, see `books`."""
    if found.balanced:
        return 0
    return EXIT_TRY_AGAIN if found.account.owed or found.is_unknown else EXIT_INTERNAL


def as_object(found: Audit) -> dict[str, Any]:
    """The audit for a program."""
    return found.account.as_json() | {
        "balanced": None if found.is_unknown else found.balanced,
        "repeated_answers": found.account.repeats,
        "dead_letters": dict(sorted(found.dead_letters.items())),
        "unreadable": found.unreadable,
        "ranges": {str(number): list(both) for number, both in sorted(found.ranges.items())},
        "differences": [f"partition {one.partition}: {one.text}" for one in found.differences],
        "explained": [one.as_json(OFFSETS_SHOWN_MAX) for one in found.differences],
        "answered_again": [one.as_json(OFFSETS_SHOWN_MAX) for one in found.answered_again],
        "ledger": None if found.ledger is None else found.ledger.as_json(found.at_ms),
        "notes": list(found.notes),
    }


def as_text(found: Audit) -> str:
    """The audit for people."""
    account = found.account
    rows = [
        ("sent", account.sent),
        ("answered", account.answered),
        ("failed", account.failed),
        ("shed", account.shed),
        ("dead-lettered", account.dead_lettered),
        ("owed", account.owed),
        ("answers in telemetry", account.telemetry_rows),
        ("answers in the table", account.table_rows),
    ]
    lines = [f"{name:<22}{'not known' if count is None else f'{count:,}':>12}" for name, count in rows]
    if account.repeats:
        lines.append(f"{'repeated answers':<22}{account.repeats:>12,}   (the first counts)")
    if found.unreadable:
        lines.append(f"{'unreadable records':<22}{found.unreadable:>12,}   (not what their topic carries; not counted)")
    lines += [f"note: {text}" for text in found.notes]
    lines += [f"note: partition {one.partition}: {one.text}" for one in found.answered_again]
    lines += [f"difference: partition {one.partition}: {one.text}" for one in found.differences]
    lines.append(_verdict(found))
    if found.ledger is not None:
        lines += ["", *found.ledger.as_text(found.at_ms)]
    return "\n".join(lines)


def _verdict(found: Audit) -> str:
    if found.is_unknown:
        return "balanced in Kafka; the table is not known"
    return "balanced" if found.balanced else "NOT BALANCED"
