"""`inferwatch detect` on small files: what comes out, for CSV and Parquet, whole and cut, good and broken."""

import json
import math

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from infra.cli import inferwatch
from stream_jobs.detectors.registry import detector_named
from stream_jobs.history import reading
from stream_jobs.history.scoring import HistoryScorer

START, STEP = 1_700_000_000, 60
COLUMNS = ["series", "ts", "score", "severity", "alarm", "expected", "lower", "upper"]


def table(points=400, seed=2):
    """Two series in turn, b with a spike; enough points for the detectors to have learnt."""
    rng = np.random.default_rng(seed)
    values = {"a": 10 + rng.normal(size=points), "b": 500 + 20 * rng.normal(size=points)}
    values["b"][-50:-49] += 900
    rows = [(name, START + STEP * i, values[name][i]) for i in range(points) for name in ("a", "b")]
    kinds = {"series": pa.string(), "ts": pa.int64(), "value": pa.float64()}
    columns = {name: pa.array([row[at] for row in rows], kind) for at, (name, kind) in enumerate(kinds.items())}
    return pa.table({**columns, "label": pa.array([1] * len(rows), pa.int8())})


def run(*arguments, code=0):
    result = CliRunner().invoke(inferwatch, ["detect", *map(str, arguments)])
    assert result.exit_code == code, result.output
    return result


def written(path):
    return pq.read_table(path) if path.suffix == ".parquet" else pa.csv.read_csv(path)


def save(rows, path):
    if path.suffix == ".parquet":
        pq.write_table(rows, path)
    else:
        pa.csv.write_csv(rows, path)
    return path


@pytest.mark.parametrize("given", [".csv", ".parquet"])
@pytest.mark.parametrize("wanted", [".csv", ".parquet"])
def test_one_row_comes_out_for_each_row_in(tmp_path, given, wanted):
    rows = table()
    out = tmp_path / f"out{wanted}"
    said = run(save(rows, tmp_path / f"in{given}"), "--out", out)
    scores = written(out)
    assert scores.column_names == COLUMNS
    assert scores["series"].to_pylist() == rows["series"].to_pylist()
    assert [int(ts) for ts in scores["ts"].to_pylist()] == rows["ts"].to_pylist()
    if given == wanted:
        assert scores.schema.field("ts").type == pa.int64()
    assert scores["score"].null_count == 0
    spike = 2 * 350 + 1
    assert scores["severity"].to_pylist().index(max(scores["severity"].to_pylist())) == spike
    assert scores["score"][spike].as_py() >= 0.99
    assert scores["lower"][spike].as_py() < scores["expected"][spike].as_py() < scores["upper"][spike].as_py()
    assert "800 rows of 2 series" in said.stderr
    assert list(tmp_path.glob(".*.part")) == []


@pytest.mark.parametrize("batch_rows", [1, 37, 10_000])
def test_it_never_looks_ahead_and_batches_do_not_matter(tmp_path, monkeypatch, batch_rows):
    rows = table(150)
    run(save(rows, tmp_path / "whole.parquet"), "--out", tmp_path / "whole_out.parquet")
    whole = written(tmp_path / "whole_out.parquet")
    monkeypatch.setattr(reading, "BATCH_ROWS", batch_rows)
    run(save(rows.slice(0, 211), tmp_path / "part.parquet"), "--out", tmp_path / "part_out.parquet")
    assert written(tmp_path / "part_out.parquet").equals(whole.slice(0, 211))


def test_csv_and_parquet_say_the_same_and_blocks_do_not_matter(tmp_path, monkeypatch):
    rows = table()
    run(save(rows, tmp_path / "in.parquet"), "--out", tmp_path / "one.parquet")
    monkeypatch.setattr(reading, "CSV_BLOCK_BYTES", 2_000)
    run(save(rows, tmp_path / "in.csv"), "--out", tmp_path / "two.parquet")
    one, two = written(tmp_path / "one.parquet"), written(tmp_path / "two.parquet")
    for name in COLUMNS[2:]:
        assert one[name].equals(two[name]), name


def test_without_out_the_scores_are_csv_on_stdout(tmp_path):
    said = run(save(table(20), tmp_path / "in.csv"))
    lines = said.stdout.splitlines()
    assert len(lines) == 41
    assert lines[0] == ",".join(COLUMNS)
    assert lines[1] == "a,1700000000,0,0,0,,,"


def test_names_that_need_quotes_have_them(tmp_path):
    names = ['a, "b"', "", "plain"]
    rows = pa.table({"series": names, "ts": [1, 2, 3], "value": [1.0, 2.0, 3.0]})
    run(save(rows, tmp_path / "in.parquet"), "--out", tmp_path / "out.csv")
    assert written(tmp_path / "out.csv")["series"].to_pylist() == names


def test_rows_that_are_late_or_without_a_value_get_no_score_and_change_nothing(tmp_path):
    rows = table(100)
    run(save(rows, tmp_path / "good.parquet"), "--out", tmp_path / "good_out.parquet")
    good = written(tmp_path / "good_out.parquet")
    bad = pa.table(
        {
            "series": ["a", "b", "a", "a"],
            "ts": [START, START + STEP * 70, START + STEP * 79, START + STEP * 10**6],
            "value": [1e9, 5.0, math.inf, math.nan],
            "label": pa.array([0] * 4, pa.int8()),
        }
    )
    save(pa.concat_tables([rows.slice(0, 160), bad, rows.slice(160)]), tmp_path / "bad.parquet")
    said = run(tmp_path / "bad.parquet", "--out", tmp_path / "bad_out.parquet", "--json")
    scores = written(tmp_path / "bad_out.parquet")
    assert [scores[name].slice(160, 4).null_count for name in COLUMNS[2:]] == [4] * 6
    assert pa.concat_tables([scores.slice(0, 160), scores.slice(164)]).equals(good)
    summary = json.loads(said.stdout)
    assert summary["empty"] == {"missing": 2, "late": 2, "beyond": 0}
    assert (summary["rows"], summary["scored"], summary["series"]) == (204, 200, 2)


def test_broken_lines_are_named_and_nothing_else_is_lost(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes(
        b"series,ts,value\n"
        b"a,2024-05-06 07:00:00,1\n"
        b"a,soon,2\n"  # 3
        b"\n"
        b"a,2024-05-06 07:02:00,fast\n"  # 5
        b"a,2024-05-06\n"  # 6
        b",2024-05-06 07:03:00,4\n"  # 7, a series without a name is a name like any other
        b"\xff,2024-05-06 07:03:00,4\n"
        b"a,2024-05-06T07:04:00+00:00,5,6\n"  # 9
        b"a,2024-05-06 07:05:00,\n"
    )
    said = run(path, "--out", tmp_path / "out.csv", code=65)
    for named in ("line 3: ts 'soon'", "line 5: value 'fast'", "line 6: 2 fields", "line 9: 4 fields"):
        assert named in said.stderr
    assert "4 broken rows" in said.stderr
    scores = written(tmp_path / "out.csv")
    assert scores["ts"].to_pylist()[1] == "soon"
    assert scores["score"].is_valid().to_pylist() == [True, False, False, True, True, False]


def test_several_metrics_make_one_score_and_the_one_that_counts_is_named(tmp_path):
    rng = np.random.default_rng(4)
    cpu, memory = rng.normal(50, 2, 300), rng.normal(9, 1, 300)
    memory[250] = 90.0
    hosts = pa.table(
        {
            "timestamp": pa.array(np.arange(300) * 60_000_000 + 1_700_000_000_000_000).cast(
                pa.timestamp("us", tz="UTC")
            ),
            "series": pa.array(["h"] * 300).dictionary_encode(),
            "memory": memory,
            "cpu": cpu,
            "zone": ["x"] * 300,
        }
    )
    save(hosts, tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", "--out", tmp_path / "out.parquet")
    scores = written(tmp_path / "out.parquet")
    assert scores.column_names == [*COLUMNS, "metric"]
    assert scores.schema.field("ts").type == pa.timestamp("us", tz="UTC")
    assert scores["metric"][250].as_py() == "memory"
    assert scores["upper"][250].as_py() < 90.0
    run(tmp_path / "in.parquet", "--metric", "cpu", "--out", tmp_path / "cpu.csv")
    assert written(tmp_path / "cpu.csv").column_names == COLUMNS


def test_a_budget_says_which_rows_alert_and_a_picture_shows_them(tmp_path):
    save(table(600), tmp_path / "in.parquet")
    said = run(
        tmp_path / "in.parquet", "--out", tmp_path / "out.csv", "--budget", 3, "--plot", tmp_path / "p.png", "--json"
    )
    summary = json.loads(said.stdout)
    assert [(alert["series"], alert["row"]) for alert in summary["alerts"]] == [("b", 2 * 550 + 1)]
    assert summary["worst"][0]["series"] == "b"
    picture = (tmp_path / "p.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 20_000


def test_wrong_files_and_options_are_said_with_exit_code_2(tmp_path):
    good = save(table(5), tmp_path / "in.csv")
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "no.parquet").write_text("no")
    (tmp_path / "in.xls").write_text("no")
    (tmp_path / "other.csv").write_text("host,ts,value\nh,1,2\n")
    for arguments, words in [
        ([tmp_path / "other.csv"], "columns missing: series (there are: host, ts, value;"),
        ([tmp_path / "empty.csv"], "cannot be read as CSV"),
        ([tmp_path / "no.parquet"], "cannot be read as Parquet"),
        ([tmp_path / "in.xls"], "its ending must be one of"),
        ([good, "--out", tmp_path / "out.json"], "its ending must be one of"),
        ([good, "--out", good], "is the file that is read"),
        ([good, "--out", tmp_path / "none" / "out.csv"], "there is no folder"),
        ([good, "--json"], "needs --out"),
        ([good, "--plot", "x.jpg"], "must be .png"),
        ([good, "--detector", "magic"], "is not one of"),
        ([good, "--metric", "cpu"], "columns missing: cpu"),
        ([good, "--set", "speed=9"], "no option 'speed': there are"),
        ([good, "--detector", "predictive_anomaly_detection", "--set", "alpha=7"], "alpha 7"),
        ([good, "--set", "alpha"], "NAME=NUMBER is wanted"),
    ]:
        assert words in run(*arguments, code=2).stderr.replace("\n", " "), words


def test_a_file_of_no_rows_is_no_fault(tmp_path):
    (tmp_path / "in.csv").write_text("series,ts,value\n")
    run(tmp_path / "in.csv", "--out", tmp_path / "out.parquet", "--budget", 1)
    assert written(tmp_path / "out.parquet").column_names == COLUMNS
    save(table(0), tmp_path / "in.parquet")
    run(tmp_path / "in.parquet", "--out", tmp_path / "out.csv", "--plot", tmp_path / "p.png")
    assert not (tmp_path / "p.png").exists()


def test_a_limit_can_be_set(tmp_path):
    save(table(), tmp_path / "in.csv")
    run(tmp_path / "in.csv", "--detector", "fixed_threshold", "--set", "upper=800", "--out", tmp_path / "o.csv")
    scores = written(tmp_path / "o.csv").to_pydict()
    above = [s for s, severity in zip(scores["series"], scores["severity"], strict=True) if severity >= 1.0]
    assert above == ["b"]
    assert {upper for upper in scores["upper"] if upper is not None} == {800}


def test_series_beyond_the_most_that_are_kept_are_counted_and_the_others_scored(tmp_path):
    scorer = HistoryScorer(lambda: detector_named("fixed_threshold"), series_max=1)
    (batch,) = reading.HistoryFile(save(table(), tmp_path / "in.parquet"))
    scored = scorer.score(batch)
    assert np.isnan(scored.score[1::2]).all()
    assert np.isfinite(scored.score[::2]).all()
    assert (scorer.counts["beyond"], scorer.counts["scored"], list(scorer.series)) == (400, 400, ["a"])


def test_a_file_without_one_usable_time_is_all_broken_rows(tmp_path):
    rows = pa.table({"series": ["a", "a"], "ts": [math.nan, math.inf], "value": [1.0, 2.0]})
    said = run(save(rows, tmp_path / "in.parquet"), "--out", tmp_path / "o.csv", code=65)
    assert "row 2: ts inf is not a time" in said.stderr


def test_what_breaks_off_leaves_no_file(tmp_path):
    save(table(), tmp_path / "in.parquet")
    whole = (tmp_path / "in.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[:100] + b"\0" * 300 + whole[400:])
    said = run(tmp_path / "cut.parquet", "--out", tmp_path / "o.csv", code=2)
    assert "is damaged" in said.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.parquet", "in.parquet"]


@pytest.mark.parametrize("detector", ["half_space_trees", "fixed_threshold"])
def test_other_detectors_can_be_chosen(tmp_path, detector):
    said = run(save(table(), tmp_path / "in.csv"), "--detector", detector, "--out", tmp_path / "o.csv", "--json")
    assert json.loads(said.stdout)["detector"] == detector
