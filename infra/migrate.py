"""Tables on a real server, from settings: what `tables apply` and `up` call."""

from __future__ import annotations

from collections.abc import Callable

from infra.clickhouse import ClickHouse
from infra.clock import SystemClock
from infra.migrations import Migrator, read_migrations
from infra.settings import ClickHouseSettings

WAIT_SECONDS = 30.0


def apply_tables(
    clickhouse: ClickHouseSettings,
    *,
    say: Callable[[str], None],
    dry_run: bool = False,
    allow_data_loss: bool = False,
    wait_seconds: float = WAIT_SECONDS,
) -> int:
    """Apply every pending migration; returns their number. Raises MigrationRefused, TryAgain, RetryLater."""
    client = ClickHouse(clickhouse)
    try:
        client.wait_ready(wait_seconds)
        migrator = Migrator(client, SystemClock())
        return migrator.apply(read_migrations(), say=say, dry_run=dry_run, allow_data_loss=allow_data_loss)
    finally:
        client.close()
