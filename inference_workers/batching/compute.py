"""Runs arranged batches on a thread of its own, at most one prefetched; an item that fails fails alone."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from inference_workers.batching.directions import directions_of
from inference_workers.batching.planner import Arrangement
from inference_workers.ports import (
    DeviceLost,
    Engine,
    EngineError,
    Head,
    Item,
    NonFiniteOutput,
    OutOfMemory,
    WrongShape,
)
from infra.fingerprints import fingerprint
from infra.ports import Clock

PREFETCHED_MAX = 1
"""Batches arranged while one is computed. More would only grow old."""
MEMORY_SECONDS = 1.0
"""How old the memory that a batch is told with may be: to ask for it takes longer than all else that is told of it."""


@dataclass(frozen=True, slots=True)
class Row:
    """An item's result: a vector or logits (float32 [width]) or `Tokens`; `norm` is a vector's length before
    normalising, `direction` see `directions_of`; both are 0 for the rest."""

    value: Any
    norm: float = 0.0
    direction: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """Why an item could not be computed. Final. `fingerprint` is equal for equal stacks."""

    code: str
    message: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Computed:
    """A batch's results, one an item of the arrangement, and what it took.

    `exhausted_tokens` is the smallest forward pass that ran out of memory, in tokens with padding; None when none did.
    """

    results: tuple[Row | Fault, ...]
    started_ms: int
    compute_ms: float
    tokens_computed: int
    memory_bytes: int
    exhausted_tokens: int | None = None


_Job = tuple[int, Engine, Arrangement]


class Compute(Protocol):
    """Where batches are computed. Called by the loop's thread; nothing blocks."""

    def submit(self, ticket: int, engine: Engine, arrangement: Arrangement) -> None:
        """Compute a batch. Call it only when there is room."""

    def collect(self) -> list[tuple[int, Computed]]:
        """What is done since last asked, by ticket. Raises what ended the computing for good."""

    def under_way(self) -> int:
        """Batches submitted and not collected."""


class MemoryLooks:
    """Engines' memory, each asked once in `MEMORY_SECONDS`. Used by one thread."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._found: dict[int, int] = {}  # by id(): forgotten so soon that an engine unloaded meanwhile does not matter
        self._due = 0.0

    def memory_of(self, engine: Engine) -> int:
        """See `Engine.memory_bytes`."""
        now = self._clock.monotonic()
        if now >= self._due:
            self._found.clear()
            self._due = now + MEMORY_SECONDS
        found = self._found.get(id(engine))
        if found is None:
            found = self._found[id(engine)] = engine.memory_bytes()
        return found


class ComputeThread:
    """A `Compute` on one thread of this process."""

    def __init__(self, clock: Clock, *, delay: Callable[[], None] = lambda: None) -> None:
        """`delay` is called before each batch: a drill makes it wait."""
        self._clock, self._delay, self._memory = clock, delay, MemoryLooks(clock)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[int, Computed] | BaseException] = queue.SimpleQueue()
        self._under_way = 0
        self._something_done = threading.Event()
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._thread.start()

    def submit(self, ticket: int, engine: Engine, arrangement: Arrangement) -> None:
        """See `Compute.submit`."""
        self._under_way += 1
        self._jobs.put((ticket, engine, arrangement))

    def collect(self) -> list[tuple[int, Computed]]:
        """See `Compute.collect`."""
        self._something_done.clear()
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

    def wait(self, seconds: float) -> None:
        """Wait so long, or until something is done that was not collected."""
        self._something_done.wait(seconds)

    def close(self) -> None:
        """Compute nothing more after what was submitted."""
        self._jobs.put(None)

    def _run(self) -> None:
        try:
            while (job := self._jobs.get()) is not None:
                ticket, engine, arrangement = job
                computed = compute(engine, self._clock, arrangement, self._delay, self._memory)
                self._done.put((ticket, computed))
                self._something_done.set()
                del job, engine, arrangement, computed  # an idle thread shall not keep a retired model alive
        except BaseException as error:  # handed to the loop's thread, which ends the process
            self._done.put(error)
            self._something_done.set()


def compute(
    engine: Engine,
    clock: Clock,
    arrangement: Arrangement,
    delay: Callable[[], None] = lambda: None,
    memory: MemoryLooks | None = None,
) -> Computed:
    """Compute one batch. A pass that fails is halved until the item that fails is alone. Raises DeviceLost."""
    started_ms, start = clock.now_ms(), clock.monotonic()
    delay()
    run = _Run(engine, arrangement.items)
    for one in arrangement.passes:
        run.attempt(one)
    return Computed(
        tuple(run.results[number] for number in range(len(arrangement.items))),
        started_ms,
        (clock.monotonic() - start) * 1000,
        run.tokens,
        engine.memory_bytes() if memory is None else memory.memory_of(engine),
        run.exhausted_tokens,
    )


@dataclass(slots=True)
class _Run:
    engine: Engine
    items: Sequence[Item]
    results: dict[int, Row | Fault] = field(default_factory=dict)
    tokens: int = 0
    exhausted_tokens: int | None = None

    def attempt(self, numbers: Sequence[int]) -> None:
        """Fill in the results of these items."""
        try:
            found = self._forward(numbers)
        except DeviceLost:
            raise
        except Exception as error:  # whatever an item makes the model do, it is that item's failure and no crash
            fault = fault_of(error)
            if isinstance(error, OutOfMemory):
                tokens = len(numbers) * max(self.items[number].cost for number in numbers)
                self.exhausted_tokens = min(tokens, self.exhausted_tokens or tokens)
        else:
            self.results.update(zip(numbers, found, strict=True))
            return
        # Outside the handler: inside, its traceback would keep the tensors that took the memory.
        if len(numbers) == 1:
            self.results[numbers[0]] = fault
            return
        middle = len(numbers) // 2
        self.attempt(numbers[:middle])
        self.attempt(numbers[middle:])

    def _forward(self, numbers: Sequence[int]) -> list[Row | Fault]:
        forward = self.engine.compute([self.items[number] for number in numbers])
        rows, norms = forward.rows, forward.norms
        if len(rows) != len(numbers) or len(norms) != len(numbers):
            raise WrongShape(f"the model gave {len(rows)} results for {len(numbers)} items")
        self.tokens += forward.tokens_computed
        if not isinstance(rows, np.ndarray):
            return [Row(row) for row in rows]
        if rows.ndim != 2:
            raise WrongShape(f"the model gave an array of {rows.ndim} dimensions")
        finite = np.isfinite(rows).all(axis=1) & np.isfinite(norms)
        all_finite, ways = bool(finite.all()), [0] * len(rows)
        if self.engine.head is Head.VECTORS:
            ways = directions_of(rows if all_finite else np.where(finite[:, None], rows, 0.0))
        if all_finite:
            return [Row(*one) for one in zip(rows, norms.tolist(), ways, strict=True)]
        bad = fault_of(NonFiniteOutput("the model gave NaN or infinity"))
        each = zip(rows, norms.tolist(), ways, finite.tolist(), strict=True)
        return [Row(row, norm, way) if good else bad for row, norm, way, good in each]


def fault_of(error: Exception) -> Fault:
    """A failure as data: its code, its words, and the fingerprint of its stack."""
    code = error.code if isinstance(error, EngineError) else type(error).__name__
    message = str(error).encode("utf-8", "replace").decode()[:2_000]
    return Fault(code[:200], message, fingerprint(error))
