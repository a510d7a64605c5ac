"""Run in an environment of its own, by `peers`: how fast sentence-transformers' `encode` embeds texts.

A job as JSON on standard input, the result as the last line of standard output. Nothing of inferwatch is imported.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any

TRIES = 2
"""Passes over the sample for each batch size; the faster one counts, for a busy machine only ever slows."""


def main() -> None:
    """Choose the fastest of the batch sizes on the sample, then embed all texts once; `encode` sorts by length."""
    job = json.load(sys.stdin)
    # Imported by name: these packages are in this environment and not in the project's.
    torch: Any = importlib.import_module("torch")
    library: Any = importlib.import_module("sentence_transformers")
    torch.set_num_threads(job["threads"])
    model = library.SentenceTransformer(
        job["model"],
        device=job["device"],
        local_files_only=True,
        trust_remote_code=False,
        model_kwargs={"dtype": getattr(torch, job["dtype"])},
    )

    def encode(texts: list[str], batch: int) -> tuple[float, float, Any]:
        began, cpu = time.perf_counter(), time.process_time()
        vectors = model.encode(texts, batch_size=batch, convert_to_numpy=True, show_progress_bar=False)
        return time.perf_counter() - began, time.process_time() - cpu, vectors

    encode(job["sample"], job["batches"][0])  # the first passes build kernels
    seconds = {batch: min(encode(job["sample"], batch)[0] for _ in range(TRIES)) for batch in job["batches"]}
    batch = min(seconds, key=lambda one: seconds[one])
    took, cpu, vectors = encode(job["texts"], batch)
    result = {
        "per_second": len(job["texts"]) / took,
        "cpu_us_per_request": 1e6 * cpu / len(job["texts"]),
        "batch": batch,
        "version": library.__version__,
        "probe": [[float(x) for x in vector] for vector in vectors[: job["probe"]]],
    }
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
