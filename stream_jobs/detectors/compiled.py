"""The loops over rows and trees that are compiled to machine code (numba), cached on disk where that is possible."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

F = TypeVar("F", bound=Callable[..., Any])


def compiled(function: F) -> F:
    """Compile on first use; keep the machine code on disk, or in memory alone where no folder can be written."""
    try:
        return numba.njit(function, cache=True)  # type: ignore[no-any-return]
    except RuntimeError:  # numba: "no locator available": neither the source's folder nor a user's cache is writable
        return numba.njit(function)  # type: ignore[no-any-return]


def part(function: F) -> F:
    """Compile as part of the compiled functions that call it; never on disk, where it could outlive its constants."""
    return numba.njit(function)  # type: ignore[no-any-return]


def stamp_of(*modules: ModuleType) -> int:
    """Checksum of the modules' sources, never 0: closed over by a compiled function, it makes stale code on disk miss.

    numba itself looks only at the file the function is in, not at those of the parts and constants it uses.
    """
    sources = b"".join(Path(str(module.__file__)).read_bytes() for module in modules)
    return zlib.crc32(sources) | 1 << 32


@compiled
def score_then_learn(
    rows: NDArray[np.float64],
    split_feature: NDArray[np.int16],
    split_at: NDArray[np.float64],
    left: NDArray[np.int32],
    right: NDArray[np.int32],
    height: int,
    window_size: int,
    counter: int,
    first_window: bool,
    scores: NDArray[np.float64],
) -> tuple[int, int]:
    """River's `score_one` and `learn_one` for each row in turn; changes `left`, `right` and `scores` in place.

    Returns the new counter and the number of the first row that was not scored while learning (past the last row
    when learning goes on).
    """
    n_trees = split_feature.shape[0]
    size_limit = 0.1 * window_size
    max_score = n_trees * window_size * (2 ** (height + 1) - 1)
    learnt_at = len(rows) + 1 if first_window else 0
    for i in range(len(rows)):
        mass = 0.0
        for tree in range(n_trees):
            node, weight, scoring = 0, 1.0, not first_window
            for _ in range(height):
                left[tree, node] += 1
                if scoring:
                    mass += right[tree, node] * weight
                    scoring = right[tree, node] >= size_limit
                    weight *= 2.0
                step = 1 if rows[i, split_feature[tree, node]] < split_at[tree, node] else 2
                node = 2 * node + step
            left[tree, node] += 1
            if scoring:
                mass += right[tree, node] * weight
        if not first_window:
            scores[i] = 1.0 - mass / max_score
        counter += 1
        if counter == window_size:
            right[:] = left
            left[:] = 0
            if first_window:
                learnt_at = i + 1
            first_window = False
            counter = 0
    return counter, learnt_at
