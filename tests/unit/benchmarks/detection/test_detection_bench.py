import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from click.testing import CliRunner

from benchmarks.detection import choice, promises, speed
from benchmarks.detection.baselines import BASELINES
from benchmarks.detection.detection_bench import SETS, Progress, detection
from benchmarks.detection.plan import SETS as SETS_OF_THE_PLAN
from benchmarks.detection.quiet import above, quiet_figures
from benchmarks.detection.set_figures import SetRun, frozen_ratio
from benchmarks.detection.table import figures_of, lines_for_people
from infra.exit_codes import EXIT_INTERNAL
from stream_jobs.alert_budget import DEFAULT_A_WEEK
from tests.detection_data import write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("data"))


def run(*args):
    return CliRunner().invoke(detection, args)


def test_plain_anomalies_are_found_by_z_and_not_by_chance(folder, monkeypatch):
    monkeypatch.setenv("INFERWATCH_DATA", str(folder))
    result = run("--detector", "gaussian_z", "--skip-speed", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    rows = {row["detector"]: row for row in found["detectors"]}
    assert next(iter(rows)) == "gaussian_z"
    assert {"gaussian_as_shipped", "random"} <= set(rows)
    good, bad = rows["gaussian_z"]["sets"], rows["random"]["sets"]
    assert good["nab"]["standard"] > 80.0
    assert good["nab"]["standard"] > bad["nab"]["standard"] + 20.0
    assert good["aiops29"]["event_f1"] == good["wsd"]["event_f1"] == 1.0
    assert bad["aiops29"]["event_f1"] < 0.3
    assert good["asd"]["mean_ap"] > 0.8 > 0.3 > bad["asd"]["mean_ap"]
    assert good["wsd"]["vus_pr_series"] == 2
    assert good["wsd"]["mean_vus_pr"] > bad["wsd"]["mean_vus_pr"]
    assert good["quiet"]["quiet_series"] == 3
    (reference,) = found["nab_published"].values()
    assert reference["standard"] == {"ours": pytest.approx(100.0), "published": 100.0}
    assert found["figures"]["causality"] is True
    assert found["figures"]["loop_equals_batch"] is True
    assert found["figures"]["us_per_point_loop"] is None
    assert {(shape["set"], shape["which"]) for shape in found["shown"]} >= {("nab", "best"), ("aiops29", "best")}
    assert "wsd" not in {shape["set"] for shape in found["shown"]}
    assert figures_of(found) == found["figures"]
    assert "gaussian_z: NAB" in result.stderr


def test_people_get_a_table(folder, monkeypatch):
    monkeypatch.setenv("INFERWATCH_DATA", str(folder))
    result = run("--detector", "random", "--no-baselines", "--sets", "nab,asd", "--skip-speed")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0].split()[:3] == ["detector", "NAB", "std"]
    assert lines[1].split()[0] == "random"
    assert " - " in lines[1]
    assert any(line.startswith("nab_standard ") for line in lines)


def test_missing_data_are_named_and_it_is_said_what_to_do(folder, monkeypatch, tmp_path):
    monkeypatch.setenv("INFERWATCH_DATA", str(tmp_path))
    result = run("--sets", "nab,quiet")
    assert result.exit_code == 78
    for word in ("nab.parquet", "nab_windows.json", "genai_serving.parquet", "INFERWATCH_DATA", "--sets"):
        assert word in result.stderr
    assert "wsd" not in result.stderr


@pytest.mark.parametrize("args", [("--sets", "nab,none"), ("--detector", "none")])
def test_a_name_that_is_not_known_is_refused_with_those_that_are(args):
    result = run(*args)
    assert result.exit_code == 2
    assert "none: not among" in result.stderr


def test_the_command_names_the_sets_of_the_plan():
    assert SETS == SETS_OF_THE_PLAN


def test_only_every_so_many_th_series_is_run_and_the_table_says_so(folder):
    run_of_it = SetRun(folder / "detection", choice.maker("random"), 2, lambda text: None)
    figures = run_of_it.result("aiops29").figures
    assert (figures["series"], figures["every"]) == (2, 2)
    assert run_of_it.result("nab").figures["series"] == 2
    row = {"detector": "slow", "sets": {"aiops29": figures}}
    assert "slow saw one series in 2." in lines_for_people({"detectors": [row]})


class Opposed:
    """Knows where the made anomalies are. One head says so, the other says the opposite."""

    def __init__(self, tells):
        self._tells = tells

    def run(self, time_ms, values):
        right = np.abs(values - np.median(values, axis=0)).max(axis=1)
        heads = {"severity": -right, "alarm": -right} | {self._tells: right}
        return SimpleNamespace(**heads)

    def state(self):
        return b""


def test_nab_is_scored_by_the_alarm_head_and_all_else_by_the_severity_head(folder):
    alarm, severity = (
        SetRun(folder / "detection", lambda channels, tells=tells: Opposed(tells), 1, lambda text: None)
        for tells in ("alarm", "severity")
    )
    assert alarm.result("nab").figures["standard"] > 80.0
    assert severity.result("nab").figures["standard"] < 20.0
    for name, figure in (("aiops29", "event_f1"), ("wsd", "event_f1"), ("wsd", "mean_vus_pr"), ("asd", "mean_ap")):
        assert severity.result(name).figures[figure] > 0.7, name
        assert alarm.result(name).figures[figure] < 0.3, name


def test_a_frozen_threshold_is_tried_on_the_other_set_both_ways(folder):
    run_of_it = SetRun(folder / "detection", choice.maker("gaussian_z"), 1, lambda text: None)
    one, other = run_of_it.result("aiops29"), run_of_it.result("wsd")
    there = other.book.at(one.threshold).f1 / other.figures["event_f1"]
    back = one.book.at(other.threshold).f1 / one.figures["event_f1"]
    assert (frozen_ratio(one, other), frozen_ratio(other, one)) == (there, back)
    other.threshold = 1e9
    assert (frozen_ratio(one, other), frozen_ratio(other, one)) == (there, 0.0)
    other.book = None
    assert frozen_ratio(one, other) is frozen_ratio(other, one) is None


def test_both_ways_are_printed(folder, monkeypatch):
    monkeypatch.setenv("INFERWATCH_DATA", str(folder))
    args = ("--detector", "gaussian_z", "--no-baselines", "--sets", "aiops29,wsd", "--skip-speed")
    figures = json.loads(run(*args, "--json").stdout)["figures"]
    ways = [figures[name] for name in ("frozen_aiops29_to_wsd", "frozen_wsd_to_aiops29")]
    assert figures["frozen_threshold_ratio"] == min(ways)
    lines = run(*args).stdout.splitlines()
    assert [any(line.startswith(name) for line in lines) for name in figures] == [True] * len(figures)


@pytest.mark.parametrize(
    ("check", "said", "word"),
    [
        ("causality", False, "causality"),
        ("loop_equals_batch", False, "loop_equals_batch"),
        ("invariance", 0.99, "invariance_rank_correlation 0.990000"),
    ],
)
def test_a_promise_that_does_not_hold_ends_it_with_an_error_that_names_it(folder, monkeypatch, check, said, word):
    monkeypatch.setenv("INFERWATCH_DATA", str(folder))
    monkeypatch.setattr(promises, check, lambda make, series: said)
    result = run("--detector", "random", "--no-baselines", "--sets", "asd", "--skip-speed", "--json")
    assert result.exit_code == EXIT_INTERNAL
    assert f"detection: random does not keep {word} on asd, " in result.stderr
    assert json.loads(result.stdout)["detectors"][0]["detector"] == "random"


def test_alerts_of_the_quiet_day_are_counted_by_series_and_week_under_a_budget(folder):
    make = choice.maker("gaussian_z")
    figures = quiet_figures(make, folder / "traces", rule=above(20.0))
    weeks = 3 * 399 * 57 / (7 * 86_400)
    assert figures["quiet_series_weeks"] == pytest.approx(weeks)
    assert figures["quiet_per_series_week_at_a_threshold"] == pytest.approx(1 / weeks)
    assert figures["quiet_budget_a_week"] == DEFAULT_A_WEEK
    assert 1 <= figures["quiet_alarms"] <= DEFAULT_A_WEEK
    assert figures["quiet_false_alarms_per_series_week"] == pytest.approx(figures["quiet_alarms"] / weeks)
    one = quiet_figures(make, folder / "traces", 1)
    assert one["quiet_alarms"] <= 1
    assert "quiet_per_series_week_at_a_threshold" not in one


def test_a_detector_of_the_registry_is_found_by_name(monkeypatch):
    class Registry:
        @staticmethod
        def names():
            return ("two_heads", "loda")

        @staticmethod
        def detector_named(name, channels):
            return name, channels

    monkeypatch.setattr(choice, "registry", Registry)
    assert choice.names()[:2] == ("two_heads", "loda")
    assert choice.maker("loda")(2) == ("loda", ("c00", "c01"))
    assert choice.maker("two_heads")(1) == ("two_heads", ("value",))
    assert choice.every("two_heads") == 1
    assert choice.every("loda") == choice.EVERY
    with pytest.raises(KeyError):
        choice.maker("none")


def test_costs_are_spreads_of_repeats(monkeypatch):
    for name, value in {"LOOP_POINTS": 20, "BATCH_POINTS": 60, "FEW": 2, "MANY": 8, "POINTS_EACH_ROUND": 16}.items():
        monkeypatch.setattr(speed, name, value)
    make = choice.maker("gaussian_z")
    costs = speed.point_costs(make) | {"flat": speed.cost_flatness(make)}
    assert {len(one.values) for one in costs.values()} == {speed.REPEATS}
    assert all(np.isfinite(one.median) for one in costs.values())


def test_the_detector_of_the_product_comes_first(folder, monkeypatch):
    class Registry:
        @staticmethod
        def names():
            return ("two_heads", "fixed_threshold")

        @staticmethod
        def detector_named(name, channels):
            return BASELINES["gaussian_z" if name == "two_heads" else "random"](channels)

    monkeypatch.setattr(choice, "registry", Registry)
    monkeypatch.setenv("INFERWATCH_DATA", str(folder))
    result = run("--sets", "asd", "--skip-speed", "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    names = [row["detector"] for row in found["detectors"]]
    assert names == ["two_heads", "fixed_threshold", "gaussian_z", "gaussian_as_shipped", "random"]
    assert found["figures"]["asd_mean_ap"] == found["detectors"][0]["sets"]["asd"]["mean_ap"]
    assert found["figures"]["nab_standard"] is None


def test_on_a_terminal_one_line_changes_and_is_gone_at_the_end(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    screen = Terminal()
    monkeypatch.setattr("sys.stderr", screen)
    progress = Progress()
    progress.say("two_heads: NAB, 58 series: 1 series, 10 points")
    progress.say("two_heads: costs")
    progress.end()
    assert "\n" not in screen.getvalue()
    assert screen.getvalue().endswith("\r\x1b[K")
    assert "two_heads: costs" in screen.getvalue()
