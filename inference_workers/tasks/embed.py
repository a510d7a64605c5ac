"""The task `embed`: vectors of a request's inputs to its answer. Pure."""

from __future__ import annotations

from inference_workers.ports import Vectors
from schemas.predictions import Embedding
from schemas.vectors import encode_vector


def embeddings_of(vectors: Vectors) -> list[Embedding]:
    """Vectors [inputs, dimension], little-endian float32 and contiguous, as they are put on the wire, in order."""
    dimension = vectors.shape[1]
    return [Embedding(vector=encode_vector(row.data), dimension=dimension) for row in vectors]
