"""Whose Kafka and ClickHouse a run uses: those that the settings name, or embedded ones on ports of this machine."""

from __future__ import annotations

from collections.abc import Iterable

from infra.embedded.data_folder import Claim
from infra.embedded.errors import PortTaken, UnsuitableMachine
from infra.settings import ClickHouseSettings, KafkaSettings, SettingsError, StackSettings
from infra.up.plan import Addresses

SERVERS, URL = "INFERWATCH_KAFKA_BOOTSTRAP_SERVERS", "INFERWATCH_CLICKHOUSE_URL"


def check_choice(kafka: KafkaSettings, clickhouse: ClickHouseSettings, mixed: bool) -> None:
    """Refuse what does not go together. `mixed`: one named and one embedded server are meant. Raises SettingsError."""
    servers, url = kafka.bootstrap_servers, clickhouse.url
    wrong = []
    if servers is None and kafka.security_protocol != "PLAINTEXT":
        protocol = "INFERWATCH_KAFKA_SECURITY_PROTOCOL"
        wrong.append(
            f"{protocol}={kafka.security_protocol!r}, {SERVERS} unset: the embedded broker, which is then started, "
            f"speaks PLAINTEXT only. Ways out: set {SERVERS}; or unset {protocol}."
        )
    if not mixed and (servers is None) != (url is None):
        if url is None:
            named, embedded = f"{SERVERS}={servers!r}, {URL} unset", "an embedded ClickHouse on this machine"
        else:
            named, embedded = f"{URL}={url!r}, {SERVERS} unset", "an embedded Kafka on this machine"
        wrong.append(
            f"{named}: this run would mix a server of yours with {embedded}. Ways out: set both, to use yours; unset "
            "both, to embed both; or say `inferwatch up --mixed`, if you mean it."
        )
    if wrong:
        raise SettingsError("\n".join(wrong))


def choose_health_ports(names: Iterable[str], claim: Claim) -> dict[str, int]:
    """A port of this machine for each of these processes: the one of its last run when that is free."""
    return {name: claim.choose_port(f"health-{name}", 0) for name in names}


def choose_addresses(
    kafka: KafkaSettings, clickhouse: ClickHouseSettings, stack: StackSettings, claim: Claim
) -> Addresses:
    """Where things are or will be. Ports are chosen before anything starts, so that everything can start at once.

    Raises SettingsError when a port that was asked for cannot be had.
    """
    servers, url = kafka.bootstrap_servers, clickhouse.url
    kafka_port = clickhouse_port = None
    try:
        if servers is None:
            kafka_port = claim.choose_port("kafka", stack.kafka_port)
            servers = f"127.0.0.1:{kafka_port}"
        if url is None:
            clickhouse_port = claim.choose_port("clickhouse", stack.clickhouse_port)
            url = f"http://127.0.0.1:{clickhouse_port}"
    except (PortTaken, UnsuitableMachine) as error:
        raise SettingsError(
            f"INFERWATCH_KAFKA_PORT={stack.kafka_port}, INFERWATCH_CLICKHOUSE_PORT={stack.clickhouse_port}: {error}"
        ) from None
    return Addresses(servers, url.rstrip("/"), kafka_port, clickhouse_port)
