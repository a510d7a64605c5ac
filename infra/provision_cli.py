"""`inferwatch topics apply` and `inferwatch tables apply`."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import click

_DRY = click.option("--dry-run", is_flag=True, help="Show what would change and change nothing.")
_LOSS = click.option("--allow-data-loss", is_flag=True, help="Also make changes that delete data.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")


@click.group()
def topics() -> None:
    """Kafka topics, as declared in `schemas/topics.py`."""


@click.group()
def tables() -> None:
    """ClickHouse tables, as the numbered migrations make them."""


@topics.command("apply")
@_DRY
@_LOSS
@_JSON
def topics_apply(dry_run: bool, allow_data_loss: bool, as_json: bool) -> None:
    """Make or change the topics; does nothing the second time.

    \b
    Example:
      inferwatch topics apply --dry-run
    """
    from infra.connect import kafka_connection
    from infra.provision import apply_topics
    from infra.settings import StackSettings, load
    from infra.topic_plan import ProvisionRefused

    def work(say: Callable[[str], None]) -> int:
        try:
            return apply_topics(
                kafka_connection(), load(StackSettings), say=say, dry_run=dry_run, allow_data_loss=allow_data_loss
            )
        except ProvisionRefused as error:
            raise click.ClickException(str(error)) from None

    _report(work, dry_run, as_json)


@tables.command("apply")
@_DRY
@_LOSS
@_JSON
def tables_apply(dry_run: bool, allow_data_loss: bool, as_json: bool) -> None:
    """Apply pending migrations; does nothing the second time.

    \b
    Example:
      inferwatch tables apply --dry-run
    """
    from infra.connect import clickhouse_connection
    from infra.migrate import apply_tables
    from infra.migrations import MigrationRefused

    def work(say: Callable[[str], None]) -> int:
        try:
            return apply_tables(clickhouse_connection(), say=say, dry_run=dry_run, allow_data_loss=allow_data_loss)
        except MigrationRefused as error:
            raise click.ClickException(str(error)) from None

    _report(work, dry_run, as_json)


def _report(work: Callable[[Callable[[str], None]], int], dry_run: bool, as_json: bool) -> None:
    lines: list[str] = []

    def say(text: str) -> None:
        lines.append(text)
        if not as_json:
            click.echo(text)

    count = work(say)
    if as_json:
        result: dict[str, Any] = {"changes": count, "dry_run": dry_run, "said": lines}
        click.echo(json.dumps(result))
    elif not count:
        click.echo("nothing to change")
