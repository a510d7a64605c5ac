"""`inferwatch budget`: what budgets would have cost on a file, and on what the pipeline stored."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from stream_jobs.alert_budget import DEFAULT_A_WEEK
from stream_jobs.budget_cli import budget
from stream_jobs.detectors.registry import detector_named
from stream_jobs.history.budget_costs import SIZES, costs_of
from stream_jobs.history.scoring import HistoryScorer
from stream_jobs.history.stored_windows import FIRST, SLICE_MS, StoredWindows

T0, MINUTE = 1_700_000_000_000, 60_000


@pytest.fixture
def history(tmp_path):
    """Two weeks of two series, every ten minutes; one has a fault of an hour in each of the last six days."""
    rng, lines = np.random.default_rng(7), ["series,ts,value"]
    for number in range(14 * 144):
        day, slot = divmod(number, 144)
        at = T0 + number * 10 * MINUTE
        fault = 40.0 if day >= 8 and 60 <= slot < 66 else 0.0
        lines += [f"calm,{at},{rng.normal(10, 1):.4f}", f"faulty,{at},{rng.normal(10, 1) + fault:.4f}"]
    path = tmp_path / "history.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def run(*args):
    return CliRunner().invoke(budget, [str(arg) for arg in args])


def test_each_size_costs_at_most_what_it_says_and_larger_ones_not_less(history):
    found = run(history, "--json")
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert tuple(one["a_week"] for one in told["budgets"]) == SIZES
    assert DEFAULT_A_WEEK in SIZES
    assert (told["series"], told["rows"]) == (2, 2 * 14 * 144)
    assert told["weeks"] == pytest.approx(2.0, abs=0.01)
    for one in told["budgets"]:
        assert one["most_in_a_week"] <= one["a_week"]
        assert one["alerts"] == len(one["when"]) == sum(series["alerts"] for series in one["by_series"])
    (five,) = [one for one in told["budgets"] if one["a_week"] == 5]
    assert five["by_series"][0]["series"] == "faulty"
    faults = {T0 + (day * 144 + slot) * 10 * MINUTE for day in range(8, 14) for slot in range(60, 66)}
    assert any(one["time_ms"] in faults for one in five["when"])  # the later ones are usual by then


def test_nothing_looks_ahead(history, tmp_path):
    lines = history.read_text().splitlines(keepends=True)
    cut = tmp_path / "cut.csv"
    cut.write_text("".join(lines[: len(lines) * 4 // 5]))
    last = int(lines[len(lines) * 4 // 5 - 1].split(",")[1])
    whole, part = (json.loads(run(path, "--size", 10, "--json").stdout)["budgets"][0] for path in (history, cut))
    assert [one for one in whole["when"] if one["time_ms"] <= last] == part["when"]
    assert part["when"]


def test_people_get_a_table_and_when_it_was(history):
    found = run(history, "--size", 5)
    assert found.exit_code == 0, found.output
    for words in ("budget a week", "most in 7 days", "faulty", "two_heads", "with 5 a week:", "2023-11-"):
        assert words in found.stdout


def test_broken_rows_are_said_and_change_the_exit_code(history):
    history.write_text(history.read_text() + "calm,never,5\n")
    found = run(history, "--size", 1, "--json")
    assert found.exit_code == 65
    assert "1 broken row" in found.stderr
    assert json.loads(found.stdout)["budgets"][0]["a_week"] == 1


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ((), "one of FILE and --since"),
        (("{file}", "--since", "1d"), "one of FILE and --since"),
        (("--since", "1d", "--metric", "x"), "--metric and --counter are for a FILE"),
        (("--since", "1d", "--counter", "x"), "--metric and --counter are for a FILE"),
        (("--since", "soon"), "duration"),
        (("{file}", "--size", "0"), "--size"),
        (("{file}", "--metric", "none"), "none"),
        (("{file}", "--detector", "best"), "best"),
    ],
)
def test_what_cannot_be_is_refused(history, args, why):
    found = run(*(str(history) if one == "{file}" else one for one in args))
    assert found.exit_code == 2
    assert why in found.stderr


class Stored:
    """A table of scored windows."""

    def __init__(self, rows):
        self.rows, self.asked = sorted(rows, key=lambda row: (row[1], row[0])), []

    def query(self, sql, parameters=None):
        self.asked.append(parameters)
        found = [row for row in self.rows if row[1] >= parameters["from"]]
        if sql == FIRST:
            return (), [(min((row[1] for row in found), default=0), len(found))]
        return (), [row for row in found if row[1] < parameters["to"]]


def test_what_was_stored_is_read_in_slices_from_its_first_window_on():
    rng = np.random.default_rng(3)
    rows = [
        (name, T0 + n * 10_000, float(rng.lognormal())) for n in range(400) for name in ("a of s/m/1", "b of s/m/1")
    ]
    tables = Stored(rows)
    stored = StoredWindows(tables, ["a", "b"], T0 - 10**9, T0 + 400 * 10_000)
    scorer = HistoryScorer(lambda: detector_named("two_heads"))
    shares = []
    for batch in stored:
        scorer.score(batch)
        shares.append(stored.done_share)
    assert scorer.counts["rows"] == scorer.counts["scored"] == 800
    assert len(tables.asked) == 1 + -(-400 * 10_000 // SLICE_MS)
    assert shares == sorted(shares)
    assert stored.done_share == 1.0
    costs = costs_of(scorer, [5, 5, 1], "window_scores", "two_heads")
    assert [cost.a_week for cost in costs.costs] == [1, 5]
    assert costs.series == 2


def test_no_history_costs_nothing():
    stored = StoredWindows(Stored([]), ["a"], T0, T0 + 10**6)
    assert list(stored) == []
    scorer = HistoryScorer(lambda: detector_named("two_heads"))
    costs = costs_of(scorer, [5], "window_scores", "two_heads")
    assert (costs.weeks, costs.series, costs.costs[0].alerts) == (0.0, 0, ())
