"""A loaded model as the worker serves it: what it is called, its tokeniser, its engine, what it can do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from inference_workers.models.tokenise import Tokeniser
from inference_workers.ports import Engine, Head, Item, Similarity
from schemas.predictions import ModelRef
from schemas.requests import ImageReference, Task

LABEL_CHARACTERS_MAX = 200
"""Longest name of a label in an answer."""
TASKS: dict[Head, frozenset[Task]] = {
    Head.VECTORS: frozenset({"embed", "rerank"}),
    Head.LOGITS: frozenset({"classify", "rerank"}),
    Head.TOKENS: frozenset({"generate"}),
}
"""Which tasks a head can do; a classifier ranks only when it has one label (a cross-encoder)."""


@dataclass(slots=True, eq=False)
class Servable:
    """A loaded, warmed and checked model. `labels` are the names of its logits; `device` is told in telemetry.

    `multi_label` says that each logit is a probability of its own (sigmoid), else they share one (softmax); without
    `classifies` they are no probabilities at all, and only rank. `similarity` is how its vectors are compared.
    """

    ref: ModelRef
    tokeniser: Tokeniser
    engine: Engine
    device: str
    tokens_max: int
    labels: Sequence[str] = ()
    multi_label: bool = False
    classifies: bool = True
    similarity: Similarity = Similarity.COSINE
    images: bool = False
    read_image: Callable[[ImageReference], Item] | None = None
    """Reads an image that a request names, as this model wants it; None where no folder is set. Raises Refused."""
    variant: str = ""
    """What else its results depend on: where it lies, pooling, normalising."""
    load_seconds: float = 0.0
    """How long it took to load, warm and check; 0: not known."""
    tasks: frozenset[Task] = field(init=False)
    cache_name: bytes = field(init=False)
    """What its results depend on: weights, number type, how much of a text it reads."""

    def __post_init__(self) -> None:
        self.labels = [name[:LABEL_CHARACTERS_MAX] or f"LABEL_{i}" for i, name in enumerate(self.labels)]
        can = TASKS[self.engine.head]
        if self.engine.head is Head.LOGITS and len(self.labels) != 1:
            can = can - {"rerank"}
        if not self.classifies:
            can = can - {"classify"}
        self.tasks = can
        named = f"{self.ref.digest}|{self.ref.name}|{self.ref.version}|{self.device}|{self.tokens_max}|{self.variant}"
        self.cache_name = hashlib.blake2b(named.encode(), digest_size=16).digest()
