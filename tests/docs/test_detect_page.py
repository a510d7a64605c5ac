"""The page about `inferwatch detect` says what the command does: detectors, columns, options, numbers."""

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from stream_jobs import alert_budget
from stream_jobs.budget_cli import budget
from stream_jobs.detect_cli import detect
from stream_jobs.detectors.registry import DEFAULT, DETECTORS
from stream_jobs.history import columns, reading, scoring

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "detect.md").read_text()
EXAMPLES = re.findall(r"^inferwatch detect (.*)$", PAGE, re.MULTILINE)


def section(title):
    return PAGE.split(f"## {title}\n")[1].split("\n## ")[0]


def rows_of(text):
    return re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)


def test_every_detector_is_explained_and_no_other():
    assert {row.strip("`") for row in rows_of(section("Detectors"))} == set(DETECTORS)
    assert f"the default is `{DEFAULT}`" in PAGE


def test_every_column_that_is_written_is_explained():
    named = set(re.findall(r"`(\w+)`", " ".join(rows_of(section("What comes out")))))
    assert named == {*scoring.SCORES, "metric"}


def test_options_and_numbers_are_the_commands():
    named = set(re.findall(r"(--[a-z]+)", PAGE))
    of_both = [*detect.params, *budget.params]
    assert named == {option for parameter in of_both for option in parameter.opts if option.startswith("--")}
    assert f"{scoring.SERIES_MAX:,} series" in PAGE
    assert all(f"`{ending}`" in PAGE for ending in reading.PARQUET + reading.CSV)
    assert {"label", "split", "is_anomaly"} <= columns.NOT_METRICS
    assert alert_budget.MEMORY_WEEKS == 4


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_runs(example, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    values = np.random.default_rng(1).normal(size=(300, 2))
    times = {"series": ["a"] * 300, "ts": np.arange(300) * 60 + 1_700_000_000}
    pq.write_table(pa.table({**times, "value": values[:, 0]}), "history.parquet")
    pa.csv.write_csv(pa.table({**times, "value": values[:, 0]}), "history.csv")
    hosts = {"cpu": values[:, 0], "memory": values[:, 1], "requests_total": np.abs(values[:, 0]).cumsum()}
    pa.csv.write_csv(pa.table({**times, **hosts}), "hosts.csv")
    command, _, to = example.partition(" > ")
    result = CliRunner().invoke(detect, shlex.split(command))
    assert result.exit_code == 0, result.output
    made = Path(to or re.search(r"--out (\S+)", command)[1])
    if to:
        made.write_text(result.stdout)
    assert made.stat().st_size > 1_000
    assert "--plot" not in command or Path("worst.png").stat().st_size > 1_000
