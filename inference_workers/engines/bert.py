"""BERT's encoder over packed tokens: no padding outside attention, and no import of all of Transformers.

Only real tokens pass the linear layers, which are nine tenths of the work: on shopping queries 1.5 to 4 times the
throughput of a padded batch. A test holds it equal to Transformers' own `BertModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from inference_workers.engines.inputs import limit_of, pack
from inference_workers.engines.linear import ACTIVATIONS, PACKED_ACTIVATIONS, Linear, PackedLinear, linear_of
from inference_workers.engines.placement import Placement
from inference_workers.engines.places import GROUP_SCORES, Group, places_of, rows_multiple
from inference_workers.engines.scripted import Program, mixed, program, weights_of
from inference_workers.ports import Item

STEPWISE_TOKENS_MAX = 128
"""Longest input whose attention is computed step by step in bfloat16 on a CPU. torch's fused attention takes 2.3 times
as long for 6 tokens there and 1.3 times for 128; beyond, the scores of all pairs would take too much memory."""

Norm = tuple[Tensor, Tensor]
Attention = tuple[Tensor | None, Tensor | None, Tensor | None]
"""`Places.padding` on the device, the mask as truth; None each where there is none."""


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
        total = len(packed.ids)
        rows = total + (-total % rows_multiple(total) if self._by_length else 0)
        scores = GROUP_SCORES // self._heads if self._by_length else None
        seen = places_of(packed.lengths, packed.starts, rows, scores=scores)
        arrays: list[NDArray[Any]] = [np.pad(one, (0, rows - total)) for one in (packed.ids, places)]
        arrays += [packed.lengths, packed.starts]
        arrays += seen.padding or ()
        ids, places_there, lengths, starts, *rest = self._placement.staging.send(arrays)
        attention: Attention = (rest[0], rest[1], rest[2] != 0) if rest else (None, None, None)
        states = self._forward(ids, places_there, attention, seen.groups, starts if first_only else None)
        return Encoded(states if first_only else states[:total], lengths, rows)

    def _all_layers(
        self,
        ids: Tensor,
        places: Tensor,
        attention: Attention,
        groups: list[Group],
        first: Tensor | None,
    ) -> Tensor:
        x = self._words[ids] + self._places[places]
        x = self._normalised(x, self._norm)
        scale = self._scale if self._stepwise else None
        last = len(self._layers) - 1
        for number, layer in enumerate(self._layers):
            qkv = layer.qkv(x)
            seen = mixed(qkv, *attention, groups, self._heads, scale, STEPWISE_TOKENS_MAX)
            if number == last and first is not None:  # nobody looks at the other tokens any more
                seen, x = seen[first], x[first]
            x = self._normalised(layer.attention_out.added(seen, x), layer.attention_norm)
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
        groups: list[Group],
        first: Tensor | None,
    ) -> Tensor:
        """See `_all_layers`."""
        assert self._program is not None
        x = self._normalised(self._words[ids] + self._places[places], self._norm)
        activation, _, algorithm = PACKED_ACTIVATIONS[self._activation]
        scale = self._scale if self._stepwise else None
        numbers = self._heads, self._epsilon, activation, algorithm, scale, STEPWISE_TOKENS_MAX
        return self._program(x, self._weights, *attention, groups, first, *numbers)

    def _normalised(self, x: Tensor, norm: Norm) -> Tensor:
        return functional.layer_norm(x, (self._hidden,), *norm, self._epsilon)
