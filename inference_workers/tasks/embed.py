"""The task `embed`: vectors of a request's inputs to its answer. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference_workers.ports import Floats
from schemas.requests import EncodingFormat
from schemas.vectors import encode_vector


def embeddings_of(vectors: Sequence[Floats], encoding_format: EncodingFormat) -> list[dict[str, Any]]:
    """Vectors [dimension], little-endian float32 and contiguous, as `Embedding` or `EmbeddingNumbers`, in order."""
    if encoding_format == "float":
        return [{"numbers": vector.tolist()} for vector in vectors]
    return [{"vector": encode_vector(vector.data), "dimension": vector.shape[0]} for vector in vectors]
