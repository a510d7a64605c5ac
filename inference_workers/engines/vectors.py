"""Embeddings: one vector an item, pooled from its tokens' states as the model's own files say. Without Transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from inference_workers.engines.bert import Encoded
from inference_workers.engines.failures import computed
from inference_workers.engines.placement import Placement
from inference_workers.models.registry import Pooling
from inference_workers.ports import Forward, Head, Item, NonFiniteOutput

NORM_MIN = 1e-12
"""Shorter vectors are not made longer: what Transformers and sentence-transformers divide by at least."""


class Encoder(Protocol):
    """Gives tokens' states."""

    def encode(self, items: Sequence[Item], *, first_only: bool = False) -> Encoded:
        """Last hidden states, packed: of all tokens, or of each item's first alone. Raises EngineError."""


class VectorEngine:
    """An `Engine` with `Head.VECTORS`. Pooling, norms and normalising are in float32 whatever the number type."""

    head = Head.VECTORS

    def __init__(self, encoder: Encoder, pooling: Pooling, *, normalise: bool, placement: Placement) -> None:
        self._encoder = encoder
        self._pooling = pooling
        self._normalise = normalise
        self._placement = placement

    def compute(self, items: Sequence[Item]) -> Forward:
        """See `Engine.compute`."""
        return computed(lambda: self._forward(items))

    def memory_bytes(self) -> int:
        """See `Engine.memory_bytes`."""
        return self._placement.memory_bytes()

    def close(self) -> None:
        """See `Engine.close`."""
        del self._encoder
        self._placement.release()

    def _forward(self, items: Sequence[Item]) -> Forward:
        first_only = self._pooling is Pooling.CLS
        encoded = self._encoder.encode(items, first_only=first_only)
        states = encoded.states.float()
        pooled = states if first_only else pool(states, encoded.lengths, self._pooling)
        return vectors_of(pooled, normalise=self._normalise, tokens_computed=encoded.tokens_computed)


def vectors_of(pooled: Tensor, *, normalise: bool, tokens_computed: int) -> Forward:
    """Float32 vectors [n, width] on the device as a `Forward`. Raises NonFiniteOutput."""
    norms = torch.linalg.vector_norm(pooled, dim=1)
    if normalise:
        pooled = pooled / norms.clamp_min(NORM_MIN)[:, None]
    rows, lengths = pooled.cpu().numpy(), norms.cpu().numpy()
    if not (np.isfinite(rows).all() and np.isfinite(lengths).all()):
        raise NonFiniteOutput(f"the model gave NaN or infinity for some of {len(rows)} inputs")
    return Forward(np.ascontiguousarray(rows, dtype="<f4"), lengths, tokens_computed)


def pool(states: Tensor, lengths: Tensor, pooling: Pooling) -> Tensor:
    """Packed token states [tokens, hidden] to one vector an item [n, hidden]; `lengths` [n] are their tokens."""
    counts = lengths.long()
    if pooling is Pooling.CLS:
        return states[torch.cumsum(counts, 0) - counts]
    if pooling is Pooling.LAST:
        return states[torch.cumsum(counts, 0) - 1]
    numbers = torch.arange(len(counts), device=states.device)
    owner = torch.repeat_interleave(numbers, counts, output_size=len(states))
    empty = torch.zeros(len(counts), states.shape[1], device=states.device)
    if pooling is Pooling.MAX:
        index = owner[:, None].expand_as(states)
        return empty.scatter_reduce(0, index, states, "amax", include_self=False)
    if pooling is Pooling.WEIGHTED_MEAN:  # each token weighs as much as its place: 1, 2, 3, ...
        weights = torch.arange(len(states), device=states.device) - (torch.cumsum(counts, 0) - counts)[owner] + 1
        sums = (counts * (counts + 1) / 2)[:, None]
        return empty.index_add(0, owner, states * weights[:, None]) / sums
    divisor = counts.sqrt() if pooling is Pooling.MEAN_SQRT else counts
    return empty.index_add(0, owner, states) / divisor[:, None]
