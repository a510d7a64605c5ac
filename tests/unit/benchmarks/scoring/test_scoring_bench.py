import json
import os

import click
import orjson
import pytest
from click.testing import CliRunner

from benchmarks.figures import spread
from benchmarks.scoring.figures import cost_figures, lines_for_people, pipeline_figures
from benchmarks.scoring.made_telemetry import BATCH_REQUESTS, TelemetryMaker, one_by_one
from benchmarks.scoring.measured_process import MeasuredProcess
from benchmarks.scoring.peer_rows import Scorer
from benchmarks.scoring.peers_part import QUIX_PEER
from benchmarks.scoring.pinning import Cores, cores, on
from benchmarks.scoring.scoring_bench import scoring
from benchmarks.scoring.state_part import series_state
from benchmarks.scoring.storing import Look, Stored, stored
from schemas.base import decode
from schemas.telemetry import TELEMETRY_KINDS
from stream_jobs.features import SCALES
from stream_jobs.telemetry_decoding import TelemetryDecoder
from tests.parts import takes_long


def maker(seed=1):
    return TelemetryMaker("cluster-1", "topic-1", 2, began_ms=1_700_000_000_000, seed=seed)


def test_events_are_what_a_worker_sends_and_the_job_takes_the_fast_way():
    events = list(maker().events(150, 64))
    told = [decode(one.headers, one.value, TELEMETRY_KINDS).data for one in events]
    assert [len(one.requests.offset) for one in told] == [64, 64, 22]
    assert [offset for one in told for offset in one.requests.offset] == list(range(150))
    assert told[0].batches.size == [BATCH_REQUESTS] * 2
    assert len({one for event in told for one in event.requests.request_id}) == 150
    assert all(TelemetryDecoder().fast(one.headers, one.value) is not None for one in events)


def test_the_same_seed_gives_the_same_events():
    assert [one.value for one in maker().events(64, 32)] == [one.value for one in maker().events(64, 32)]
    assert [one.value for one in maker().events(64, 32)] != [one.value for one in maker(2).events(64, 32)]


def test_peers_get_the_same_facts_one_by_one():
    (event,) = maker().events(40, 40)
    told = json.loads(event.value)
    flat = [orjson.loads(value) for value in one_by_one(event)]
    assert [one["tokens"] for one in flat] == told["requests"]["tokens"]
    assert {one["batch_size"] for one in flat} == {32, 8}
    assert {one["model"] for one in flat} == {"all-MiniLM-L6-v2", "ranker"}
    assert all(SCALES.keys() - {"error"} <= one.keys() for one in flat)


class Client:
    def __init__(self):
        self.inserts = []

    def insert(self, table, rows, column_names, column_type_names):
        self.inserts.append([dict(zip(column_names, row, strict=True)) for row in rows])


def test_a_peer_scores_each_event_and_stores_rows_in_batches(monkeypatch):
    client = Client()
    monkeypatch.setattr("clickhouse_connect.get_client", lambda dsn: client)
    columns = [("offset", "UInt64", 0), ("score", "Float64", 0.0), ("learning", "Bool", False), ("power", "Float64", 7)]
    job = {"clickhouse": "", "scales": SCALES, "row_window": 50, "columns": columns, "insert_rows": 60, "table": "t"}
    scorer = Scorer(job)
    (event,) = maker().events(320, 320)
    for value in one_by_one(event):
        scorer.take(orjson.loads(value))
    assert [len(rows) for rows in client.inserts] == [60] * 5
    rows = [row for insert in client.inserts for row in insert]
    assert [row["offset"] for row in rows] == list(range(300))
    assert sum(row["learning"] for row in rows) == 100  # two models
    assert all((row["score"] > 0) != row["learning"] for row in rows)
    assert {row["power"] for row in rows} == {7}
    scorer.store()
    assert len(client.inserts[-1]) == 20


def test_the_rate_leaves_the_warm_part_out():
    looks = [Look(0.0, 0, 1.0), Look(10.0, 30, 9.0), Look(11.0, 60, 9.5), Look(13.0, 100, 11.0)]
    found = stored(looks, 100)
    assert found == Stored(100, pytest.approx(70 / 3), pytest.approx(1e6 * 2 / 70), pytest.approx(2 / 3))
    with pytest.raises(click.ClickException, match="within one look"):
        stored(looks[:1] + looks[-1:], 100)


def test_figures_are_paired_by_round_and_say_who_waited():
    ours = {500: [Stored(10, 200.0, 4.0, 0.5), Stored(10, 300.0, 4.0, 0.5)], 64: [Stored(10, 90.0, 10.0, 0.95)]}
    peers = {"faust_river": [Stored(10, 10.0, 100.0, 1.0), Stored(10, 20.0, 100.0, 1.0)]}
    told = pipeline_figures(ours, peers, {"quix_river": "not installed"})
    assert told["pipeline_rows_per_second_core"] == 250.0
    assert told["pipeline_rows_per_cpu_second"] == 250_000.0
    assert told["ratio_to_faust_river"]["values"] == [20.0, 15.0] or told["ratio_to_faust_river"]["values"] == (20, 15)
    assert told["cpu_ratio_to_faust_river"]["median"] == 25.0
    state = {"series_state_bytes": 900, "series_state_parts": {"scores": 600}}
    told |= cost_figures({"hst_rows_per_second_core": spread([3e6]), "state_bytes_per_series": 700} | state)
    lines = lines_for_people(json.loads(json.dumps(told))).splitlines()
    assert "the servers were slower" in lines[0]
    assert "slower" not in lines[1]
    assert "quix_river: not installed" in lines
    assert lines[-4:-2] == ["hst_rows_per_second_core 3e+06", "state_bytes_per_series 700"]
    assert lines[-2:] == ["series_state_bytes 900", "  of it scores 600"]


def test_the_state_of_a_series_is_small_and_its_parts_are_the_whole():
    told = series_state(windows=200)
    parts = told["series_state_parts"]
    assert set(parts) == {"scores", "counts", "latency", "key", "detectors", "incidents", "rest"}
    assert sum(parts.values()) == pytest.approx(told["series_state_bytes"], rel=0.05)
    assert told["series_state_bytes"] <= 1_700  # some 1,950 after 1,000 windows
    assert told["series_state_bytes"] < told["parked_series_bytes"] < told["series_state_raw_bytes"]


def test_the_state_of_a_series_of_which_all_is_learnt_is_within_what_is_allowed():
    takes_long("a thousand windows of the real stages")
    assert series_state(windows=1_000)["series_state_bytes"] <= 2_048


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can be chosen on Linux alone")
def test_a_measured_process_runs_on_its_core_and_is_stopped():
    mine = os.sched_getaffinity(0)
    core = frozenset([max(mine)])
    command = ["sh", "-c", "cat; grep Cpus_allowed_list /proc/self/status; exec sleep 60"]
    with MeasuredProcess(command, os.environ, Cores(core, frozenset(mine)), b"given ") as process:
        watched = process.watched()
        while "Cpus_allowed_list" not in (said := str(watched.gives_up("it said"))):
            assert watched.cpu_seconds() >= 0.0
        assert "given Cpus_allowed_list" in said
        assert said.split()[-1] == str(max(mine))
    assert os.sched_getaffinity(0) == mine


def test_a_measured_process_that_ends_is_quoted():
    with MeasuredProcess(["sh", "-c", "echo no such broker; read line"], os.environ, None) as process:
        watched = process.watched()
        process._process.wait(30)
        with pytest.raises(click.ClickException, match=r"ended by itself: no such broker"):
            watched.cpu_seconds()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores can be chosen on Linux alone")
def test_the_job_has_a_core_of_its_own_where_there_are_two(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 4, 5})
    assert cores() == Cores(frozenset([5]), frozenset([1, 4]))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {4})
    assert cores() is None
    with on(None):
        pass


def test_the_peer_is_pinned_and_its_script_is_there():
    assert all("==" in package for package in QUIX_PEER.packages)
    assert "torch" not in QUIX_PEER.same


def test_costs_alone_need_no_servers(monkeypatch):
    monkeypatch.setattr("benchmarks.detection.speed.half_space_trees", lambda: {"hst_ratio_to_river": spread([41.0])})
    found = CliRunner().invoke(scoring, ["--only", "trees", "--json"])
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert told["hst_ratio_to_river"] == 41.0
    assert "pipeline_rows_per_second_core" not in told
    assert told["machine"]["cores"] == os.cpu_count()
