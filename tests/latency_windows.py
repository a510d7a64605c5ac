"""Windows of a made-up service of which it is known what latency is made of, as the sums that partitions send."""

from dataclasses import dataclass, replace

import numpy as np

from stream_jobs.attribution.factors import vectors_of
from stream_jobs.attribution.window_sums import WindowSums

MS_PER = {"queue": 1.0, "tokens": 0.2, "padding": 0.1, "batch_size": 0.5, "cache": -30.0, "memory": 0.0}
"""The truth, by factor."""


@dataclass(frozen=True)
class Work:
    """Requests of one window, a worker. Means; latencies in milliseconds. `slower` is by worker."""

    requests: int = 150
    queue: float = 20.0
    tokens: float = 100.0
    size: int = 32
    cached: float = 0.5
    slow: float = 0.0
    memory: float = 1e9
    workers: tuple = ("a", "b")
    slower: tuple = ()

    def columns(self, rng, worker):
        n = self.requests
        tokens = rng.uniform(0.5, 1.5, n) * self.tokens // 1
        columns = {
            "queue_ms": np.round(rng.exponential(self.queue, n), 3),
            "batch_tokens": tokens,
            "batch_padded_tokens": tokens + rng.integers(0, 50, n),
            "batch_size": rng.integers(1, self.size, n).astype(float),
            "cached": (rng.random(n) < self.cached).astype(float),
            "memory_bytes": np.full(n, self.memory),
        }
        padding = columns["batch_padded_tokens"] - tokens
        total = 40.0 + columns["queue_ms"] + 0.2 * tokens + 0.1 * padding + 0.5 * columns["batch_size"]
        total += -30.0 * columns["cached"] + rng.normal(0, 1, n) + self.slow + dict(self.slower).get(worker, 0.0)
        return {"total_ms": np.maximum(total, 0.0), **columns}

    def sums(self, rng):
        found = WindowSums()
        for worker in self.workers:
            add(found, worker, vectors_of(**self.columns(rng, worker)))
        return found.cut([0])[0]


def add(sums, worker, vectors, slot=0):
    n = vectors.shape[1]
    sums.add(np.array([slot]), np.zeros(n, dtype=np.int64), worker, vectors, np.ones(n, dtype=bool))


def learnt(model, rng, windows=60, work=None, since=0, **changes):
    """Let the model learn windows; returns the time of the last."""
    work = replace(work or Work(), **changes)
    for number in range(windows):
        model.explain_then_learn(work.sums(rng), since + (number + 1) * 10_000)
    return since + windows * 10_000
