"""What the worker needs of an engine, and how a computation fails. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Head(StrEnum):
    """What a model gives for one item: a vector, scores of labels, or more tokens. Decides which tasks it can do."""

    VECTORS = "vectors"
    LOGITS = "logits"
    TOKENS = "tokens"


class Similarity(StrEnum):
    """How well two vectors fit each other, more is better: what sentence-transformers calls `similarity_fn_name`."""

    COSINE = "cosine"
    DOT = "dot"
    EUCLIDEAN = "euclidean"
    MANHATTAN = "manhattan"


class Place(NamedTuple):
    """A request's identity (`schemas.base.Identity`) as a tuple: millions of them are made, and each is checked by
    being a position in a log."""

    cluster_id: str
    topic_id: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.cluster_id}/{self.topic_id}/{self.partition}/{self.offset}"


class EngineError(Exception):
    """These inputs could not be computed; others may be. `code` is for programs."""

    code: ClassVar[str] = "compute_error"


class OutOfMemory(EngineError):
    """The inputs took more memory than there is: fewer at once may do."""

    code = "out_of_memory"


class NonFiniteOutput(EngineError):
    """The model gave NaN or infinity. Never a prediction."""

    code = "non_finite_output"


class WrongShape(EngineError):
    """The model gave another number of results than it was given items. Never a prediction."""

    code = "wrong_shape"


class DeviceLost(Exception):
    """The device's context is poisoned: nothing can be computed by this process any more. It must end."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to generate: at most `max_tokens`, greedy at temperature 0. Equal seeds give equal tokens."""

    max_tokens: int
    temperature: float = 0.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Item:
    """One thing that a model computes: token ids, special ones included, or an image; never both.

    `second` is where the second text of a pair begins in `ids` (token type 1), None for a single text. `pixels` is
    [channels, height, width] float32 as the model's processor makes it. `content` names what it is, so that equal
    items are computed once and found in the cache: equal content, equal result of one model.
    """

    ids: Sequence[int]
    content: bytes
    second: int | None = None
    pixels: Floats | None = None
    sampling: Sampling | None = None
    cost: int = 0
    """Tokens it counts for in a batch's budget, at least 1."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What was generated: token ids without the prompt, why it ended, and the mean probability of the tokens."""

    ids: tuple[int, ...]
    finish_reason: Literal["stop", "length"]
    probability: float = 0.0


@dataclass(frozen=True, slots=True)
class Forward:
    """The results of one forward pass, in the order of its items.

    `rows` is [n, width] float32, finite: normalised vectors (`Head.VECTORS`) or logits (`Head.LOGITS`); with
    `Head.TOKENS` a list of `Tokens`. `norms` [n] are the vectors' lengths before normalising, zeros for other heads.
    `tokens_computed` counts the tokens that went through the model, padding included.
    """

    rows: Any
    norms: Floats
    tokens_computed: int


class Engine(Protocol):
    """A loaded model. Used by one thread."""

    @property
    def head(self) -> Head:
        """What it gives."""

    def compute(self, items: Sequence[Item]) -> Forward:
        """One forward pass, in order. Blocks. Raises EngineError, or DeviceLost."""

    def memory_bytes(self) -> int:
        """Memory held now: of the device on CUDA, else resident memory of the process."""

    def close(self) -> None:
        """Give the memory back. Nothing is computed after."""
