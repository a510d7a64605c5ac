"""The figures of `inferwatch bench sink`, and the parts of it that need no server."""

import json

import orjson
import pytest

from benchmarks.sink.barrier_part import BarrierRounds, JobCost
from benchmarks.sink.figures import barrier_figures, lines_for_people, rows_figures
from benchmarks.sink.live_feed import PartitionFeed, series_of
from benchmarks.sink.outage_part import Outage
from benchmarks.sink.rows_part import Rounds, bare_blocks, block_figures, made_rows
from benchmarks.sink.running_job import metric_of
from schemas.base import decode
from schemas.tables import REQUESTS
from schemas.telemetry import TELEMETRY_KINDS, InferenceServed
from schemas.topics import PARTITIONS
from stream_jobs.sink import BLOCK_ROWS
from tests.telemetry_events import record


def test_ratios_are_of_the_same_round():
    found = rows_figures(
        Rounds(
            10, sink=[90.0, 45.0, 80.0], bare=[100.0, 50.0, 100.0], ready=[180.0, 90.0, 100.0], blocks=[100_000, 20_000]
        )
    )
    assert found["sink_ratio_to_bare"] == 0.9
    assert found["sink_ratio_to_ready_blocks"] == 0.5
    assert found["sink_rows_per_second"] == 80.0
    assert found["blocks"]["rows_in_blocks_of_10000"] == 1.0
    assert found["spread"]["sink_ratio_to_bare"]["least"] == 0.8


def test_small_blocks_show():
    assert block_figures([9_999, 10_000])["rows_in_blocks_of_10000"] == pytest.approx(10_000 / 19_999)
    assert block_figures([])["blocks"] == 0


def cost(cpu, own):
    return JobCost(seconds=40.0, cpu_seconds=cpu, barrier_cpu_seconds=own, barriers=4, rss_bytes=5)


def test_the_barriers_share_is_of_the_jobs_processor_time():
    found = barrier_figures(BarrierRounds([cost(10.0, 0.3), cost(10.0, 0.5)], [cost(9.6, 0.0), cost(9.4, 0.0)]), 10_000)
    assert found["barrier_cpu_share"] == pytest.approx(0.04)
    assert found["barrier_cpu_share_by_difference"] == pytest.approx(0.05)
    assert found["barriers"] == 8
    assert found["barrier_cpu_seconds_each"] == pytest.approx(0.1)


def test_every_part_has_its_line():
    outage = Outage(120.0, 1e4, 10, 0, 0, 0, 5, 1, 2, 0, 2, 1, 9.0, 4e4, 4.0, 0, True, 3, 1e5)
    figures = rows_figures(Rounds(10, [90.0], [100.0], [110.0], [10])) | {"outage": outage.as_json()}
    figures |= barrier_figures(BarrierRounds([cost(10.0, 0.3)], [cost(9.6, 0.0)]), 10_000)
    lines = lines_for_people(json.loads(json.dumps(figures))).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "sink",
        "120 s without ClickHouse at 10,000 requests/s",
        "barrier",
    ]


def test_the_feed_makes_what_workers_tell():
    feed = PartitionFeed("c", "t", 2, series_of(2, 50))
    seen = set()
    for number in range(3):
        raw = orjson.loads(feed.event(500, 1_700_000_000_000 + number))
        event = InferenceServed.model_validate_json(orjson.dumps(raw))
        again = decode(record(event, number, 1, partition=2).headers, orjson.dumps(raw), TELEMETRY_KINDS).data
        assert again.requests.offset == list(range(500 * number, 500 * number + 500))
        seen |= set(zip(event.requests.model, event.requests.scenario, strict=True))
    assert seen == set(series_of(2, 50))


def test_series_are_each_on_one_partition():
    found = [pair for number in range(PARTITIONS) for pair in series_of(number, 10_000)]
    assert len(found) == len(set(found)) == 10_000
    with pytest.raises(ValueError, match="at most"):
        series_of(0, 10_001)


def test_both_sides_store_the_same_rows():
    handed = made_rows(6_000, lambda text: None)
    blocks = list(bare_blocks(handed))
    bare = [place for block in blocks for place in zip(block["partition"], block["offset"], strict=True)]
    assert len(bare) == 6_000
    assert all(len(block["offset"]) <= BLOCK_ROWS for block in blocks)
    told = [
        place
        for _, rows in handed
        for place in zip(rows[REQUESTS.name]["partition"], rows[REQUESTS.name]["offset"], strict=True)
    ]
    assert sorted(bare) == sorted(told)


def test_metrics_are_added_over_their_labels():
    text = 'a_total{table="x"} 3.0\na_total{table="y"} 4.5\nab_total 7.0\n# a_total 9\n'
    assert metric_of(text, "a_total") == 7.5
    assert metric_of(text, "ab_total") == 7.0
    assert metric_of(text, "nothing") == 0.0
