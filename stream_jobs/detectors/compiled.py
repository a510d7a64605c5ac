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

    While a window runs `left` is counted at the leaves alone, and for inner nodes summed up when it is over.

    Returns the new counter and the number of the first row that was not scored while learning (past the last row
    when learning goes on).
    """
    n_trees, first_leaf = split_feature.shape[0], 2**height - 1
    size_limit = 0.1 * window_size
    max_score = n_trees * window_size * (2 ** (height + 1) - 1)
    learnt_at = len(rows) + 1 if first_window else 0
    nodes, scoring = np.zeros(n_trees, dtype=np.int64), np.zeros(n_trees, dtype=np.int64)
    for i in range(len(rows)):
        # All trees go down together: the processor waits for the memory of many nodes at once, not of one after the
        # other. The masses and weights are whole numbers, so their sum does not depend on the order.
        mass, weight = 0, 1
        for tree in range(n_trees):
            nodes[tree], scoring[tree] = 0, 0 if first_window else 1
        for _ in range(height):
            for tree in range(n_trees):
                node = nodes[tree]
                seen = right[tree, node]
                mass += seen * weight * scoring[tree]
                scoring[tree] &= seen >= size_limit
                nodes[tree] = 2 * node + 2 - (rows[i, split_feature[tree, node]] < split_at[tree, node])
            weight *= 2
        for tree in range(n_trees):
            left[tree, nodes[tree]] += 1
            mass += right[tree, nodes[tree]] * weight * scoring[tree]
        if not first_window:
            scores[i] = 1.0 - mass / max_score
        counter += 1
        if counter == window_size:
            for tree in range(n_trees):
                for node in range(first_leaf - 1, -1, -1):
                    left[tree, node] = left[tree, 2 * node + 1] + left[tree, 2 * node + 2]
            right[:] = left
            left[:] = 0
            if first_window:
                learnt_at = i + 1
            first_window = False
            counter = 0
    return counter, learnt_at
