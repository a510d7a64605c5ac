"""Classifiers and cross-encoders: one logit a label for each text or pair. Plain BERT without Transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from inference_workers.engines.bert import BertEncoder
from inference_workers.engines.failures import computed
from inference_workers.engines.placement import Placement
from inference_workers.ports import Forward, Head, Item, NonFiniteOutput


class Classifier(Protocol):
    """Gives logits."""

    @property
    def labels(self) -> Sequence[str]:
        """Names of the logits, in order."""

    def logits(self, items: Sequence[Item]) -> tuple[Tensor, int]:
        """[n, labels], and how many tokens were computed. Raises EngineError."""


class LogitEngine:
    """An `Engine` with `Head.LOGITS`."""

    head = Head.LOGITS

    def __init__(self, classifier: Classifier, placement: Placement) -> None:
        self.labels = tuple(classifier.labels)
        self._classifier = classifier
        self._placement = placement

    def compute(self, items: Sequence[Item]) -> Forward:
        """See `Engine.compute`."""
        return computed(lambda: self._forward(items))

    def memory_bytes(self) -> int:
        """See `Engine.memory_bytes`."""
        return self._placement.memory_bytes()

    def close(self) -> None:
        """See `Engine.close`."""
        del self._classifier
        self._placement.release()

    def _forward(self, items: Sequence[Item]) -> Forward:
        logits, tokens = self._classifier.logits(items)
        rows = np.ascontiguousarray(logits.float().cpu().numpy(), dtype="<f4")
        if not np.isfinite(rows).all():
            raise NonFiniteOutput(f"the model gave NaN or infinity for some of {len(rows)} inputs")
        return Forward(rows, np.zeros(len(rows), np.float32), tokens)


class BertClassifier:
    """`BertForSequenceClassification`: the first token's state through pooler and classifier, both in float32."""

    def __init__(self, config: Mapping[str, Any], weights: Mapping[str, Tensor], placement: Placement) -> None:
        """Raises KeyError for a weight that is missing."""
        self._encoder = BertEncoder(config, weights, placement)
        names = ("bert.pooler.dense.weight", "bert.pooler.dense.bias", "classifier.weight", "classifier.bias")
        self._head = [weights[name].to(placement.device, torch.float32) for name in names]
        self.labels = labels_of(config.get("id2label"), len(self._head[2]))

    def logits(self, items: Sequence[Item]) -> tuple[Tensor, int]:
        """See `Classifier.logits`."""
        encoded = self._encoder.encode(items, first_only=True)
        pooled = torch.tanh(functional.linear(encoded.states.float(), *self._head[:2]))
        return functional.linear(pooled, *self._head[2:]), encoded.tokens_computed


def labels_of(names: Any, count: int) -> list[str]:
    """The names of `count` logits by config.json's `id2label`; Transformers' own, LABEL_0 on, where it has none."""
    named = {int(number): str(name) for number, name in names.items()} if isinstance(names, Mapping) else {}
    return [named.get(number, f"LABEL_{number}") for number in range(count)]


def is_multi_label(config: Mapping[str, Any], count: int) -> bool:
    """Whether each of `count` logits is a probability of its own, as Transformers' text-classification decides."""
    return config.get("problem_type") == "multi_label_classification" or count == 1
