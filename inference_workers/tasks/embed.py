"""The task `embed`: vectors of a request's inputs to its answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from inference_workers.ports import Floats
from schemas.predictions import Embedding, EmbeddingNumbers
from schemas.requests import EncodingFormat
from schemas.vectors import encode_vector


def embeddings_of(vectors: Sequence[Floats], encoding_format: EncodingFormat) -> list[Embedding | EmbeddingNumbers]:
    """Vectors [dimension], little-endian float32 and contiguous, as they are put on the wire, in order."""
    if encoding_format == "float":
        return [EmbeddingNumbers.model_construct(numbers=vector.tolist()) for vector in vectors]
    return [
        Embedding.model_construct(vector=encode_vector(vector.data), dimension=vector.shape[0]) for vector in vectors
    ]
