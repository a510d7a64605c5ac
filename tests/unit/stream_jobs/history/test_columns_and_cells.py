import math
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from stream_jobs.history.cells import TimeReader, mostly_numbers, numbers
from stream_jobs.history.columns import MissingColumns, choose

MOMENT_MS = datetime(2024, 5, 6, 7, 8, 9, 250_000, tzinfo=UTC).timestamp() * 1000


def test_the_value_is_the_metric_and_without_it_all_numbers_but_labels_are():
    names = ["value", "cpu", "series", "ts", "label"]
    assert choose(names, names).metrics == ("value",)
    assert choose(names[1:], names[1:]).metrics == ("cpu",)
    chosen = choose(["timestamp", "b", "host", "a", "series", "split", "is_anomaly"], ["b", "a", "split", "is_anomaly"])
    assert (chosen.time, chosen.metrics) == ("timestamp", ("b", "a"))
    assert choose(names, names, ["cpu", "label"]).metrics == ("cpu", "label")


@pytest.mark.parametrize(
    ("names", "wanted", "missing"),
    [
        (["time", "value"], (), "missing: series, ts or timestamp "),
        (["series", "ts", "host"], (), "missing: value, or metrics that are numbers "),
        (["series", "ts", "value"], ("cpu",), "missing: cpu "),
        ([], (), "there are: none"),
        (["series", "ts", "ts", "value"], (), "twice: ts"),
    ],
)
def test_what_is_missing_is_said_beside_what_is_there(names, wanted, missing):
    with pytest.raises(MissingColumns, match=missing):
        choose(names, [name for name in names if name != "host"], wanted)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([MOMENT_MS / 1000]),
        pa.array([int(MOMENT_MS)]),
        pa.array([int(MOMENT_MS) * 1_000]),
        pa.array([int(MOMENT_MS) * 1_000_000]),
        pa.array([MOMENT_MS * 1_000], pa.float64()).cast(pa.int64()).cast(pa.timestamp("us")),
        pa.array([int(MOMENT_MS) * 1_000_000]).cast(pa.timestamp("ns", tz="Europe/Paris")),
        pa.array([f"{MOMENT_MS / 1000:.3f}"]),
        pa.array(["2024-05-06 07:08:09.250"]),
        pa.array(["2024-05-06T07:08:09.250000Z"]),
        pa.array(["2024-05-06T09:08:09.25+02:00"]),
    ],
)
def test_times_of_any_kind_are_ms(column):
    ms, bad = TimeReader().read(column)
    assert ms.tolist() == [MOMENT_MS]
    assert bad == []


def test_times_that_are_none_are_named_and_the_others_read():
    ms, bad = TimeReader().read(pa.array(["2024-05-06", "soon", None, "", "2024-05-07T00:00:00+00:00", "nan"]))
    assert bad == [1, 2, 3, 5]
    assert ms[[0, 4]].tolist() == [1_714_953_600_000, 1_715_040_000_000]
    assert np.isnan(ms[bad]).all()


def test_the_unit_is_that_of_the_first_time_in_later_batches_too():
    times = TimeReader()
    assert times.read(pa.array([10, 20]))[0].tolist() == [10_000, 20_000]
    assert times.read(pa.array([200_000_000_000]))[0].tolist() == [200_000_000_000_000]
    assert times.read(pa.array([2**62, None], pa.int64()))[1] == [0, 1]


def test_numbers_are_numbers_missing_or_broken():
    found, bad = numbers(pa.array(["1.5", " 2 ", "", "NaN", "n/a", None, "1_000", "x", "1e308", "-inf"]))
    assert bad == [6, 7]
    assert found[[0, 1, 8]].tolist() == [1.5, 2.0, 1e308]
    assert np.isnan(found[2:8]).all()
    assert found[9] == -math.inf
    assert numbers(pa.array([1, None, 3]))[0][[0, 2]].tolist() == [1.0, 3.0]
    assert mostly_numbers(pa.array(["1", "2", "oops", ""]))
    assert not mostly_numbers(pa.array(["a", "b", "3"]))
    assert not mostly_numbers(pa.array(["", ""]))
