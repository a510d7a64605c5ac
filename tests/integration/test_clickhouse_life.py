"""A real engine that is killed between remembering a block's token and having its part."""

import shutil

import pytest

from infra.clickhouse import ClickHouse
from infra.ports import RetryLater
from infra.settings import ClickHouseSettings
from tests.integration.front_process import Front


@pytest.fixture
def front(tmp_path):
    running = Front(tmp_path)
    yield running
    running.stop()


def test_a_block_whose_part_died_with_the_server_is_stored_when_it_comes_again(front, tmp_path, until):
    writer = ClickHouse(ClickHouseSettings(url=front.ready["url"]))
    writer.command(
        "CREATE TABLE blocks (n UInt32) ENGINE = ReplacingMergeTree ORDER BY n "
        "SETTINGS non_replicated_deduplication_window = 100"
    )
    block = {"n": [7]}
    assert writer.insert("blocks", block, token="a-block") == 1
    until(lambda: writer.query("SELECT uptime() >= 3")[1] == [(1,)], "a life that is not taken for the next one")
    front.kill()
    logs = list(tmp_path.rglob("deduplication_log_1.txt"))
    assert len(logs) == 1
    assert logs[0].read_text()  # the token is remembered
    for part in logs[0].parent.parent.glob("all_*"):  # and the part never got its name
        shutil.rmtree(part)
    front.arguments = ("--port", str(front.port))
    front.start()
    assert writer.query("SELECT count() FROM blocks")[1] == [(0,)]

    with pytest.raises(RetryLater, match="started again"):  # taken for one that is there, and found out
        writer.insert("blocks", block, token="a-block")
    assert writer.insert("blocks", block, token="a-block") == 1
    assert writer.insert("blocks", block, token="a-block") == 1  # of this life: dropped
    assert writer.query("SELECT n FROM blocks")[1] == [(7,)]
    assert ClickHouse(ClickHouseSettings(url=front.ready["url"])).insert("blocks", block, token="a-block") == 1
    assert writer.query("SELECT n FROM blocks FINAL")[1] == [(7,)]
    writer.close()
