"""Whom a load test may be aimed at: this machine, unless somebody says that the cluster is theirs. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


def hosts_of(bootstrap_servers: str) -> list[str]:
    """Host names of `host:port,[::1]:port`."""
    servers = [one.strip() for one in bootstrap_servers.split(",") if one.strip()]
    return [one.rpartition("]")[0].removeprefix("[") if "]" in one else one.rpartition(":")[0] for one in servers]


def foreign_hosts(hosts: Iterable[str]) -> list[str]:
    """Those that are not this machine by name. A name that only resolves to it counts as foreign."""
    return sorted({host for host in hosts if not _is_loopback(host)})


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
