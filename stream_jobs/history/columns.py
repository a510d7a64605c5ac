"""Which columns of a file are what: the series, the time, the value or the metrics; and how many series are kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

SERIES = "series"
TIMES = ("ts", "timestamp")
VALUE = "value"
NOT_METRICS = frozenset({"label", "labels", "split", "anomaly", "is_anomaly"})
"""Columns of labelled data: what people said about a row is no measurement, and a score must not see it."""

SERIES_MAX = 100_000
"""Some kilobytes each. Rows of further series get no score, and are counted."""


class MissingColumns(ValueError):
    """The file has not the columns that are needed: says which there are and which are asked for."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The names of the columns to read."""

    series: str
    time: str
    metrics: tuple[str, ...]
    """The channels of a point: `value`, or several metrics."""

    @property
    def all(self) -> list[str]:
        """Every column to read."""
        return [self.series, self.time, *self.metrics]


def choose(names: Sequence[str], numeric: Sequence[str], wanted: Sequence[str] = ()) -> Columns:
    """The columns of a file with `names`, of which `numeric` can hold numbers; `wanted` are metrics asked for by name.

    Without `wanted`, the metric is `value`; where there is none, all other numeric columns are metrics.
    Raises MissingColumns.
    """
    time = next((name for name in TIMES if name in names), None)
    if repeated := {name for name in names if list(names).count(name) > 1}:
        raise MissingColumns(f"a column name is there twice: {', '.join(sorted(repeated))}")
    if SERIES not in names or time is None:
        missing = ([] if SERIES in names else [SERIES]) + ([] if time else [" or ".join(TIMES)])
        raise MissingColumns(_sentence(missing, names))
    if wanted:
        if lacking := [name for name in wanted if name not in numeric or name in (SERIES, time)]:
            raise MissingColumns(_sentence(lacking, names))
        return Columns(SERIES, time, tuple(dict.fromkeys(wanted)))
    if VALUE in names:
        return Columns(SERIES, time, (VALUE,))
    metrics = tuple(n for n in numeric if n not in (SERIES, *TIMES) and n.lower() not in NOT_METRICS)
    if not metrics:
        raise MissingColumns(_sentence([f"{VALUE}, or metrics that are numbers"], names))
    return Columns(SERIES, time, metrics)


def _sentence(missing: Sequence[str], names: Sequence[str]) -> str:
    there = ", ".join(names) or "none"
    return (
        f"columns missing: {', '.join(missing)} (there are: {there}; needed: series, ts or timestamp, value or metrics)"
    )
