"""Addresses as people write them into settings: what is wrong with one, what of it must not be shown, whether it leads
to this machine. Pure."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

PORTS = range(1, 65_536)
NOT_SHOWN = "(not shown)"
CLICKHOUSE_PORTS = {"http": 8123, "https": 8443}
"""Where ClickHouse listens unless told otherwise."""


def is_loopback(host: str) -> bool:
    """Whether a host, a name or an address without port, is this machine: a proxy never leads there."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        name = host.lower().rstrip(".")
        return name == "localhost" or name.endswith(".localhost")


def url_problem(url: str, instead: str) -> str | None:
    """What is wrong with `http(s)://host[:port]`, or None. `instead`: where a user and a password belong."""
    if "@" in url:
        return _credentials_problem(instead)
    if not re.fullmatch(r"https?://[^/\s?#]+/?", url):
        return "must be http://host:port or https://host:port, and nothing after it"
    try:
        host = urlsplit(url).hostname
    except ValueError as error:
        return f"is no address: {error}"
    return _port_problem(url.split("//")[1].rstrip("/")) if host else "names no host"


def clickhouse_address(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a sound `http(s)://host[:port]`."""
    found = urlsplit(url)
    return found.scheme, found.hostname or "", found.port or CLICKHOUSE_PORTS[found.scheme]


def servers_problem(servers: str, instead: str) -> str | None:
    """What is wrong with `host:port,host:port`, or None. `instead`: where a user and a password belong."""
    if "@" in servers:
        return _credentials_problem(instead)
    problems = (_port_problem(one.strip()) for one in servers.split(","))
    return next((problem for problem in problems if problem), None)


def _credentials_problem(instead: str) -> str:
    return f"an address is shown and written down, so a user and a password must not be in it: set {instead}"


def _port_problem(address: str) -> str | None:
    """What is wrong with the port of `host:port`; None also where there is none to judge, as in a bare IPv6 address."""
    host, colon, port = address.rpartition(":")
    if not colon or port.endswith("]") or (":" in host and not host.endswith("]")):
        return None
    if port.isascii() and port.isdigit() and int(port) in PORTS:
        return None
    return f"port {port!r} is no number from {PORTS[0]} to {PORTS[-1]}"


def without_secrets(address: str) -> str:
    """An address, also a wrong one, without what stands before an `@` or after a `?`: it may be a password."""
    shown = re.sub(r"^(\w+://)?.*@", rf"\1{NOT_SHOWN}@", address, flags=re.DOTALL)
    return re.sub(r"\?.*", f"?{NOT_SHOWN}", shown, flags=re.DOTALL)
