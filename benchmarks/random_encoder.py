"""A 110-million-parameter encoder with random weights: BERT-base's shape, the default model's tokeniser.

For speed alone: what it computes means nothing, and costs what a trained model of that shape costs.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

SHAPE = {"hidden_size": 768, "intermediate_size": 3_072, "num_attention_heads": 12, "num_hidden_layers": 12}
INITIAL_DEVIATION = 0.02
"""BERT's own initializer_range."""
SEED = 20


def write_random_encoder(like: Path, folder: Path, shape: dict[str, int] | None = None) -> int:
    """Write it to `folder`, with tokeniser, pooling and normalising of the model in `like`. Returns its parameters."""
    shape = SHAPE | (shape or {})
    shutil.copytree(like, folder, ignore=shutil.ignore_patterns("*.safetensors", "*.bin", "config.json"))
    config = json.loads((like / "config.json").read_bytes()) | shape | {"_name_or_path": "random"}
    (folder / "config.json").write_text(json.dumps(config))
    for path in like.glob("*/config.json"):  # pooling: its dimension is the model's
        module = json.loads(path.read_bytes())
        if "word_embedding_dimension" in module:
            module["word_embedding_dimension"] = shape["hidden_size"]
        target = folder / path.relative_to(like)
        target.parent.mkdir(exist_ok=True)
        target.write_text(json.dumps(module))
    random = np.random.default_rng(SEED)
    weights = {name: _values(name, size, random) for name, size in _shapes(config)}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return sum(array.size for array in weights.values())


def _values(name: str, size: tuple[int, ...], random: np.random.Generator) -> NDArray[np.float32]:
    if name.endswith(".bias"):
        return np.zeros(size, np.float32)
    if "LayerNorm" in name:
        return np.ones(size, np.float32)
    return random.standard_normal(size, np.float32) * np.float32(INITIAL_DEVIATION)


def _shapes(config: dict[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Every weight of Transformers' `BertModel` and its shape."""
    hidden, wide = config["hidden_size"], config["intermediate_size"]
    yield "embeddings.word_embeddings.weight", (config["vocab_size"], hidden)
    yield "embeddings.position_embeddings.weight", (config["max_position_embeddings"], hidden)
    yield "embeddings.token_type_embeddings.weight", (config["type_vocab_size"], hidden)
    yield from _both("embeddings.LayerNorm", (hidden,))
    for number in range(config["num_hidden_layers"]):
        layer = f"encoder.layer.{number}."
        for part in ("query", "key", "value"):
            yield from _both(f"{layer}attention.self.{part}", (hidden, hidden))
        yield from _both(layer + "attention.output.dense", (hidden, hidden))
        yield from _both(layer + "attention.output.LayerNorm", (hidden,))
        yield from _both(layer + "intermediate.dense", (wide, hidden))
        yield from _both(layer + "output.dense", (hidden, wide))
        yield from _both(layer + "output.LayerNorm", (hidden,))
    yield from _both("pooler.dense", (hidden, hidden))


def _both(name: str, size: tuple[int, ...]) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", size
    yield f"{name}.bias", size[:1]
