"""A job for a process that only embeds: the bare loop or a peer. Handed over on standard input, answered as JSON."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.worker_process import failed

SECONDS_MAX = 1_800.0
PROBED = 8
"""Vectors of the first texts come back, so that one sees that all computed the same."""
BATCHES = {"cpu": (32, 64, 128), "cuda": (128, 512, 2_048)}
SAMPLE = 1_000


@dataclass(frozen=True, slots=True)
class EmbeddingJob:
    """What all of them get: model, number type and threads, the batch sizes to choose from, and the texts."""

    model: str
    device: str
    dtype: str
    threads: int
    batches: tuple[int, ...]
    sample: Sequence[str]
    texts: Sequence[str]
    probe: int = PROBED


@dataclass(frozen=True, slots=True)
class EmbeddingResult:
    """What one found. `version` is the peer's, empty for our own; `facts` is whatever else it says."""

    per_second: float
    cpu_us_per_request: float
    batch: int
    probe: list[list[float]]
    version: str
    facts: Mapping[str, Any]


def run_job(command: Sequence[str], job: EmbeddingJob) -> EmbeddingResult:
    """Run it in a process of its own. Raises ClickException with its last words when it fails."""
    environment = os.environ | {
        # All get as many threads as the model does, the tokenisers and BLAS too.
        "TOKENIZERS_PARALLELISM": "false" if job.threads == 1 else "true",
        "RAYON_NUM_THREADS": str(job.threads),
        "OMP_NUM_THREADS": str(job.threads),
        "MKL_NUM_THREADS": str(job.threads),
        "HF_HUB_OFFLINE": "1",
        "DO_NOT_TRACK": "1",
    }
    try:
        done = subprocess.run(
            command,
            input=json.dumps(asdict(job)),
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS_MAX,
            check=False,
        )
        found = json.loads(done.stdout.splitlines()[-1])
        return EmbeddingResult(
            float(found.pop("per_second")),
            float(found.pop("cpu_us_per_request")),
            int(found.pop("batch")),
            found.pop("probe"),
            str(found.pop("version", "")),
            found,
        )
    except subprocess.TimeoutExpired:
        raise failed(f"{command[-1]}: no end after {SECONDS_MAX:.0f} s") from None
    except (ValueError, KeyError, IndexError):
        raise failed(f"{command[-1]}: exit code {done.returncode}: {done.stderr[-2_000:]}") from None


def least_cosine(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """The smallest cosine between vectors of the same texts: near 1 when both computed the same."""
    a, b = np.asarray(ours), np.asarray(theirs)
    return float(np.min(np.sum(a * b, axis=1) / (np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1))))
