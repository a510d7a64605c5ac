"""BERT's encoder over packed tokens: no padding outside attention, and no import of all of Transformers.

Only real tokens pass the linear layers, which are nine tenths of the work: on shopping queries 1.5 to 4 times the
throughput of a padded batch. A test holds it equal to Transformers' own `BertModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from inference_workers.engines.inputs import Ints, limit_of, pack
from inference_workers.engines.linear import ACTIVATIONS, PACKED_ACTIVATIONS, Linear, PackedLinear, linear_of
from inference_workers.engines.placement import Placement
from inference_workers.engines.scripted import Program, program, weights_of
from inference_workers.ports import Item

STEPWISE_TOKENS_MAX = 128
"""Longest input whose attention is computed step by step in bfloat16 on a CPU. torch's fused attention takes 2.3 times
as long for 6 tokens there and 1.3 times for 128; beyond, the scores of all pairs would take too much memory."""

GROUPS_MAX = 16
"""Most lengths of a batch whose inputs attend length by length: 8 % faster on a CPU than one padded attention for a
batch of shopping queries. With more of them the many small steps cost more than the padding."""

ROWS_MULTIPLE = 16
"""Packed tokens are filled up to a multiple of this on a CPU: oneDNN keeps a program for each count of rows that it has
seen, which took a worker from 1.0 to 1.7 GB."""

GROUPED_INPUTS_MIN = 32
"""Fewer inputs attend padded, and are not filled up: one alone took 6.4 ms instead of 4.5, nine 15.9 instead of 13.0;
32 take the same, and 64 take 63 ms instead of 76."""

Norm = tuple[Tensor, Tensor]
Groups = list[tuple[int, int, int]]
"""Runs of equally long inputs, in order: first packed token, inputs, length."""
Attention = tuple[Tensor, Tensor, Tensor] | None
"""[n * longest] where each place's token is packed, [tokens] where each token's place is, [n, 1, 1, longest] which
places are real. None where all inputs are equally long."""


@dataclass(frozen=True, slots=True)
class Encoded:
    """`states` are packed [tokens, hidden], or [n, hidden] of the first tokens alone; `lengths` [n] on the device."""

    states: Tensor
    lengths: Tensor
    tokens_computed: int


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: Linear
    attention_out: Linear
    attention_norm: Norm
    up: Linear
    down: Linear
    norm: Norm


def is_plain_bert(config: Mapping[str, Any]) -> bool:
    """Whether a model's configuration is one that `BertEncoder` computes: absolute positions, a known activation."""
    return (
        config.get("model_type") == "bert"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and config.get("hidden_act") in ACTIVATIONS
        and not config.get("is_decoder", False)
    )


class BertEncoder:
    """A BERT encoder (Devlin et al., 2019) from its weights by name. Inference only."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor], placement: Placement) -> None:
        """Raises KeyError for a weight that is missing."""
        self._placement = placement
        self._heads = int(config["num_attention_heads"])
        self._hidden = int(config["hidden_size"])
        self._scale = torch.tensor((self._hidden // self._heads) ** -0.5)
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        self._activation = str(config["hidden_act"])
        self._by_length = placement.device == "cpu" and not placement.compiled
        self._stepwise = placement.device == "cpu" and placement.dtype == torch.bfloat16 and not placement.compiled
        named = {name.removeprefix("bert."): weight for name, weight in weights.items()}

        def there(name: str) -> Tensor:
            return named[name].to(placement.device, placement.dtype)

        def pair(name: str) -> Norm:
            return there(f"{name}.weight"), there(f"{name}.bias")

        def linear(*names: str) -> Linear:
            parts = [pair(name) for name in names]
            return linear_of(torch.cat([one for one, _ in parts]), torch.cat([one for _, one in parts]), placement)

        self._words = there("embeddings.word_embeddings.weight")
        places = named["embeddings.position_embeddings.weight"]
        types = named["embeddings.token_type_embeddings.weight"]
        # Position and kind of a token are looked up at once: one row for each pair of them.
        self._places = (types[:, None, :] + places[None, :, :]).flatten(0, 1).to(placement.device, placement.dtype)
        self._positions = len(places)
        sizes = {"max_position_embeddings": len(places), "vocab_size": len(self._words), "type_vocab_size": len(types)}
        self._limit = limit_of({**config, **sizes})
        self._norm = pair("embeddings.LayerNorm")
        self._layers = []
        for number in range(int(config["num_hidden_layers"])):
            name = f"encoder.layer.{number}."
            self._layers.append(
                _Layer(
                    qkv=linear(*(f"{name}attention.self.{part}" for part in ("query", "key", "value"))),
                    attention_out=linear(name + "attention.output.dense"),
                    attention_norm=pair(name + "attention.output.LayerNorm"),
                    up=linear(name + "intermediate.dense"),
                    down=linear(name + "output.dense"),
                    norm=pair(name + "output.LayerNorm"),
                )
            )
        self._forward: Callable[..., Tensor] = self._all_layers
        self._weights: list[Tensor] = []
        self._program = self._as_program()
        if self._program is not None:
            self._forward = self._scripted
        if placement.compiled:
            self._forward = torch.compile(self._all_layers, dynamic=True)

    def encode(self, items: Sequence[Item], *, first_only: bool = False) -> Encoded:
        """Last hidden states of all tokens, packed, or of each item's first token alone. Raises EngineError."""
        packed = pack(items, self._limit)
        places = packed.positions if packed.types is None else packed.positions + packed.types * self._positions
        arrays = [packed.ids, places, packed.lengths, packed.starts]
        longest = int(packed.lengths.max())
        uneven = bool((packed.lengths != longest).any())
        groups = groups_of(packed.lengths) if self._by_length and len(items) >= GROUPED_INPUTS_MIN else None
        total = len(packed.ids)
        if groups is not None and (fill := -total % ROWS_MULTIPLE):
            groups.append((total, 1, fill))
            arrays[:2] = [np.pad(one, (0, fill)) for one in arrays[:2]]
        padded = uneven and groups is None
        if padded:
            arrays += _spread_of(packed.lengths, packed.starts, longest)
        ids, places_there, lengths, starts, *rest = self._placement.staging.send(arrays)
        attention: Attention = None
        if padded:
            real = torch.arange(longest, device=lengths.device)[None, :] < lengths[:, None]
            attention = rest[0], rest[1], real[:, None, None, :]
        first = starts if first_only else None
        states = self._forward(ids, places_there, attention, groups, first, len(items), longest)
        return Encoded(states if first_only else states[:total], lengths, len(arrays[0]))

    def _all_layers(
        self,
        ids: Tensor,
        places: Tensor,
        attention: Attention,
        groups: Groups | None,
        first: Tensor | None,
        count: int,
        longest: int,
    ) -> Tensor:
        x = self._words[ids] + self._places[places]
        x = self._normalised(x, self._norm)
        last = len(self._layers) - 1
        for number, layer in enumerate(self._layers):
            qkv = layer.qkv(x)
            if groups is None:
                attended = self._attended(qkv, attention, count, longest)
            else:
                attended = torch.empty_like(x)
                for begin, inputs, length in groups:
                    end = begin + inputs * length
                    attended[begin:end] = self._attended(qkv[begin:end], None, inputs, length)
            if number == last and first is not None:  # nobody looks at the other tokens any more
                attended, x = attended[first], x[first]
            x = self._normalised(layer.attention_out.added(attended, x), layer.attention_norm)
            x = self._normalised(layer.down.added(layer.up.activated(x, self._activation), x), layer.norm)
        return x

    def _as_program(self) -> Program | None:
        """The layers as one program, where all are packed and it can be made."""
        for layer in self._layers:
            linears = layer.qkv, layer.attention_out, layer.up, layer.down
            packed = [one for one in linears if isinstance(one, PackedLinear)]
            if len(packed) < len(linears):
                return None
            self._weights += weights_of(packed, [layer.attention_norm, layer.norm])
        return program() if self._layers else None

    def _scripted(
        self,
        ids: Tensor,
        places: Tensor,
        attention: Attention,
        groups: Groups | None,
        first: Tensor | None,
        count: int,
        longest: int,
    ) -> Tensor:
        """See `_all_layers`."""
        assert self._program is not None
        x = self._normalised(self._words[ids] + self._places[places], self._norm)
        spread, back, mask = (None, None, None) if attention is None else attention
        sizes = count, longest, self._heads, self._epsilon
        activation, _, algorithm = PACKED_ACTIVATIONS[self._activation]
        scale = self._scale if self._stepwise else None
        return self._program(
            x,
            self._weights,
            spread,
            back,
            mask,
            groups or [],
            first,
            *sizes,
            activation,
            algorithm,
            scale,
            STEPWISE_TOKENS_MAX,
        )

    def _attended(self, qkv: Tensor, attention: Attention, count: int, longest: int) -> Tensor:
        """Attention within each input: packed [tokens, 3 x hidden] to packed [tokens, hidden]."""
        padded = qkv if attention is None else qkv[attention[0]]
        query, key, value = padded.view(count, longest, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        mask = None if attention is None else attention[2]
        if self._stepwise and longest <= STEPWISE_TOKENS_MAX:
            scores = torch.matmul(query, key.transpose(-1, -2)).mul_(self._scale)
            if mask is not None:
                scores.masked_fill_(~mask, float("-inf"))
            out = torch.matmul(scores.softmax(-1), value)
        else:
            out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        out = out.transpose(1, 2).reshape(count * longest, self._hidden)
        return out if attention is None else out[attention[1]]

    def _normalised(self, x: Tensor, norm: Norm) -> Tensor:
        return functional.layer_norm(x, (self._hidden,), *norm, self._epsilon)


def groups_of(lengths: Ints) -> Groups | None:
    """Runs of equal lengths [n]; None when they are too many to be worth it."""
    starts = np.flatnonzero(np.diff(lengths, prepend=-1))
    if len(starts) > GROUPS_MAX:
        return None
    groups, begin = [], 0
    for start, end in pairwise([*starts.tolist(), len(lengths)]):
        count, length = end - start, int(lengths[start])
        groups.append((begin, count, length))
        begin += count * length
    return groups


def _spread_of(lengths: Ints, starts: Ints, longest: int) -> list[Ints]:
    """For padding and back: which packed token each of n * longest places shows, and the place of each token."""
    columns = np.arange(longest, dtype=np.int32)[None, :]
    real = columns < lengths[:, None]
    spread = np.where(real, starts[:, None] + columns, 0).ravel()
    return [spread.astype(np.int32), np.flatnonzero(real).astype(np.int32)]
