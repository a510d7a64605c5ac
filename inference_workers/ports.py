"""What the worker needs of an engine, and how a computation fails. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]


class EngineError(Exception):
    """These inputs could not be computed; others may be. `code` is for programs."""

    code: ClassVar[str] = "compute_error"


class OutOfMemory(EngineError):
    """The inputs took more memory than there is: fewer at once may do."""

    code = "out_of_memory"


class NonFiniteOutput(EngineError):
    """The model gave NaN or infinity. Never a prediction."""

    code = "non_finite_output"


class DeviceLost(Exception):
    """The device's context is poisoned: nothing can be computed by this process any more. It must end."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """One forward pass: `vectors` [n, dimension] and their lengths before normalising `norms` [n], float32, finite.

    `tokens_computed` counts the tokens that went through the model, padding included.
    """

    vectors: Vectors
    norms: Vectors
    tokens_computed: int


class Engine(Protocol):
    """A loaded model. Used by one thread."""

    def embed(self, sequences: Sequence[Sequence[int]]) -> Embedded:
        """One forward pass over token ids, in order. Blocks. Raises EngineError, or DeviceLost."""

    def memory_bytes(self) -> int:
        """Memory held now: of the device on CUDA, else resident memory of the process."""
