"""The task `rerank`: items ranked by how well they fit a query, with a bi-encoder or a cross-encoder. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from inference_workers.ports import EngineError, Floats, Similarity
from inference_workers.tasks.statistics import Statistics


class DimensionMismatch(EngineError):
    """A ready-made vector has another number of dimensions than the others."""

    code = "dimension_mismatch"


def similarities(query: Floats, items: Sequence[Floats], similarity: Similarity) -> list[float]:
    """How well each item's vector fits the query's. Raises DimensionMismatch.

    By cosine -1 to 1, and 0 for a vector of length 0; by dot product any number; by a distance its negative, 0 at most.
    """
    wrong = {len(item) for item in items} - {len(query)}
    if wrong:
        raise DimensionMismatch(f"the query has {len(query)} dimensions, an item {min(wrong)}")
    matrix = np.stack(items).astype(np.float64)
    vector = query.astype(np.float64)
    if similarity is Similarity.DOT:
        found = matrix @ vector
    elif similarity is Similarity.EUCLIDEAN:
        found = 0.0 - np.linalg.norm(matrix - vector, axis=1)
    elif similarity is Similarity.MANHATTAN:
        found = 0.0 - np.abs(matrix - vector).sum(1)
    else:
        lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(vector)
        found = np.clip(matrix @ vector / np.where(lengths > 0, lengths, 1.0), -1.0, 1.0)
    return [float(one) for one in found]


def probability_of(logit: float) -> float:
    """A cross-encoder's score, 0 to 1 (the logistic function, as sentence-transformers applies it to one label)."""
    return 1.0 / (1.0 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1.0 + math.exp(logit))


def ranking_of(scores: Sequence[float], top_n: int | None) -> list[dict[str, Any]]:
    """The items as `Ranked`, best first; the earlier one first among equals."""
    order = sorted(range(len(scores)), key=lambda i: (-scores[i], i))
    return [{"index": i, "score": scores[i]} for i in order[:top_n]]


def ranking_statistics(scores: Sequence[float]) -> Statistics:
    """The best score and how far the second is behind it: of probabilities or cosines, which have a scale."""
    ordered = sorted(scores, reverse=True)
    margin = ordered[0] - ordered[1] if len(ordered) > 1 else 0.0
    return Statistics(confidence=min(1.0, max(0.0, ordered[0])), margin=min(1.0, max(0.0, margin)))
