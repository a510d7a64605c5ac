"""Where the running Kafka and ClickHouse are: named by the environment, or by what `inferwatch up` wrote down."""

from __future__ import annotations

import json
from typing import NoReturn

import psutil

from infra.ports import TryAgain
from infra.settings import ClickHouseSettings, KafkaSettings, StackSettings, load

STACK_FILE = "stack.json"
"""In the stack's data folder: addresses of what `inferwatch up` started, and the process that looks after it."""
START_TOLERANCE_SECONDS = 2.0
"""Process start times are kept in clock ticks and shift when the wall clock is set."""


class NothingRunning(TryAgain):
    """No address is set and nothing runs here. Exit code 75."""


def kafka_connection() -> KafkaSettings:
    """How to reach Kafka. Raises NothingRunning, or SettingsError for a wrong setting."""
    settings = load(KafkaSettings)
    if settings.bootstrap_servers is not None:
        return settings
    return load(KafkaSettings, bootstrap_servers=_from_stack("kafka_bootstrap_servers", "KAFKA_BOOTSTRAP_SERVERS"))


def clickhouse_connection() -> ClickHouseSettings:
    """How to reach ClickHouse. Raises NothingRunning, or SettingsError for a wrong setting."""
    settings = load(ClickHouseSettings)
    if settings.url is not None:
        return settings
    return load(ClickHouseSettings, url=_from_stack("clickhouse_url", "CLICKHOUSE_URL"))


def connection() -> tuple[KafkaSettings, ClickHouseSettings]:
    """How to reach both. The environment wins over the stack that runs here, each on its own."""
    return kafka_connection(), clickhouse_connection()


def _from_stack(field: str, variable: str) -> str:
    path = load(StackSettings).data_dir / STACK_FILE
    try:
        found = json.loads(path.read_bytes())
        pid, address, created_at = int(found["pid"]), found[field], found.get("created_at")
        process = live_process(pid, None if created_at is None else float(created_at))
    except FileNotFoundError:
        _nothing(f"there is no {path}", variable)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        _nothing(f"{path} cannot be used ({type(error).__name__}: {error}): `make down` removes it", variable)
    if not isinstance(address, str) or not address:
        _nothing(f"{path} names no {field}", variable)
    if process is None:
        _nothing(f"what ran here as process {pid} has ended", variable)
    return address


def _nothing(why: str, variable: str) -> NoReturn:
    raise NothingRunning(
        f"nothing is running here: `make up` in another terminal, or set INFERWATCH_{variable} ({why})"
    ) from None


def live_process(pid: int, created_at: float | None) -> psutil.Process | None:
    """The process of that number that was started then (seconds since 1970; None: whenever), or None when it has ended,
    also where its number was given to another since."""
    try:
        process = psutil.Process(pid)
        same = created_at is None or abs(process.create_time() - created_at) < START_TOLERANCE_SECONDS
        return process if same and process.status() != psutil.STATUS_ZOMBIE else None
    except (psutil.Error, ValueError):
        return None
