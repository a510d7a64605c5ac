"""`inferwatch query`: one SQL statement, its rows as a table for people, or as CSV or JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import click

TABLE_ROWS_MAX = 1_000
"""Rows that the table shows; CSV and JSON hold them all."""
FORMATS = {"csv": "CSVWithNames", "json": "JSONEachRow"}


class QueryRefused(click.ClickException):
    """The server said no: its words, exit code 2."""

    exit_code = 2


@click.command()
@click.argument("sql")
@click.option("--format", "output", type=click.Choice(["table", "csv", "json"]), help="Default: table; csv when piped.")
@click.option("--json", "as_json", is_flag=True, help="Short for --format json: one object a line.")
@click.option("--param", "parameters", multiple=True, metavar="NAME=VALUE", help="Value for {NAME:Type} in the SQL.")
def query(sql: str, output: str | None, as_json: bool, parameters: tuple[str, ...]) -> None:
    """Ask ClickHouse. SQL `-` reads the statement from standard input.

    Readers' tables: requests, windows, window_scores, latency_causes, anomalies, alerts. Exit code 2 when the
    server refuses the SQL.

    \b
    Example:
      inferwatch query "SELECT outcome, count() FROM requests GROUP BY outcome"
      inferwatch query "SELECT * FROM requests WHERE request_id = {id:String}" --param id=sim-1-42
    """
    output = "json" if as_json else output or ("table" if sys.stdout.isatty() else "csv")
    values = dict(_parameter(text) for text in parameters)
    statement = sys.stdin.read() if sql == "-" else sql
    if not statement.strip():
        raise click.UsageError("there is no SQL")

    from infra.clickhouse import ClickHouse
    from infra.connect import clickhouse_connection

    server = ClickHouse(clickhouse_connection())
    try:
        if output == "table":
            names, rows = server.query(statement, values)
            show_table(names, rows)
        else:
            click.echo(server.query_text(statement, FORMATS[output], values), nl=False)
    except ValueError as error:
        raise QueryRefused(str(error)) from None
    finally:
        server.close()


def _parameter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise click.BadParameter(f"{text!r} is not NAME=VALUE", param_hint="--param")
    return name, value


def show_table(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows as a table, the first `TABLE_ROWS_MAX`, and how many there are."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    numeric = [bool(rows) and isinstance(value, int | float) for value in (rows[0] if rows else names)]
    table = Table(show_header=True, header_style="bold")
    for name, right in zip(names, numeric, strict=True):
        table.add_column(Text(name), justify="right" if right else "left", overflow="fold")
    for row in rows[:TABLE_ROWS_MAX]:
        table.add_row(*(Text(cell(value)) for value in row))  # Text: no markup from data
    Console(soft_wrap=False).print(table)
    shown = min(len(rows), TABLE_ROWS_MAX)
    more = f", the first {shown} are shown: --format csv has all" if shown < len(rows) else ""
    click.echo(f"{len(rows)} row{'' if len(rows) == 1 else 's'}{more}", err=True)


def cell(value: Any) -> str:
    """A value as people read it: times in UTC to the millisecond, numbers without noise, no control characters."""
    if value is None:
        return "NULL"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    if isinstance(value, float):
        return f"{value:.6g}"
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
