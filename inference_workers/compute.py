"""Runs planned batches on a thread of its own, at most one prefetched; a failing request fails alone."""

from __future__ import annotations

import hashlib
import queue
import threading
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inference_workers.batching import BatchPlan, passes_of
from inference_workers.ports import DeviceLost, Engine, EngineError, Vectors
from infra.ports import Clock

PREFETCHED_MAX = 1
"""Batches planned while one is computed. More would only grow old."""
_Job = tuple[int, BatchPlan, Sequence[Sequence[Sequence[int]]]]


@dataclass(frozen=True, slots=True)
class Vector:
    """A request's result: `vectors` [inputs, dimension] and the mean of their lengths before normalising."""

    vectors: Vectors
    norm: float


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a request could not be computed. Final. `fingerprint` is equal for equal stacks."""

    code: str
    message: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Computed:
    """A batch's results, one a member in the plan's order, and what it took."""

    results: tuple[Vector | Fault, ...]
    started_ms: int
    compute_ms: float
    tokens_computed: int
    memory_bytes: int


class Compute(Protocol):
    """Where batches are computed. Called by the loop's thread; nothing blocks."""

    def submit(self, ticket: int, plan: BatchPlan, sequences: Sequence[Sequence[Sequence[int]]]) -> None:
        """Compute a batch: token ids by member and input. Call it only when there is room."""

    def collect(self) -> list[tuple[int, Computed]]:
        """What is done since last asked, by ticket. Raises what ended the computing for good."""

    def under_way(self) -> int:
        """Batches submitted and not collected."""


class ComputeThread:
    """A `Compute` on one thread of this process."""

    def __init__(
        self, engine: Engine, clock: Clock, tokens_max: int, *, delay: Callable[[], None] = lambda: None
    ) -> None:
        """`delay` is called before each batch: a drill makes it wait."""
        self._engine, self._clock, self._tokens_max, self._delay = engine, clock, tokens_max, delay
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Computed] | BaseException] = queue.SimpleQueue()
        self._under_way = 0
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._thread.start()

    def submit(self, ticket: int, plan: BatchPlan, sequences: Sequence[Sequence[Sequence[int]]]) -> None:
        """See `Compute.submit`."""
        self._under_way += 1
        self._jobs.put((ticket, plan, sequences))

    def collect(self) -> list[tuple[int, Computed]]:
        """See `Compute.collect`."""
        found = []
        while not self._done.empty():
            one = self._done.get()
            if isinstance(one, BaseException):
                raise one
            self._under_way -= 1
            found.append(one)
        return found

    def under_way(self) -> int:
        """See `Compute.under_way`."""
        return self._under_way

    def close(self) -> None:
        """Compute nothing more after what was submitted."""
        self._jobs.put(None)

    def _run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                ticket, plan, sequences = job
                done = compute(self._engine, self._clock, self._tokens_max, plan, sequences, self._delay)
                self._done.put((ticket, done))
        except BaseException as error:  # handed to the loop's thread, which ends the process
            self._done.put(error)


def compute(
    engine: Engine,
    clock: Clock,
    tokens_max: int,
    plan: BatchPlan,
    sequences: Sequence[Sequence[Sequence[int]]],
    delay: Callable[[], None] = lambda: None,
) -> Computed:
    """Compute one batch. A batch that fails is halved until the request that fails is alone. Raises DeviceLost."""
    started_ms, start = clock.now_ms(), clock.monotonic()
    delay()
    results: list[Vector | Fault | None] = [None] * len(sequences)
    tokens = _attempt(engine, tokens_max, plan.passes, list(range(len(sequences))), sequences, results)
    return Computed(
        tuple(one for one in results if one is not None),
        started_ms,
        (clock.monotonic() - start) * 1000,
        tokens,
        engine.memory_bytes(),
    )


def _attempt(
    engine: Engine,
    tokens_max: int,
    passes: Sequence[Sequence[tuple[int, int]]],
    members: Sequence[int],
    sequences: Sequence[Sequence[Sequence[int]]],
    results: list[Vector | Fault | None],
) -> int:
    """Fill in the results of `members` (numbers in `sequences`); passes name positions in `members`. Returns tokens."""
    rows: dict[tuple[int, int], tuple[Vectors, float]] = {}
    tokens = 0
    try:
        for one in passes:
            embedded = engine.embed([sequences[members[position]][i] for position, i in one])
            tokens += embedded.tokens_computed
            rows.update(zip(one, zip(embedded.vectors, embedded.norms.tolist(), strict=True), strict=True))
    except DeviceLost:
        raise
    except Exception as error:  # whatever an input makes the model do, it is that request's failure and no crash
        fault = _fault_of(error)
    else:
        for position, member in enumerate(members):
            found = [rows[position, i] for i in range(len(sequences[member]))]
            norm = sum(norm for _, norm in found) / len(found)
            results[member] = Vector(np.stack([vector for vector, _ in found]), norm)
        return tokens
    if len(members) == 1:
        results[members[0]] = fault
        return tokens
    middle = len(members) // 2
    for half in (members[:middle], members[middle:]):
        again = passes_of([tuple(map(len, sequences[member])) for member in half], tokens_max)
        tokens += _attempt(engine, tokens_max, again, half, sequences, results)
    return tokens


def _fault_of(error: Exception) -> Fault:
    code = error.code if isinstance(error, EngineError) else type(error).__name__
    frames = [
        f"{frame.name}@{frame.filename.rpartition('/')[2]}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    stack = "|".join([*frames, type(error).__name__])
    message = str(error).encode("utf-8", "replace").decode()[:2_000]
    return Fault(code[:200], message, hashlib.sha256(stack.encode()).hexdigest()[:16])
