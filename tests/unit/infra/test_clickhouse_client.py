"""The ClickHouse door without a server: credentials reach the client, failures find their fate."""

import ssl
from types import SimpleNamespace

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, DataError, OperationalError, ProgrammingError
from urllib3 import PoolManager, ProxyManager

from infra.clickhouse import client as door
from infra.clickhouse.client import BAD_VALUE_CODES, ClickHouse
from infra.clickhouse.server_life import BEGAN_SQL
from infra.ports import InvalidRecord, RetryLater, TryAgain
from infra.settings import ClickHouseSettings

OURS_TO_FIX = {
    16: "NO_SUCH_COLUMN_IN_TABLE",
    60: "UNKNOWN_TABLE",
    81: "UNKNOWN_DATABASE",
    164: "READONLY",
    193: "WRONG_PASSWORD",
    201: "QUOTA_EXCEEDED",
    243: "NOT_ENOUGH_SPACE",
    497: "ACCESS_DENIED",
    516: "AUTHENTICATION_FAILED",
    9_999: "one of tomorrow's",
}


def said(code):
    return DatabaseError(f"Code: {code}. DB::Exception: no", code=code)


class World:
    """A client whose connecting and asking may fail."""

    def __init__(self, monkeypatch, *, connecting=None, asking=None, **settings):
        self.arguments, self.settings = {}, []

        def fail(*arguments, **keywords):
            if asking is not None:
                raise asking
            self.settings.append(keywords.get("settings"))

        def query(sql, *arguments, **keywords):
            if sql == BEGAN_SQL:
                return SimpleNamespace(result_rows=[(1_000,)])
            if "system.tables" in sql:
                return SimpleNamespace(result_rows=[("ReplacingMergeTree",)])
            return fail(*arguments, **keywords)

        def connect(**arguments):
            self.arguments = arguments
            if connecting is not None:
                raise connecting
            return SimpleNamespace(insert=fail, query=query, command=fail, raw_query=fail, ping=fail)

        monkeypatch.setattr(door.clickhouse_connect, "get_client", connect)
        self.client = ClickHouse(ClickHouseSettings(**({"url": "http://db:1"} | settings)))

    def insert(self):
        return self.client.insert("t", {"n": [1]}, token="x")


def test_user_password_and_authority_reach_the_client(monkeypatch, tmp_path):
    (tmp_path / "ca.pem").touch()
    secure = {"user": "shop", "password": "hunter2", "database": "d", "ca_location": tmp_path / "ca.pem"}
    world = World(monkeypatch, url="https://db.example", **secure)
    world.insert()
    wanted = {"host": "db.example", "port": 8443, "secure": True, "username": "shop", "password": "hunter2"}
    wanted |= {"database": "d", "ca_cert": str(tmp_path / "ca.pem")}
    assert {name: world.arguments[name] for name in wanted} == wanted


def test_plain_http_has_no_authority_and_its_own_port(monkeypatch):
    world = World(monkeypatch, url="http://db.example")
    world.insert()
    wanted = {"port": 8123, "secure": False, "username": "default", "password": "", "ca_cert": None}
    assert {name: world.arguments[name] for name in wanted} == wanted
    [settings] = world.settings
    assert (settings["insert_deduplication_token"], settings["max_partitions_per_insert_block"]) == ("x@1000", 0)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_no_proxy_of_the_environment_stands_before_a_server_on_this_machine(monkeypatch, host, variable):
    monkeypatch.setenv(variable, "http://proxy.example:3128")
    here = World(monkeypatch, url=f"http://{host}:8123")
    here.insert()
    assert isinstance(here.arguments["pool_mgr"], PoolManager)
    assert not isinstance(here.arguments["pool_mgr"], ProxyManager)
    elsewhere = World(monkeypatch, url="http://db.example:8123")
    elsewhere.insert()
    assert elsewhere.arguments["pool_mgr"] is None, "the client asks the environment"


@pytest.mark.parametrize("code", sorted(BAD_VALUE_CODES))
def test_an_insert_whose_values_are_refused_is_invalid(monkeypatch, code):
    with pytest.raises(InvalidRecord):
        World(monkeypatch, asking=said(code)).insert()


@pytest.mark.parametrize("error", [DataError("no int"), TypeError("str"), OverflowError("big"), ValueError("nul")])
def test_an_insert_that_cannot_be_written_down_is_invalid(monkeypatch, error):
    with pytest.raises(InvalidRecord):
        World(monkeypatch, asking=error).insert()


@pytest.mark.parametrize("when", ["connecting", "asking"])
@pytest.mark.parametrize(
    "error",
    [
        *map(said, OURS_TO_FIX),
        OperationalError("no route"),
        ProgrammingError("Unrecognized column"),
        ConnectionResetError("gone"),
        ssl.SSLCertVerificationError("expired"),
    ],
)
def test_good_rows_survive_everything_that_people_can_put_right(monkeypatch, when, error):
    with pytest.raises(RetryLater):
        World(monkeypatch, **{when: error}).insert()


@pytest.mark.parametrize("error", [ValueError("an odd address"), TypeError("an odd setting")])
def test_a_failure_to_connect_is_never_the_rows_fault(monkeypatch, error):
    with pytest.raises(RetryLater):
        World(monkeypatch, connecting=error).insert()


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (said(60), ValueError),
        (said(62), ValueError),
        (said(164), ValueError),
        (said(516), ValueError),
        (said(241), RetryLater),
        (said(202), RetryLater),
        (OperationalError("no route"), RetryLater),
        (DatabaseError("Code: 1. DB::Exception: no"), ValueError),
        (DatabaseError("HTTP status 502"), RetryLater),
    ],
)
@pytest.mark.parametrize("when", ["connecting", "asking"])
def test_a_statement_is_refused_unless_the_trouble_passes(monkeypatch, error, fate, when):
    client = World(monkeypatch, **{when: error}).client
    for ask in (client.query, client.command, lambda sql: client.query_text(sql, "CSV")):
        with pytest.raises(fate):
            ask("SELECT 1")


def test_a_wrong_password_is_told_at_once_and_in_words(monkeypatch):
    client = World(monkeypatch, connecting=said(516)).client
    with pytest.raises(TryAgain, match="refuses us"):
        client.wait_ready(60)
