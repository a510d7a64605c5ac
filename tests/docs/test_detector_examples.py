"""Every detector's docstring has an example, and it comes out as written."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

from stream_jobs.detectors.base import SeriesDetector
from stream_jobs.detectors.registry import DETECTORS

FOLDER = Path(__file__).resolve().parents[2] / "stream_jobs" / "detectors"
BASES = {"RiverChannels", "SeriesModel"}
"""What several detectors share: nobody makes one of these."""


def detectors():
    """Classes that learn points or windows, by name: the selectable detectors, River's door, and the triggers."""
    found = {}
    for path in sorted(FOLDER.glob("*.py")):
        module = importlib.import_module(f"stream_jobs.detectors.{path.stem}")
        for name, one in inspect.getmembers(module, inspect.isclass):
            learns = hasattr(one, "learn_one") or {"judge", "learn"} <= set(dir(one))
            if learns and one.__module__ == module.__name__ and one is not SeriesDetector and name not in BASES:
                found[name] = one
    return found


FOUND = detectors()


def test_none_is_left_out():
    assert {path.split(":")[1] for path in DETECTORS.values()} <= FOUND.keys()
    assert {"RareRise", "ForecastResidual", "MemoryTrend", "HistogramDrift", "RiverDetector"} <= FOUND.keys()


@pytest.mark.parametrize("name", sorted(FOUND))
def test_an_example_comes_out_as_written(name):
    example = doctest.DocTestParser().get_doctest(inspect.getdoc(FOUND[name]), {}, name, None, 0)
    assert any(one.want for one in example.examples), f"{name} shows no result"
    said = []
    failed = doctest.DocTestRunner().run(example, out=said.append).failed
    assert failed == 0, "".join(said)
