"""The bare loop that the worker is compared with: the same engine over length-sorted batches, no Kafka.

`python -m benchmarks.bare_engine` reads a job as JSON from standard input and writes the result as the last line of
standard output: a process of its own, as the worker is one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from benchmarks.our_engine import OurEngine, open_engine
from benchmarks.worker_process import ServedModel

TRIES = 2
"""Passes over the sample for each batch size; the faster one counts, for a busy machine only ever slows."""


@dataclass(frozen=True, slots=True)
class Embedded:
    """One pass over all texts, in their order."""

    seconds: float
    cpu_seconds: float
    vectors: list[NDArray[Any]]


def embed_sorted(engine: OurEngine, texts: Sequence[str], batch: int) -> Embedded:
    """Tokenise all, sort by length, compute in batches, keep the arrays: nothing else is done for a request."""
    began, cpu = time.perf_counter(), time.process_time()
    sequences = engine.tokenise(texts)
    order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
    vectors: list[Any] = [None] * len(sequences)
    for start in range(0, len(order), batch):
        members = order[start : start + batch]
        for member, vector in zip(members, engine.embed([sequences[i] for i in members]), strict=True):
            vectors[member] = vector
    return Embedded(time.perf_counter() - began, time.process_time() - cpu, vectors)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Choose the fastest of the batch sizes on the sample, then embed all texts once."""
    engine = open_engine(ServedModel(job["model"], "bare", job["dtype"], job["threads"]))
    embed_sorted(engine, job["sample"], job["batches"][0])  # the first passes build kernels
    seconds = {
        batch: min(embed_sorted(engine, job["sample"], batch).seconds for _ in range(TRIES)) for batch in job["batches"]
    }
    batch = min(seconds, key=lambda one: seconds[one])
    done = embed_sorted(engine, job["texts"], batch)
    return {
        "per_second": len(job["texts"]) / done.seconds,
        "cpu_us_per_request": 1e6 * done.cpu_seconds / len(job["texts"]),
        "batch": batch,
        "device": engine.device,
        "dtype": engine.dtype,
        "description": engine.description,
        "probe": [[float(x) for x in vector] for vector in done.vectors[: job["probe"]]],
    }


if __name__ == "__main__":
    print(json.dumps(run(json.load(sys.stdin))), flush=True)
