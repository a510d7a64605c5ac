"""Half-space trees: how unusual a row of features is among the rows just before it. Batches score exactly like loops.

The trees are those of River's `anomaly.HalfSpaceTrees` with the same seed, and so are the scores, bit for bit; they
are made here because importing River's anomaly module takes seconds. A law test holds the two together.
"""

from __future__ import annotations

import functools
import random
import struct
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

PADDING = 0.15
"""River's: a split stays this share of the range away from its ends."""
_HEADER = struct.Struct("<4sHHHHIII")
_MAGIC = b"HST1"


class HalfSpaceTrees:
    """River's HalfSpaceTrees over a fixed list of features, each in [0, 1] (Tan, Ting, Liu, IJCAI 2011).

    A row scores high where few rows of the previous `window_size` fell near it. It fails on anomalies that come in
    crowds: once a window is full of them they are usual. `learn_one` moves `score_one` only at the end of a window;
    until the first one is over every score is 0 and `learning` is true.

    Rows of one feature that lie in the middle, and one that does not:

    >>> import math
    >>> from stream_jobs.detectors.half_space_trees import HalfSpaceTrees
    >>> trees = HalfSpaceTrees(["load"], window_size=100)
    >>> for number in range(200):
    ...     trees.learn_one({"load": 0.5 + 0.1 * math.sin(number**2)})
    >>> round(trees.score_one({"load": 0.5}), 3), round(trees.score_one({"load": 0.95}), 3)
    (0.886, 0.997)
    """

    def __init__(
        self, features: Sequence[str], *, n_trees: int = 10, height: int = 8, window_size: int = 250, seed: int = 1
    ) -> None:
        if not 1 <= window_size <= 65_535 or not 1 <= height <= 15 or not 1 <= n_trees <= 1_000 or not features:
            raise ValueError(f"window_size {window_size}, height {height}, n_trees {n_trees}, {len(features)} features")
        self.features = tuple(sorted(features))
        self.n_trees, self.height, self.window_size, self.seed = n_trees, height, window_size, seed
        self._split_feature, self._split_at = _trees(len(self.features), n_trees, height, seed)
        self._clear()

    @property
    def learning(self) -> bool:
        """True until the first window of rows is over."""
        return self._first_window

    def score_one(self, x: Mapping[str, float]) -> float:
        """How unusual the row is, 0 to 1; 0 while learning. Features that are missing count as 0."""
        left, right = self._left.copy(), self._right.copy()
        scores, _, _ = self._run(self._row(x), left, right)
        return float(scores[0])

    def learn_one(self, x: Mapping[str, float]) -> None:
        """Count the row in."""
        self.score_then_learn_many(self._row(x))

    def score_then_learn_many(self, rows: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Score each row, then learn it, before the next. `rows` is (n, len(features)), finite.

        Returns the scores, and which of them were given while learning.
        """
        scores, counter, learnt_at = self._run(rows, self._left, self._right)
        learning = np.arange(len(rows)) < learnt_at
        self._counter, self._first_window = int(counter), bool(learnt_at > len(rows))
        return scores, learning

    def state(self) -> bytes:
        """Everything learnt: a header, then the masses of the leaves as uint16 (a node's mass is its leaves' sum)."""
        header = _HEADER.pack(
            _MAGIC, len(self.features), self.n_trees, self.height, int(self._first_window), self.window_size,
            self.seed, self._counter,
        )  # fmt: skip
        leaves = slice(2**self.height - 1, None)
        return header + b"".join(m[:, leaves].astype("<u2").tobytes() for m in (self._left, self._right))

    def restore(self, state: bytes) -> None:
        """Take over what `state` gave. Raises ValueError when it is broken or of other trees."""
        ours = (_MAGIC, len(self.features), self.n_trees, self.height, self.window_size, self.seed)
        leaves = self.n_trees * 2**self.height
        if len(state) != _HEADER.size + 4 * leaves:
            raise ValueError(f"half-space trees: {len(state)} bytes of state, {_HEADER.size + 4 * leaves} expected")
        magic, features, n_trees, height, first, window, seed, counter = _HEADER.unpack_from(state)
        if (magic, features, n_trees, height, window, seed) != ours or first > 1 or counter >= window:
            raise ValueError("half-space trees: the state belongs to other trees")
        masses = np.frombuffer(state, dtype="<u2", offset=_HEADER.size).reshape(2, self.n_trees, -1)
        if (masses[0].sum(axis=1) != counter).any() or (masses[1].sum(axis=1) != (0 if first else window)).any():
            raise ValueError("half-space trees: the masses do not add up")
        self._clear()
        self._left[:], self._right[:] = self._grown(masses[0]), self._grown(masses[1])
        self._counter, self._first_window = counter, bool(first)

    def _clear(self) -> None:
        shape = (self.n_trees, 2 ** (self.height + 1) - 1)
        self._left = np.zeros(shape, dtype=np.int32)
        self._right = np.zeros(shape, dtype=np.int32)
        self._counter, self._first_window = 0, True

    def _grown(self, leaves: NDArray[np.uint16]) -> NDArray[np.int32]:
        levels = [leaves.astype(np.int32)]
        for _ in range(self.height):
            levels.append(levels[-1].reshape(self.n_trees, -1, 2).sum(axis=2, dtype=np.int32))
        return np.concatenate(levels[::-1], axis=1)

    def _row(self, x: Mapping[str, float]) -> NDArray[np.float64]:
        return np.array([[float(x.get(name, 0.0)) for name in self.features]])

    def _run(
        self, rows: NDArray[np.float64], left: NDArray[np.int32], right: NDArray[np.int32]
    ) -> tuple[NDArray[np.float64], int, int]:
        from stream_jobs.detectors.compiled import score_then_learn  # numba takes a second to import

        scores = np.zeros(len(rows))
        counter, learnt_at = score_then_learn(
            rows, self._split_feature, self._split_at, left, right, self.height, self.window_size,
            self._counter, self._first_window, scores,
        )  # fmt: skip
        return scores, counter, learnt_at


@functools.lru_cache(maxsize=64)
def _trees(n_features: int, n_trees: int, height: int, seed: int) -> tuple[NDArray[np.int16], NDArray[np.float64]]:
    """Split feature and threshold of every inner node, (n_trees, 2^height - 1), children of i at 2i+1 and 2i+2."""
    rng = random.Random(seed)
    feature = np.zeros((n_trees, 2**height - 1), dtype=np.int16)
    at = np.zeros((n_trees, 2**height - 1))
    for tree in range(n_trees):
        _split(feature[tree], at[tree], 0, [(0.0, 1.0)] * n_features, height, rng)
    feature.setflags(write=False)
    at.setflags(write=False)
    return feature, at


def _split(
    feature: NDArray[np.int16],
    at: NDArray[np.float64],
    node: int,
    limits: list[tuple[float, float]],
    height: int,
    rng: random.Random,
) -> None:
    """The same draws in the same order as River's `make_padded_tree`."""
    on = rng.choices(range(len(limits)), weights=[high - low for low, high in limits])[0]
    low, high = limits[on]
    threshold = rng.uniform(low + PADDING * (high - low), high - PADDING * (high - low))
    feature[node], at[node] = on, threshold
    if height > 1:
        limits[on] = (low, threshold)
        _split(feature, at, 2 * node + 1, limits, height - 1, rng)
        limits[on] = (threshold, high)
        _split(feature, at, 2 * node + 2, limits, height - 1, rng)
        limits[on] = (low, high)
