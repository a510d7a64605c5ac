"""A small data folder in the layout of the real one: made series, each with plain anomalies."""

import json

import numpy as np
import pyarrow as pa
from pyarrow import parquet

MINUTE_S = 60


def kpi(seed, n=1_200, spikes=(900, 1_050)):
    """Noise around 10 with two spikes of five points in the second half; values and labels."""
    values = np.random.default_rng(seed).normal(10.0, 1.0, n)
    labels = np.zeros(n, dtype=np.int8)
    for first in spikes:
        values[first : first + 5] += 40.0
        labels[first : first + 5] = 1
    return values, labels


def write_kpis(path, names, n=1_200, row_group_size=500):
    columns = {"series": [], "ts": [], "value": [], "label": [], "split": []}
    for number, name in enumerate(names):
        values, labels = kpi(number, n)
        columns["series"] += [name] * n
        columns["ts"] += (1_500_000_000 + np.arange(n) * MINUTE_S).tolist()
        columns["value"] += values.tolist()
        columns["label"] += labels.tolist()
        columns["split"] += (np.arange(n) >= n // 2).astype(int).tolist()
    _write(path, columns, row_group_size)


def write_nab(folder, names, n=1_200):
    start = np.datetime64("2014-04-01T00:00:00", "us")
    columns = {"series": [], "timestamp": [], "value": []}
    windows = {}
    for number, name in enumerate(names):
        times = start + np.arange(n) * np.timedelta64(300, "s")
        columns["series"] += [name] * n
        columns["timestamp"].append(times)
        columns["value"] += kpi(number, n)[0].tolist()
        windows[name] = [
            [str(times[a]).replace("T", " ") + "", str(times[b]).replace("T", " ")]
            for a, b in ((890, 930), (1_040, 1_080))
        ]
    columns["timestamp"] = np.concatenate(columns["timestamp"])
    _write(folder / "nab.parquet", columns, 10_000)
    (folder / "nab_windows.json").write_text(json.dumps(windows))
    _write_published(folder, columns["series"], n)


def _write_published(folder, series, n):
    """A published detector that fires at the first point of every window."""
    at = np.arange(len(series)) % n
    columns = {"series": series, "i": at.astype(np.int32), "ideal": np.isin(at, (890, 1_040)).astype(float)}
    _write(folder / "nab_reference_scores.parquet", columns, 10_000)
    board = {"ideal": dict.fromkeys(("standard", "reward_low_FP_rate", "reward_low_FN_rate"), 100.0)}
    (folder / "nab_published.json").write_text(json.dumps(board))


def write_asd(path, names, n=900, channels=19):
    columns = {"series": []} | {f"c{i:02d}": [] for i in range(channels)} | {"label": [], "split": []}
    for number, name in enumerate(names):
        rng = np.random.default_rng(100 + number)
        labels = (np.arange(n) // 20 == 35).astype(np.int8)
        columns["series"] += [name] * n
        for i in range(channels):
            columns[f"c{i:02d}"] += (rng.normal(0.5, 0.05, n) + labels).astype(np.float32).tolist()
        columns["label"] += labels.tolist()
        columns["split"] += (np.arange(n) >= 2 * n // 3).astype(int).tolist()
    _write(path, columns, 10_000)


def write_gpu_day(path, n=400):
    """Two containers of enough points, one of few, one whose rows lie in no order; a spike in the first."""
    rng = np.random.default_rng(9)
    rows = []
    for container, count in (("a", n), ("b", n), ("c", 20)):
        values = rng.normal(50.0, 1.0, count)
        if container == "a":
            values[350] = 500.0
        rows += [("duty", container, 57.0 * i, float(v)) for i, v in enumerate(values)]
    rows += [("queue", None, 57.0 * i, float(i % 3)) for i in reversed(range(n))]
    columns = {name: [row[i] for row in rows] for i, name in enumerate(("metric", "container_ip", "ts", "value"))}
    table = pa.table(columns)
    for name in ("metric", "container_ip"):
        place = table.column_names.index(name)
        table = table.set_column(place, name, table[name].dictionary_encode())
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path)


def write_folder(folder):
    """All sets; returns the folder."""
    detection = folder / "detection"
    detection.mkdir(parents=True)
    write_nab(detection, ["one", "two"])
    write_kpis(detection / "aiops.parquet", ["k1", "k2", "k3"])
    write_kpis(detection / "wsd.parquet", ["0", "1"])
    write_asd(detection / "asd.parquet", ["server"])
    write_gpu_day(folder / "traces" / "genai_serving.parquet")
    return folder


def _write(path, columns, row_group_size):
    table = pa.table(columns)
    table = table.set_column(0, "series", table["series"].dictionary_encode())
    parquet.write_table(table, path, row_group_size=row_group_size)
