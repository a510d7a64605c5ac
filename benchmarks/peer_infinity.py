"""Run in an environment of its own, by `peers`: how fast infinity-emb's engine embeds texts.

A job as JSON on standard input, the result as the last line of standard output. Nothing of inferwatch is imported.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
import time
from importlib.metadata import version
from typing import Any

TRIES = 2
"""Passes over the sample for each batch size; the faster one counts, for a busy machine only ever slows."""


def engine_for(job: dict[str, Any], batch: int, library: Any) -> Any:
    """An engine of that batch size; infinity sorts what waits by length itself."""
    arguments = library.EngineArgs(
        model_name_or_path=job["model"],
        engine="torch",
        device=job["device"],
        dtype=job["dtype"],
        batch_size=batch,
        trust_remote_code=False,
        model_warmup=False,
        compile=False,
        bettertransformer=False,  # gone from the torch of today
    )
    return library.AsyncEmbeddingEngine.from_args(arguments)


async def timed(engine: Any, texts: list[str]) -> float:
    """Seconds for these texts."""
    began = time.perf_counter()
    await engine.embed(sentences=texts)
    return time.perf_counter() - began


async def run(job: dict[str, Any], library: Any) -> dict[str, Any]:
    """Choose the fastest of the batch sizes on the sample, then embed all texts once."""
    seconds = {}
    for batch in job["batches"]:
        engine = engine_for(job, batch, library)
        async with engine:
            await engine.embed(sentences=job["sample"])  # the first passes build kernels
            seconds[batch] = min([await timed(engine, job["sample"]) for _ in range(TRIES)])
    batch = min(seconds, key=lambda one: seconds[one])
    engine = engine_for(job, batch, library)
    async with engine:
        await engine.embed(sentences=job["sample"])
        began, cpu = time.perf_counter(), time.process_time()
        vectors, _ = await engine.embed(sentences=job["texts"])
        took, cpu = time.perf_counter() - began, time.process_time() - cpu
    return {
        "per_second": len(job["texts"]) / took,
        "cpu_us_per_request": 1e6 * cpu / len(job["texts"]),
        "batch": batch,
        "version": version("infinity-emb"),
        "probe": [[float(x) for x in vector] for vector in vectors[: job["probe"]]],
    }


def main() -> None:
    """Read the job, run it, print the result."""
    job = json.load(sys.stdin)
    # Imported by name: these packages are in this environment and not in the project's.
    torch: Any = importlib.import_module("torch")
    library: Any = importlib.import_module("infinity_emb")
    torch.set_num_threads(job["threads"])
    print(json.dumps(asyncio.run(run(job, library))), flush=True)


if __name__ == "__main__":
    main()
