"""docs/detection.md and its pictures are what the recorded results say."""

import copy

from click.testing import CliRunner

from benchmarks.detection import page
from benchmarks.detection.table import COLUMNS


def test_the_page_and_its_pictures_are_not_stale():
    results = page.recorded()
    assert results
    assert page.stale(page.DOCS, page.pages(results)) == [], "run `inferwatch bench detection-page`"


def test_every_column_is_explained_and_every_detector_has_its_row():
    for found in page.recorded().values():
        text = page.pages({"detection-x": found})["detection.md"]
        for column in COLUMNS:
            assert column.heading.split()[0] in page.MEASURES
        for row in found["detectors"]:
            assert f"| `{row['detector']}` |" in text
        for shape in found["shown"]:
            assert f"(detection/x-{shape['set']}-{shape['which']}.svg)" in text


def test_nothing_is_shown_of_what_may_not_be_shown():
    shown = [shape["set"] for found in page.recorded().values() for shape in found["shown"]]
    assert shown
    assert set(shown) <= {"nab", "aiops29", "asd"}


def test_a_changed_result_a_missing_and_a_left_picture_are_noticed(tmp_path, monkeypatch):
    results = page.recorded()
    monkeypatch.setattr(page, "DOCS", tmp_path)
    monkeypatch.setattr(page, "recorded", lambda: results)
    run = CliRunner().invoke
    assert run(page.detection_page, ["--check"]).exit_code == 1
    assert run(page.detection_page).exit_code == 0
    assert run(page.detection_page, ["--check"]).exit_code == 0
    other = copy.deepcopy(results)
    next(iter(other.values()))["detectors"][0]["sets"]["nab"]["standard"] = 99.0
    assert page.stale(tmp_path, page.pages(other)) == ["detection.md"]
    (tmp_path / "detection" / "old.svg").write_text("<svg/>")
    assert page.stale(tmp_path, page.pages(results)) == ["detection/old.svg"]
    assert "removed docs/detection/old.svg" in run(page.detection_page).output
    assert page.stale(tmp_path, page.pages(results)) == []
