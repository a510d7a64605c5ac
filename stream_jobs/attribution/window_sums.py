"""Sums for the causes of latency in an open window, one row a series and one a series and worker."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from schemas.windows import WORKERS_PER_SERIES_MAX, LatencySums
from stream_jobs.attribution.factors import PRODUCTS, VARIABLES

Ints = NDArray[np.int64]

OTHERS = ""
"""Stands for the workers above the bound."""


class WindowSums:
    """Sums by slot: exact, in whole numbers, whatever order requests come in."""

    def __init__(self) -> None:
        self._products: Ints = np.zeros((8, PRODUCTS), dtype=np.int64)
        self._workers: dict[int, dict[str, int]] = {}
        self._sums: Ints = np.zeros((8, 1 + VARIABLES), dtype=np.int64)
        """Requests and sum of vectors, a row a slot and worker."""
        self._rows = 0

    def add(self, slots: Ints, series: Ints, worker: str, vectors: Ints, counted: NDArray[np.bool_]) -> None:
        """Add the requests that `counted` has, all of one worker: request i belongs to slot `slots[series[i]]`."""
        from stream_jobs.attribution.compiled_sums import add_vectors  # numba takes a second to import

        some = np.bincount(series[counted], minlength=len(slots)).tolist()
        rows = [self._row(slot, worker) if count else -1 for slot, count in zip(slots.tolist(), some, strict=True)]
        add_vectors(series, slots, np.array(rows, dtype=np.int64), vectors, counted, self._products, self._sums)

    def cut(self, slots: Sequence[int]) -> list[LatencySums]:
        """What these slots hold."""
        return [self._cut(slot) for slot in slots]

    def load(self, slot: int, latency: LatencySums) -> None:
        """Take over a slot's sums."""
        for worker, count, sums in zip(latency.workers, latency.counts, latency.sums, strict=True):
            row = self._row(slot, worker)  # first: the array may grow
            self._sums[row] = [count, *sums]
        if latency.products:
            self._products[slot] = latency.products

    def _cut(self, slot: int) -> LatencySums:
        rows = sorted(self._workers.get(slot, {}).items())
        if not rows:
            return LatencySums.model_construct()
        found = self._sums[[row for _, row in rows]]
        return LatencySums.model_construct(
            workers=[worker for worker, _ in rows],
            counts=found[:, 0].tolist(),
            sums=found[:, 1:].tolist(),
            products=self._products[slot].tolist(),
        )

    def _row(self, slot: int, worker: str) -> int:
        rows = self._workers.setdefault(slot, {})
        if worker not in rows and len(rows) - (OTHERS in rows) >= WORKERS_PER_SERIES_MAX:
            worker = OTHERS
        row = rows.get(worker)
        if row is None:
            row = rows[worker] = self._rows
            self._rows += 1
            while slot >= len(self._products):
                self._products = np.concatenate((self._products, np.zeros_like(self._products)))
            if row >= len(self._sums):
                self._sums = np.concatenate((self._sums, np.zeros_like(self._sums)))
        return row
