"""Tiny models of random weights on disk, whole enough for a real engine, and an engine that computes them in numpy."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.normalizers import Lowercase
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from inference_workers.loading.device import DeviceFacts
from inference_workers.loading.load import Outside
from inference_workers.ports import Forward, Head, Tokens
from tests.fakes import FakeClock

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "red", "blue", "shoes", "jeans", "hat", "tv", "warm", "up", "a", "green"]
HIDDEN, INTERMEDIATE, POSITIONS = 8, 16, 32


def tiny_bert(
    folder: Path, *, architecture: str = "BertModel", labels: int = 0, seed: int = 0, layers: int = 1
) -> Path:
    """Write a BERT with a tokeniser of `WORDS`; with `labels` and `BertForSequenceClassification` a classifier."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(bert_weights(np.random.default_rng(seed), labels, layers), folder / "model.safetensors", {"format": "pt"})
    config = {
        "architectures": [architecture],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": HIDDEN,
        "intermediate_size": INTERMEDIATE,
        "max_position_embeddings": POSITIONS,
        "num_attention_heads": 2,
        "num_hidden_layers": layers,
        "pad_token_id": 0,
        "type_vocab_size": 2,
        "vocab_size": len(WORDS),
    }
    if labels:
        config["id2label"] = {str(number): f"LABEL_{number}" for number in range(labels)}
    (folder / "config.json").write_text(json.dumps(config))
    write_tokeniser(folder)
    return folder


def with_modules(folder: Path, pooling: dict[str, Any] | None, normalise: dict[str, Any] | None = None) -> None:
    """The files that sentence-transformers 6.2 saves beside a model. `pooling` None: a Transformer alone."""
    kinds = ["base.modules.transformer.Transformer"]
    kinds += [] if pooling is None else ["sentence_transformer.modules.pooling.Pooling"]
    kinds += [] if normalise is None else ["base.modules.normalize.Normalize"]
    paths = ["", "1_Pooling", "2_Normalize"]
    modules = [
        {"idx": i, "name": str(i), "path": paths[i], "type": f"sentence_transformers.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    for path, said in (("1_Pooling", pooling), ("2_Normalize", normalise)):
        if said is not None:
            (folder / path).mkdir(exist_ok=True)
            (folder / path / "config.json").write_text(json.dumps(said))


def bert_weights(random: np.random.Generator, labels: int, layers: int) -> dict[str, np.ndarray]:
    def numbers(*shape: int) -> np.ndarray:
        return random.normal(0, 0.3, shape).astype(np.float32)

    def norm(name: str) -> dict[str, np.ndarray]:
        return {f"{name}.weight": np.ones(HIDDEN, np.float32), f"{name}.bias": np.zeros(HIDDEN, np.float32)}

    def linear(name: str, out: int, width: int) -> dict[str, np.ndarray]:
        return {f"{name}.weight": numbers(out, width), f"{name}.bias": numbers(out)}

    prefix = "bert." if labels else ""
    named = {
        "embeddings.word_embeddings.weight": numbers(len(WORDS), HIDDEN),
        "embeddings.position_embeddings.weight": numbers(POSITIONS, HIDDEN),
        "embeddings.token_type_embeddings.weight": numbers(2, HIDDEN),
        **norm("embeddings.LayerNorm"),
        **linear("pooler.dense", HIDDEN, HIDDEN),
    }
    for number in range(layers):
        layer = f"encoder.layer.{number}."
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            named |= linear(layer + part, HIDDEN, HIDDEN)
        named |= norm(layer + "attention.output.LayerNorm") | norm(layer + "output.LayerNorm")
        named |= linear(layer + "intermediate.dense", INTERMEDIATE, HIDDEN)
        named |= linear(layer + "output.dense", HIDDEN, INTERMEDIATE)
    named = {prefix + name: weight for name, weight in named.items()}
    return named | (linear("classifier", labels, HIDDEN) if labels else {})


def write_tokeniser(folder: Path) -> None:
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = Lowercase()
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"unk_token": "[UNK]", "model_max_length": POSITIONS}))


@dataclass
class NumpyEngine:
    """The mean of the word embeddings: as vector, times the classifier as logits, or the likeliest word each time.

    `skew` is added to the first number of each embedding: a model that computes something else than it did.
    """

    head: Head
    weights: dict[str, np.ndarray]
    skew: float = 0.0
    error: Exception | None = None
    computed: list = field(default_factory=list)
    closed: bool = False

    def compute(self, items):
        if self.error is not None:
            raise self.error
        self.computed.append([len(item.ids) for item in items])
        means = np.stack([self._mean(item.ids) for item in items])
        norms = np.linalg.norm(means, axis=1).astype(np.float32)
        tokens = sum(len(item.ids) for item in items)
        if self.head is Head.VECTORS:
            return Forward(means / norms[:, None], norms, tokens)
        if self.head is Head.LOGITS:
            logits = means @ self.weights["classifier.weight"].T + self.weights["classifier.bias"]
            return Forward(logits.astype(np.float32), np.zeros_like(norms), tokens)
        return Forward([self._generate(item) for item in items], np.zeros_like(norms), tokens)

    def _mean(self, ids):
        mean = self._words[list(ids)].mean(0)
        mean[0] += self.skew
        return mean.astype(np.float32)

    def _generate(self, item):
        ids = list(item.ids)
        for _ in range(item.sampling.max_tokens):
            scores = self._words @ self._mean(ids)
            scores[ids] = -np.inf
            ids.append(int(scores.argmax()))
        return Tokens(tuple(ids[len(item.ids) :]), "length", 0.5)

    @property
    def _words(self):
        return next(weight for name, weight in self.weights.items() if name.endswith("word_embeddings.weight"))

    def memory_bytes(self):
        return 1_000

    def close(self):
        self.closed = True


@dataclass
class TinyEngine:
    """A `LoadedEngine` of one."""

    engine: NumpyEngine
    labels: tuple[str, ...] = ()
    multi_label: bool = False
    images: bool = False
    description: str = "cpu numpy float32"


class Engines:
    """Loads tiny models, keeps the engines it made, and says that so much memory is free."""

    def __init__(self, *, free=10**12, error=None, **options):
        self.free, self.error, self.options, self.made = free, error, options, []

    def load_engine(self, settings, model):
        if self.error is not None:
            raise self.error
        weights = {name: weight for path in model.weights for name, weight in load_file(path).items()}
        labels = tuple(model.config.get("id2label", {}).values())
        self.made.append(NumpyEngine(model.head, weights, **self.options))
        return TinyEngine(self.made[-1], labels)

    def device(self, settings):
        return DeviceFacts("cpu", "float32", lambda: self.free, lambda: 5_000 + 700 * len(self.made))

    def outside(self):
        return Outside(self.device, self.load_engine, FakeClock())
