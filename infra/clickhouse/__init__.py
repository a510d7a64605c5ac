"""ClickHouse: the client (the one door to clickhouse-connect) and the numbered migrations beside it."""

from infra.clickhouse.client import ClickHouse

__all__ = ["ClickHouse"]
