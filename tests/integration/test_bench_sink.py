"""`inferwatch bench sink` on servers of its own, with numbers so small that its figures of speed mean nothing."""

import json

import pytest
from click.testing import CliRunner

from benchmarks.sink.sink_bench import sink
from tests.parts import kafka_jars, takes_long

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module", autouse=True)
def _long():
    takes_long("the benchmark of the sink on servers of its own")
    kafka_jars()


def figures(*arguments):
    done = CliRunner().invoke(sink, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_rows_are_stored_on_both_sides():
    found = figures("--only", "rows", "--rows", "30000", "--repeat", "2")
    assert found["sink_rows_per_second"] > 0
    assert found["bare_rows_per_second"] > 0
    assert found["blocks"]["rows_in_blocks_of_10000"] == 1.0


def test_seconds_without_clickhouse_lose_nothing():
    found = figures("--only", "outage", "--outage", "5s", "--rate", "3000")["outage"]
    assert (found["lost"], found["visible_duplicates"], found["altered"]) == (0, 0, 0)
    assert found["agrees"]
    assert found["windows_compared"] > 0
    assert found["outage_seconds"] >= 5.0
    assert found["behind_rows"] > 0
    assert 0 < found["memory_before_bytes"] <= found["memory_peak_bytes"]
    assert found["catch_up_to_live"] > 1.0


def test_the_barriers_processor_time_is_measured():
    arguments = ["--series", "60", "--barrier-rate", "1000", "--barrier-for", "12s", "--barrier-rounds", "1"]
    found = figures("--only", "barrier", *arguments)
    assert found["barriers"] >= 1
    assert 0 < found["barrier_cpu_share"] < 1
