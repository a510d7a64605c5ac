"""Average precision of a score: the mean precision over the recalls it reaches, one threshold per distinct score.

The step-wise sum of Zhu, "Recall, precision and average precision" (Waterloo, 2004), without interpolation. A random
score gets about the share of anomalous points.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def average_precision(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    """Sum over thresholds, from high to low, of precision times what recall grew by. NaN scores rank last.

    `scores` and `labels` are (n,). Raises ValueError without an anomalous point.
    """
    if not labels.any():
        raise ValueError("no anomalous point")
    scores = np.nan_to_num(scores, nan=-np.inf, posinf=np.inf, neginf=-np.inf)
    order = np.argsort(-scores, kind="stable")
    scores, found = scores[order], np.cumsum(labels[order])
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
    found = found[ends]
    precision, recall = found / (ends + 1), found / found[-1]
    return float(np.sum(precision * np.diff(recall, prepend=0.0)))
