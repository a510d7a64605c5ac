"""Items as arrays of integers: packed without padding, or padded. No torch.

A token or a position beyond a model's tables is an error here. On CUDA it would poison the device for the process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inference_workers.models.registry import POSITIONS_AFTER_PADDING
from inference_workers.ports import EngineError, Item

Ints = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class InputLimit:
    """What a model has numbers for; 0 where it does not say. `types` are its kinds of token (segments)."""

    tokens: int
    vocabulary: int
    types: int = 1

    def check(self, lengths: Ints, ids: Ints) -> None:
        """Raise EngineError for inputs that are empty, too long, or of another vocabulary."""
        if not lengths.all():
            raise EngineError("an input has no tokens")
        if self.tokens and int(lengths.max()) > self.tokens:
            raise EngineError(f"an input has {lengths.max()} tokens, the model takes {self.tokens}")
        if int(ids.min()) < 0 or (self.vocabulary and int(ids.max()) >= self.vocabulary):
            raise EngineError(f"a token is outside the model's vocabulary of {self.vocabulary}")


def limit_of(config: Mapping[str, Any]) -> InputLimit:
    """The limits that a model's configuration names."""
    positions = config.get("max_position_embeddings", config.get("n_positions")) or 0
    if positions and config.get("model_type") in POSITIONS_AFTER_PADDING:
        padding = config.get("pad_token_id")
        positions -= (padding if isinstance(padding, int) else 1) + 1
    return InputLimit(int(positions), int(config.get("vocab_size") or 0), int(config.get("type_vocab_size") or 1))


@dataclass(frozen=True, slots=True)
class Packed:
    """All tokens one after the other: `ids`, `positions` within their input and `types` are [tokens]; `lengths` [n]."""

    ids: Ints
    positions: Ints
    types: Ints | None
    lengths: Ints
    starts: Ints


def pack(items: Sequence[Item], limit: InputLimit) -> Packed:
    """The items' tokens, packed; `types` only where an item is a pair. Raises EngineError."""
    lengths = np.fromiter((len(item.ids) for item in items), np.int32, len(items))
    total = int(lengths.sum())
    ids = np.fromiter(chain.from_iterable(item.ids for item in items), np.int32, total)
    limit.check(lengths, ids)
    starts = (np.cumsum(lengths) - lengths).astype(np.int32)
    positions = np.arange(total, dtype=np.int32) - np.repeat(starts, lengths)
    types = None
    if limit.types > 1 and any(item.second is not None for item in items):
        types = (positions >= np.repeat(_seconds(items, lengths), lengths)).astype(np.int32)
    return Packed(ids, positions, types, lengths, starts)


@dataclass(frozen=True, slots=True)
class Padded:
    """[n, longest] each: `ids`, `mask` (1 for a token, 0 for padding) and `types`."""

    ids: Ints
    mask: Ints
    types: Ints


def pad(items: Sequence[Item], limit: InputLimit, padding: int, *, left: bool = False) -> Padded:
    """The items' tokens as rows of equal length, padded with the token `padding`. Raises EngineError."""
    lengths = np.fromiter((len(item.ids) for item in items), np.int32, len(items))
    flat = np.fromiter(chain.from_iterable(item.ids for item in items), np.int32, int(lengths.sum()))
    limit.check(lengths, flat)
    columns = np.arange(int(lengths.max()), dtype=np.int32)[None, :]
    real = columns >= columns.shape[1] - lengths[:, None] if left else columns < lengths[:, None]
    ids = np.full(real.shape, padding, np.int32)
    ids[real] = flat
    types = real & (columns >= _seconds(items, lengths)[:, None])
    return Padded(ids, real.astype(np.int32), types.astype(np.int32))


def _seconds(items: Sequence[Item], lengths: Ints) -> Ints:
    """Where each item's second text begins; its end where it has none."""
    pairs = zip(items, lengths.tolist(), strict=True)
    return np.fromiter((end if one.second is None else one.second for one, end in pairs), np.int32, len(items))
