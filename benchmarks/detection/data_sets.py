"""The labelled series that detectors are scored on, read one series at a time from the folder of real data."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.base import Floats

ASD_STEP_MS = 300_000
"""ASD's servers were asked every five minutes (Li et al., KDD 2021); the file has no times."""
BATCH_ROWS = 200_000


@dataclass(frozen=True, slots=True)
class Series:
    """One series of n points of c channels, all of which a detector sees; `labels` are for the scorers alone."""

    name: str
    time_ms: NDArray[np.int64]
    """(n,)"""
    values: Floats
    """(n, c)"""
    labels: NDArray[np.bool_]
    """(n,)"""
    scored_from: int
    """Points before this one are for learning: their scores count nowhere."""
    windows: tuple[tuple[int, int], ...] = ()
    """NAB's: first and last point of each."""


@dataclass(frozen=True, slots=True)
class DataSet:
    """A set of series: how to read them, and what may be shown of them."""

    name: str
    title: str
    files: tuple[str, ...]
    channels: int
    may_be_shown: bool
    """Its licence lets us show the shape of a series."""
    read: Callable[[Path], Iterator[Series]]

    def missing(self, folder: Path) -> list[str]:
        """Which of its files are not in the folder `detection` of the data."""
        return [name for name in self.files if not (folder / name).is_file()]


def nab_series(folder: Path) -> Iterator[Series]:
    """Numenta's 58 series; a point is labelled when it lies in a window."""
    windows = json.loads((folder / "nab_windows.json").read_text())
    for name, columns in _grouped(folder / "nab.parquet", ("timestamp", "value")):
        time_ms = columns["timestamp"].astype("datetime64[ms]").astype(np.int64)
        labels = np.zeros(len(time_ms), dtype=np.bool_)
        spans = []
        for first, last in windows[name]:
            span = _place(time_ms, first), _place(time_ms, last)
            labels[span[0] : span[1] + 1] = True
            spans.append(span)
        yield Series(name, time_ms, _column(columns["value"]), labels, 0, tuple(spans))


def _place(time_ms: NDArray[np.int64], text: str) -> int:
    """Of the first point at a time. NAB's clocks went back here and there, so that they are not always sorted."""
    return int(np.flatnonzero(time_ms == np.datetime64(text, "ms").astype(np.int64))[0])


def _second_half_series(file: str) -> Callable[[Path], Iterator[Series]]:
    def read(folder: Path) -> Iterator[Series]:
        for name, columns in _grouped(folder / file, ("ts", "value", "label", "split")):
            scored = columns["split"] == 1
            labels = columns["label"] == 1
            yield Series(name, columns["ts"] * 1_000, _column(columns["value"]), labels, int(np.argmax(scored)))

    return read


def asd_series(folder: Path) -> Iterator[Series]:
    """Twelve application servers, 19 metrics each."""
    names = tuple(f"c{i:02d}" for i in range(19))
    for name, columns in _grouped(folder / "asd.parquet", (*names, "label", "split")):
        values = np.column_stack([columns[one].astype(np.float64) for one in names])
        time_ms = np.arange(len(values), dtype=np.int64) * ASD_STEP_MS
        yield Series(name, time_ms, values, columns["label"] == 1, int(np.argmax(columns["split"] == 1)))


DATA_SETS: Mapping[str, DataSet] = {
    one.name: one
    for one in (
        DataSet("nab", "NAB, 58 series", ("nab.parquet", "nab_windows.json"), 1, True, nab_series),
        DataSet("aiops29", "AIOPS, 29 KPIs", ("aiops.parquet",), 1, True, _second_half_series("aiops.parquet")),
        DataSet("wsd", "WSD, 97 KPIs", ("wsd.parquet",), 1, False, _second_half_series("wsd.parquet")),
        DataSet("asd", "ASD, 12 servers of 19 metrics", ("asd.parquet",), 19, True, asd_series),
    )
}


def _grouped(path: Path, names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
    """Series after series of a file whose series lie together: its name and its columns."""
    from pyarrow import parquet

    name: str | None = None
    parts: list[dict[str, NDArray[Any]]] = []
    for batch in parquet.ParquetFile(path).iter_batches(BATCH_ROWS, columns=["series", *names]):
        codes = batch["series"].indices.to_numpy()
        columns = {one: batch[one].to_numpy(zero_copy_only=False) for one in names}
        edges = [0, *(np.flatnonzero(codes[1:] != codes[:-1]) + 1), len(codes)]
        for begin, end in pairwise(edges):
            here = str(batch["series"].dictionary[int(codes[begin])])
            if here != name and name is not None:
                yield name, _joined(parts)
                parts = []
            name = here
            parts.append({one: column[begin:end] for one, column in columns.items()})
    if name is not None:
        yield name, _joined(parts)


def _joined(parts: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _column(values: NDArray[Any]) -> Floats:
    return np.ascontiguousarray(values, dtype=np.float64).reshape(-1, 1)
