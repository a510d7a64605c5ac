"""Tokens that hold for one life of the server, without a server."""

import pytest

from infra.clickhouse.server_life import ServerLife
from infra.ports import RetryLater


class Server:
    def __init__(self, engine="ReplacingMergeTree", began=1_000):
        self.engine, self.began, self.asked = engine, began, 0

    def query(self, sql, parameters=None):
        if "engine" in sql:
            return [(self.engine,)] if self.engine else []
        self.asked += 1
        return [(self.began,)]


def test_a_token_is_the_same_within_a_life():
    server, life = Server(), ServerLife()
    told, since = life.token(server.query, "t", "abc")
    server.began += 1  # both clocks are cut to seconds
    life.check(server.query, "t", since)
    assert life.token(server.query, "t", "abc") == (told, since)
    assert server.asked == 2  # once to begin with, then after each insert


def test_a_block_is_stored_again_when_the_server_was_started_since():
    server, life = Server(), ServerLife()
    told, since = life.token(server.query, "t", "abc")
    server.began += 2
    with pytest.raises(RetryLater, match="t: ClickHouse was started again"):
        life.check(server.query, "t", since)
    again, since = life.token(server.query, "t", "abc")
    assert again != told
    life.check(server.query, "t", since)


@pytest.mark.parametrize("engine", ["ReplicatedReplacingMergeTree", "SharedMergeTree"])
def test_tokens_of_replicated_tables_hold_for_all_lives(engine):
    server, life = Server(engine), ServerLife()
    assert life.token(server.query, "t", "abc") == ("abc", None)
    life.check(server.query, "t", None)
    assert server.asked == 0


def test_a_table_that_is_not_there_is_asked_for_again():
    server, life = Server(engine=""), ServerLife()
    assert life.token(server.query, "it's", "abc")[1] == 1_000
    server.engine = "SharedMergeTree"
    assert life.token(server.query, "it's", "abc") == ("abc", None)
