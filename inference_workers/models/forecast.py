"""How much memory a model will take, before any of it is read: weights, activations, key-value cache. Pure.

A forecast, not a promise: it leaves out allocators' fragments and counts what is usual in a Transformer's forward
pass. Measured on a CPU, all-MiniLM-L6-v2: forecast 248 and 568 MB, peak 231 and 583 MB at 4,096 and 16,384 tokens in
float32; 152 and 322 MB, 147 and 308 MB in bfloat16. A test holds it within a factor of 2.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from inference_workers.models.weight_headers import WeightFacts
from inference_workers.ports import Head

BYTES_OF: Mapping[str, float] = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 1.1}
"""Bytes of a weight by number type. int8 has a scale for each row and keeps the norms wide: a tenth more."""
ACTIVATION_BYTES_OF: Mapping[str, int] = {"float32": 4, "bfloat16": 2, "float16": 2, "int8": 2}
WORKSPACE_BYTES: Mapping[str, int] = {"cpu": 48 * 1_048_576, "cuda": 320 * 1_048_576}
"""What computing takes besides the model. cpu, measured: what all-MiniLM-L6-v2 took beyond weights and activations;
cuda: libraries' workspaces and compiled kernels (the context is there by the time free memory is asked for)."""
HIDDEN_BUFFERS = 8
"""Buffers of [tokens, hidden] alive at once in a layer: residual, queries, keys, values, attention's output, a copy."""
WIDE_BUFFERS = 2
"""Buffers of [tokens, intermediate] alive at once: before and after the activation."""
SIZE_MAX = 1 << 31
"""A size that is larger is none: no model has a dimension of 2 billion."""
GB = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Forecast:
    """Bytes that a model will take beyond what is held already. `loading_bytes` are needed only while it is loaded."""

    weights_bytes: int
    loading_bytes: int
    activations_bytes: int
    cache_bytes: int
    workspace_bytes: int

    @property
    def total_bytes(self) -> int:
        """The most that is held at once: loading and computing do not happen at the same time."""
        computing = self.activations_bytes + self.cache_bytes
        return self.weights_bytes + self.workspace_bytes + max(self.loading_bytes, computing)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a model's configuration says of its size; 0 where it says nothing."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_width: int
    vocabulary: int


def forecast(
    facts: WeightFacts, config: Mapping[str, Any], head: Head, *, dtype: str, device: str, tokens: int, items: int
) -> Forecast:
    """The forecast for forward passes of at most `tokens` tokens, padding included, and `items` items."""
    shape = shape_of(config)
    width = ACTIVATION_BYTES_OF.get(dtype, 4)
    # Pooling and norms are computed in float32 whatever the number type: one more buffer of 4 bytes.
    activations = tokens * (
        (HIDDEN_BUFFERS * shape.hidden + WIDE_BUFFERS * shape.intermediate) * width + 4 * shape.hidden
    )
    cache = 0
    if head is Head.TOKENS:
        cache = 2 * shape.layers * shape.kv_heads * shape.head_width * tokens * width
        activations += 2 * items * shape.vocabulary * 4  # logits of the last position and their probabilities
    return Forecast(
        weights_bytes=round(facts.parameters * BYTES_OF.get(dtype, 4)) + facts.other_bytes,
        loading_bytes=facts.largest_tensor_bytes,
        activations_bytes=activations,
        cache_bytes=cache,
        workspace_bytes=WORKSPACE_BYTES.get(device, 0),
    )


def shape_of(config: Mapping[str, Any]) -> Shape:
    """Sizes by the names that architectures give them; of a model of several parts, the largest of each."""
    parts = [config, *(one for name, one in config.items() if name.endswith("_config") and isinstance(one, dict))]

    def size(*names: str) -> int:
        found = (part.get(name) for part in parts for name in names)
        return max((one for one in found if type(one) is int and 0 < one < SIZE_MAX), default=0)

    hidden = size("hidden_size", "n_embd", "d_model", "dim")
    heads = size("num_attention_heads", "n_head", "n_heads")
    return Shape(
        hidden=hidden,
        intermediate=size("intermediate_size", "n_inner", "d_ff", "hidden_dim") or 4 * hidden,
        layers=size("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
        heads=heads,
        kv_heads=size("num_key_value_heads") or heads,
        head_width=size("head_dim") or (hidden // heads if heads else 0),
        vocabulary=size("vocab_size"),
    )


def shortage(wanted: Forecast, free_bytes: int) -> str | None:
    """Why the model does not fit, in words; None when it does."""
    if wanted.total_bytes <= free_bytes:
        return None
    return (
        f"it would take {wanted.total_bytes / GB:.2f} GB of memory (weights {wanted.weights_bytes / GB:.2f}, computing "
        f"{(wanted.activations_bytes + wanted.cache_bytes) / GB:.2f}, workspace {wanted.workspace_bytes / GB:.2f}) and "
        f"{free_bytes / GB:.2f} GB are free"
    )
