"""The ways into a run, for people: whose servers at which addresses, a first query, alerts, logs. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from infra.up.plan import Addresses, UpOptions

ESSENTIAL = 6
"""So many of the places, the first ones, are shown where there is no room for all."""


def where_to_look(
    addresses: Addresses, options: UpOptions, logs: Path, health_ports: Mapping[str, int] = MappingProxyType({})
) -> tuple[tuple[str, str], ...]:
    """Name and place, the most important first. `health_ports` by the process's name."""
    url = addresses.clickhouse_url
    places = [
        ("Kafka", f"{addresses.kafka_bootstrap_servers} ({_whose(addresses.kafka_port)})"),
        ("ClickHouse", f"{url} ({_whose(addresses.clickhouse_port)})"),
        # As short as it is, it fits on one line of 80 columns and can be copied.
        ("query", 'inferwatch query "SELECT outcome, count() FROM requests GROUP BY 1"'),
        ("alerts", "inferwatch alerts tail   (topic alerts)"),
        ("stop", "Ctrl-C here, or inferwatch down"),
        ("try it", 'inferwatch ask "red shoes"   inferwatch drill latency'),
        ("curl", f"curl '{url}/?query=SELECT+count()+FROM+requests'"),
        ("logs", str(logs)),
    ]
    if health_ports:
        ports = ", ".join(f"{name} {port}" for name, port in health_ports.items())
        places.append(("health", f"http://127.0.0.1:PORT/health/ready and /metrics   ({ports})"))
    if options.traffic and addresses.kafka_port is None:
        places.insert(0, ("traffic", _traffic_in_words(options)))
    return tuple(places)


def _whose(port: int | None) -> str:
    return "yours" if port is None else "embedded"


def _traffic_in_words(options: UpOptions) -> str:
    broken = f", {options.broken_share * 100:.3g} % broken on purpose" if options.broken_share else ""
    return f"{options.rate:g} requests/s{broken}, to your Kafka (--no-traffic: none)"
