"""Counters of a file as what they grow by in a second: columns that only grow, and fall to about 0 at a restart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from stream_jobs.detectors.base import Floats
from stream_jobs.history.cells import rows_by_name
from stream_jobs.history.columns import SERIES_MAX


@dataclass(slots=True)
class _Growth:
    """Where the counters of one series stand."""

    clock: Floats
    values: Floats
    """(counters,) The last of each; NaN: none."""
    times_ms: Floats
    """(counters,) When that was."""
    restarts: NDArray[np.int64]


@dataclass
class Counters:
    """Increases of the counters in columns `columns` of a file's metrics. A series' state is some 100 bytes.

    A row's increase is a function of its series' earlier rows and itself, whatever comes later and however rows are cut
    into batches. It is the growth since the last row that had a value, over the seconds between them, so that a missing
    row or another interval is no jump. NaN, as if the value were missing: the first row; one that is smaller than the
    last, for what was counted before the restart is lost; one that is late, or of a clock that jumped (see
    `detectors.clock`); and rows of more than `SERIES_MAX` series.

    It fails on a counter that has grown beyond its last value by the first row after a restart.
    """

    columns: Sequence[int]
    _series: dict[object, _Growth] = field(default_factory=dict)

    def increases(self, series: object, time_ms: Floats, values: Floats) -> Floats:
        """`values` (n, metrics) with the counters' columns as increases a second. `series` is an Arrow column of names,
        parallel to `time_ms` and `values`; NaN: no usable time, or no value."""
        from stream_jobs.history.compiled_counters import increases_of  # numba takes a second to import

        increases = values.copy()
        if not self.columns:
            return increases
        columns = np.array(self.columns, dtype=np.int64)
        increases[:, columns] = np.nan
        for name, at in rows_by_name(series, np.ones(len(values), dtype=np.bool_)):
            one = self._of(name)
            if one is not None:
                found = np.ascontiguousarray(values[at])
                increases_of(time_ms[at], found, columns, one.clock, one.values, one.times_ms, one.restarts)
                increases[at] = found
        return increases

    def restarts(self) -> Counter[int]:
        """How often each column fell, over all series."""
        found: Counter[int] = Counter(dict.fromkeys(self.columns, 0))
        for one in self._series.values():
            found.update(dict(zip(self.columns, one.restarts.tolist(), strict=True)))
        return found

    def _of(self, name: object) -> _Growth | None:
        from stream_jobs.history.compiled_counters import new_clock

        found = self._series.get(name)
        if found is None and len(self._series) < SERIES_MAX:
            none = np.full(len(self.columns), np.nan)
            found = _Growth(new_clock(), none, none.copy(), np.zeros(len(self.columns), dtype=np.int64))
            self._series[name] = found
        return found
