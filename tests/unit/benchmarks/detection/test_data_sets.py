import numpy as np
import pytest

from benchmarks.detection import data_sets
from benchmarks.detection.data_sets import ASD_STEP_MS, DATA_SETS
from tests.detection_data import kpi, write_folder, write_kpis


@pytest.fixture
def folder(tmp_path):
    return write_folder(tmp_path) / "detection"


@pytest.mark.parametrize("rows", [130, 500, 100_000])
def test_series_are_whole_however_the_file_is_cut(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(data_sets, "BATCH_ROWS", rows)
    write_kpis(tmp_path / "aiops.parquet", ["k1", "k2", "k3"], row_group_size=450)
    series = list(DATA_SETS["aiops29"].read(tmp_path))
    assert [one.name for one in series] == ["k1", "k2", "k3"]
    for number, one in enumerate(series):
        values, labels = kpi(number)
        assert one.values[:, 0].tolist() == values.tolist()
        assert one.labels.tolist() == (labels == 1).tolist()
        assert one.scored_from == 600
        assert np.diff(one.time_ms).tolist() == [60_000] * 1_199


def test_the_windows_of_nab_are_places_in_the_file(folder):
    one, two = DATA_SETS["nab"].read(folder)
    assert one.windows == two.windows == ((890, 930), (1_040, 1_080))
    assert np.flatnonzero(one.labels).tolist() == [*range(890, 931), *range(1_040, 1_081)]
    assert one.scored_from == 0
    assert one.time_ms[1] - one.time_ms[0] == 300_000


def test_a_server_is_one_series_of_many_channels(folder):
    (server,) = DATA_SETS["asd"].read(folder)
    assert server.values.shape == (900, 19)
    assert server.scored_from == 600
    assert server.time_ms[1] == ASD_STEP_MS


def test_what_is_not_there_is_named(folder):
    assert [one.missing(folder) for one in DATA_SETS.values()] == [[]] * 4
    (folder / "nab_windows.json").unlink()
    assert DATA_SETS["nab"].missing(folder) == ["nab_windows.json"]


def test_nothing_is_shown_of_a_set_without_a_licence():
    assert {name for name, one in DATA_SETS.items() if not one.may_be_shown} == {"wsd"}
