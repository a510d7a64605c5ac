"""The task `classify`: logits to labels with probabilities, as Transformers' text-classification does. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from inference_workers.ports import Floats

LABELS_MAX = 100
"""Most labels of an answer."""


def probabilities_of(logits: Floats, *, multi_label: bool) -> list[float]:
    """[labels]: each a logistic function of its own when `multi_label` or with a single label, else a softmax."""
    wide = logits.astype(np.float64)
    if multi_label or len(wide) == 1:
        small = np.exp(-np.abs(wide))
        return [float(one) for one in np.where(wide >= 0, 1.0, small) / (1.0 + small)]
    exponents = np.exp(wide - wide.max())
    return [float(one) for one in exponents / exponents.sum()]


def classification_of(probabilities: Sequence[float], labels: Sequence[str]) -> dict[str, Any]:
    """A `Classification`: the likeliest labels first; the earlier one first among equals."""
    order = sorted(range(len(probabilities)), key=lambda i: (-probabilities[i], i))[:LABELS_MAX]
    return {"labels": [{"label": labels[i], "probability": probabilities[i]} for i in order]}
