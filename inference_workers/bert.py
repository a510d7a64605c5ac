"""BERT's encoder over packed tokens: no padding outside attention, and no import of all of Transformers.

Only real tokens pass the linear layers, which are nine tenths of the work: on shopping queries 1.5 to 4 times the
throughput of a padded batch. A test holds it equal to Transformers' own `BertModel`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

ACTIVATIONS: dict[str, Any] = {"gelu": functional.gelu, "relu": functional.relu}


@dataclass(frozen=True, slots=True)
class _Layer:
    qkv: tuple[Tensor, Tensor]
    attention_out: tuple[Tensor, Tensor]
    attention_norm: tuple[Tensor, Tensor]
    up: tuple[Tensor, Tensor]
    down: tuple[Tensor, Tensor]
    norm: tuple[Tensor, Tensor]


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

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor], *, device: str, dtype: Any) -> None:
        """Raises KeyError for a weight that is missing."""
        self._device = device
        self._dtype = dtype
        self._heads = int(config["num_attention_heads"])
        self._hidden = int(config["hidden_size"])
        self._epsilon = float(config.get("layer_norm_eps", 1e-12))
        self._activation = ACTIVATIONS[config["hidden_act"]]
        named = {name.removeprefix("bert."): weight for name, weight in weights.items()}

        def pair(name: str) -> tuple[Tensor, Tensor]:
            return tuple(named[f"{name}.{part}"].to(device, dtype) for part in ("weight", "bias"))

        self._words = named["embeddings.word_embeddings.weight"].to(device, dtype)
        # One segment is all we have, so its embedding is added to the positions' once.
        positions = named["embeddings.position_embeddings.weight"] + named["embeddings.token_type_embeddings.weight"][0]
        self._positions = positions.to(device, dtype)
        self._norm = pair("embeddings.LayerNorm")
        self._layers = []
        for number in range(int(config["num_hidden_layers"])):
            name = f"encoder.layer.{number}."
            parts = [pair(f"{name}attention.self.{part}") for part in ("query", "key", "value")]
            self._layers.append(
                _Layer(
                    qkv=(torch.cat([weight for weight, _ in parts]), torch.cat([bias for _, bias in parts])),
                    attention_out=pair(name + "attention.output.dense"),
                    attention_norm=pair(name + "attention.output.LayerNorm"),
                    up=pair(name + "intermediate.dense"),
                    down=pair(name + "output.dense"),
                    norm=pair(name + "output.LayerNorm"),
                )
            )

    def encode(self, sequences: Sequence[Sequence[int]]) -> tuple[Tensor, int]:
        """Last hidden states of all tokens, packed [sum of lengths, hidden], and how many tokens were computed."""
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        total, longest = int(lengths.sum()), int(lengths.max())
        ids = np.fromiter((token for one in sequences for token in one), np.int64, total)
        starts = np.cumsum(lengths) - lengths
        positions = np.arange(total) - np.repeat(starts, lengths)
        attend = self._attention_over(lengths, starts, longest)
        x = self._words[self._to_device(ids)] + self._positions[self._to_device(positions)]
        x = self._normalise(x, self._norm)
        for layer in self._layers:
            attended = attend(functional.linear(x, *layer.qkv))
            x = self._normalise(functional.linear(attended, *layer.attention_out) + x, layer.attention_norm)
            wide = self._activation(functional.linear(x, *layer.up))
            x = self._normalise(functional.linear(wide, *layer.down) + x, layer.norm)
        return x, total

    def _attention_over(self, lengths: Any, starts: Any, longest: int) -> Any:
        """Attention within each sequence: packed [tokens, 3 x hidden] to packed [tokens, hidden]."""
        count = len(lengths)
        shape = (count, longest, 3, self._heads, self._hidden // self._heads)
        real = np.arange(longest)[None, :] < lengths[:, None]
        if bool(real.all()):
            spread, packed, mask = None, None, None
        else:
            spread = self._to_device(np.where(real, starts[:, None] + np.arange(longest)[None, :], 0).ravel())
            packed = self._to_device(np.flatnonzero(real))
            mask = self._to_device(real)[:, None, None, :]

        def attend(qkv: Tensor) -> Tensor:
            padded = qkv if spread is None else qkv[spread]
            query, key, value = padded.view(shape).permute(2, 0, 3, 1, 4)
            out = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            out = out.transpose(1, 2).reshape(count * longest, self._hidden)
            return out if packed is None else out[packed]

        return attend

    def _normalise(self, x: Tensor, norm: tuple[Tensor, Tensor]) -> Tensor:
        return functional.layer_norm(x, (self._hidden,), *norm, self._epsilon)

    def _to_device(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self._device, non_blocking=True)
