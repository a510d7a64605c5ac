import xml.etree.ElementTree as ET

import numpy as np

from benchmarks.detection.data_sets import Series
from benchmarks.detection.sketch import COLUMNS, SCORE_CUT, sketch, svg

SVG = "{http://www.w3.org/2000/svg}"


def made(n=2_000, channels=1):
    values = np.tile(np.linspace(0.0, 10.0, n).reshape(-1, 1), (1, channels))
    labels = np.zeros(n, dtype=bool)
    labels[1_500:1_600] = True
    return Series("a <b>", np.arange(n), values, labels, 1_000)


def thousandths(text):
    return [int(word) for word in text.split()]


def test_the_scored_part_is_reduced_to_columns_without_a_unit():
    scores = np.zeros(2_000)
    scores[1_500], scores[1_700], scores[10] = 2.0, 99.0, 99.0
    shape = sketch(made(), scores, threshold=2.0)
    high, score = thousandths(shape["high"]), thousandths(shape["score"])
    assert len(high) == len(score) == len(thousandths(shape["low"])) == COLUMNS
    assert (high[0], high[-1]) == (3, 1_000)
    assert high == sorted(high)
    assert max(score) == 1_000
    assert score[int(0.5 * COLUMNS)] == round(1_000 / SCORE_CUT)
    assert [place for place, value in enumerate(score) if value] == [int(0.5 * COLUMNS), int(0.7 * COLUMNS)]
    assert shape["events"] == ["500 600"]
    assert shape["points"] == 1_000


def test_missing_values_flat_channels_and_no_threshold_are_drawn_too():
    series = made(channels=3)
    series.values[1_200, 0] = np.nan
    series.values[:, 1] = 7.0
    for threshold in (0.0, np.inf, np.nan):
        shape = sketch(series, np.full(2_000, np.nan), threshold)
        assert set(thousandths(shape["score"])) == {0}
        assert 0 <= min(thousandths(shape["low"])) <= max(thousandths(shape["high"])) <= 1_000
    short = sketch(Series("s", np.arange(3), np.ones((3, 1)), np.ones(3, dtype=bool), 0), np.ones(3), 1.0)
    assert (short["points"], short["events"]) == (3, ["0 1000"])


def test_the_picture_is_svg_with_a_title_that_is_no_markup():
    shape = sketch(made(), np.ones(2_000), threshold=1.0)
    root = ET.fromstring(svg(shape, "a <b> & c"))
    assert root.find(f"{SVG}title").text == "a <b> & c"
    assert len(root.findall(f"{SVG}polygon")) == 2
    assert len(root.findall(f"{SVG}g/{SVG}rect")) == 1
